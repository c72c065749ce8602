"""The page in a real browser."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import sync_playwright

from models import small_model
from serve.client import image_file
from serve.running import Running, running
from vitral.weights.folder import save_model

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
MARKUP = "<script>document.title = 'broken in'</script>"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if executable is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    model = small_model()
    assert model.card is not None
    save_model(folder / "tiny", model, replace(model.card, classes=("cat", MARKUP, "dog")))
    (folder / "token").write_text("secret")
    with running(folder, "tiny", "--token-file", "token") as service:
        yield service


class Visit:
    """A page, what it asked for, and what went wrong."""

    def __init__(self, browser: Any, url: str, **context: Any) -> None:
        self.context = browser.new_context(**context)
        self.page = self.context.new_page()
        self.hosts: set[str] = set()
        self.errors: list[str] = []
        self.page.on("request", lambda request: self.hosts.add(urlsplit(request.url).netloc))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        self.page.goto(url)

    def add(self, **files: bytes) -> None:
        """Chooses pictures."""
        sent = [{"name": name, "mimeType": "image/png", "buffer": content} for name, content in files.items()]
        self.page.set_input_files("#files", sent)

    def overflow(self) -> int:
        """Pixels that the page is wider than the window."""
        return self.page.evaluate("document.documentElement.scrollWidth - innerWidth")


def sign_in(visit: Visit) -> None:
    visit.page.get_by_label("This service asks for a token").fill("secret")
    visit.page.keyboard.press("Enter")
    visit.page.locator("#token-form").wait_for(state="hidden")
    # the browser reports the 401 that led here
    assert visit.errors == [error for error in visit.errors if "401" in error]
    visit.errors.clear()


def test_a_visit_on_a_phone(browser: Any, service: Running) -> None:
    visit = Visit(browser, service.url, viewport={"width": 390, "height": 844}, color_scheme="light")
    page = visit.page
    sign_in(visit)
    visit.add(**{f"{MARKUP}.png": image_file(), "broken.png": image_file()[:100], "second.png": image_file(1)})
    page.get_by_text("3 pictures", exact=True).wait_for()
    cards = page.locator(".card")
    assert cards.count() == 3
    assert cards.nth(0).locator("h2").inner_text() == f"{MARKUP}.png"
    assert cards.nth(0).locator(".classes li").count() == 3
    assert MARKUP in cards.nth(0).locator(".classes").inner_text()
    assert "broken.png" in cards.nth(1).locator(".error").inner_text()
    expected = httpx.post(
        f"{service.url}/v1/predict", files={"image": image_file()}, headers={"Authorization": "Bearer secret"}
    ).json()["images"][0]["classes"][0]
    first = cards.nth(0).locator(".classes li").first
    assert first.locator("span").nth(1).inner_text() == f"{100 * expected['probability']:.1f} %"
    assert first.locator(".fill").evaluate("bar => parseFloat(bar.style.width)") == pytest.approx(
        100 * expected["probability"], abs=0.01
    )
    assert visit.overflow() <= 0
    assert visit.hosts == {urlsplit(service.url).netloc, ""}  # blobs have no host
    # the refusal of the broken picture
    assert [error for error in visit.errors if "400" not in error and "415" not in error] == []
    assert "broken in" not in page.title()
    visit.context.close()


def test_attention_and_order_by_keyboard_in_the_dark(browser: Any, service: Running) -> None:
    visit = Visit(browser, service.url, viewport={"width": 1200, "height": 844}, color_scheme="dark")
    page = visit.page
    sign_in(visit)
    visit.add(**{f"{seed}.png": image_file(seed) for seed in range(4)})
    page.get_by_text("4 pictures", exact=True).wait_for()
    image, button = page.locator(".card img").first, page.locator(".card button").first
    before = image.get_attribute("src")
    button.focus()
    page.keyboard.press("Enter")
    page.wait_for_function("before => document.querySelector('.card img').src !== before", arg=before)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.textContent") == "Show attention"
    page.keyboard.press("Enter")
    assert image.get_attribute("src") == before
    page.get_by_label("Order").select_option("certain")
    percent = page.locator(".classes li:first-child .percent").all_inner_texts()
    assert percent == sorted(percent, key=lambda text: -float(text.split()[0]))
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])")
    assert red < 60
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".card").count() == 0
    assert visit.errors == []
    visit.context.close()


def test_pictures_are_dropped_and_pasted(browser: Any, service: Running) -> None:
    visit = Visit(browser, service.url)
    sign_in(visit)
    for kind, holder in (("drop", "dataTransfer"), ("paste", "clipboardData")):
        visit.page.evaluate(
            """([kind, holder, bytes]) => {
                const data = new DataTransfer();
                data.items.add(new File([new Uint8Array(bytes)], `${kind}.png`, { type: "image/png" }));
                const init = { bubbles: true, cancelable: true, [holder]: data };
                dispatchEvent(kind === "drop" ? new DragEvent(kind, init) : new ClipboardEvent(kind, init));
            }""",
            [kind, holder, list(image_file())],
        )
    visit.page.get_by_text("2 pictures", exact=True).wait_for()
    assert visit.page.locator(".card h2").all_inner_texts() == ["drop.png", "paste.png"]
    assert visit.errors == []
    visit.context.close()


def test_the_interface_is_described_without_another_host(browser: Any, service: Running) -> None:
    visit = Visit(browser, f"{service.url}/docs", viewport={"width": 390, "height": 844})
    text = visit.page.locator("main").inner_text()
    for path in httpx.get(f"{service.url}/openapi.json").json()["paths"]:
        assert path in text
    assert visit.hosts == {urlsplit(service.url).netloc}
    assert visit.errors == []
    assert visit.overflow() <= 0
    visit.context.close()
