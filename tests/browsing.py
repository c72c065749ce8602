"""A visit to a page in a real browser."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect, sync_playwright

__all__ = ["Visit", "chromium"]

MILLISECONDS = 300_000
"""Far beyond what a page takes, however busy the machine."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@contextmanager
def chromium() -> Iterator[Any]:
    """Chromium with a camera that shows a test picture; skips the test where it is not installed."""
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    arguments = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=arguments, timeout=MILLISECONDS)
        expect.set_options(timeout=MILLISECONDS)
        yield browser
        browser.close()


class Visit:
    """A page, what it asked for, and what went wrong."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.context.set_default_timeout(MILLISECONDS)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.goto(url)

    @property
    def hosts(self) -> set[str]:
        """Hosts that were asked; blobs have none."""
        return {urlsplit(url).netloc for url in self.requests}

    def add(self, **files: bytes) -> None:
        """Chooses pictures."""
        sent = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files.items()]
        self.page.set_input_files("#files", sent)

    def wait_for(self, count: int) -> None:
        """Waits until so many pictures are done."""
        self.page.get_by_text("1 picture" if count == 1 else f"{count} pictures", exact=True).wait_for()

    def card(self, name: str) -> Any:
        """The part of the page about the picture of this name."""
        return self.page.locator(".card").filter(has=self.page.get_by_role("heading", name=name, exact=True))

    def slide(self, card: Any, layer: int) -> None:
        """Moves the slider of layers by keyboard."""
        slider = card.get_by_role("slider")
        slider.focus()
        self.page.keyboard.press("Home")
        for _ in range(layer - 1):
            self.page.keyboard.press("ArrowRight")

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")
