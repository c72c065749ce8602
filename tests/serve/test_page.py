"""The page in a real browser."""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import expect

from browsing import Visit, chromium
from models import small_model
from serve.client import image_file
from serve.running import Running, running
from vitral.weights.folder import save_model

MARKUP = "<script>document.title = 'broken in'</script>"

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("service")
    model = small_model()
    assert model.card is not None
    save_model(folder / "tiny", model, replace(model.card, classes=("cat", MARKUP, "dog")))
    (folder / "token").write_text("secret")
    with running(folder, "tiny", "--token-file", "token") as service:
        yield service


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
    visit.wait_for(3)
    first, broken = visit.card(f"{MARKUP}.png"), visit.card("broken.png")
    assert page.locator(".card").count() == 3
    assert first.locator(".classes li").count() == 3
    assert MARKUP in first.locator(".classes").inner_text()
    assert "broken.png" in broken.locator(".error").inner_text()
    assert page.locator(".card").last.locator(".error").count() == 1  # what is not classified comes last
    expected = httpx.post(
        f"{service.url}/v1/predict", files={"image": image_file()}, headers={"Authorization": "Bearer secret"}
    ).json()["images"][0]["classes"][0]
    row = first.locator(".classes li").first
    assert row.locator("span").nth(1).inner_text() == f"{100 * expected['probability']:.1f} %"
    assert row.locator(".fill").evaluate("bar => parseFloat(bar.style.width)") == pytest.approx(
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
    visit.wait_for(4)
    percent = page.locator(".classes li:first-child .percent")
    assert percent.all_inner_texts() == sorted(percent.all_inner_texts(), key=lambda text: -float(text.split()[0]))
    image, button = page.locator(".card img").first, page.locator(".card button").first
    before = image.get_attribute("src")
    assert before is not None
    button.focus()
    page.keyboard.press("Enter")
    expect(image).not_to_have_attribute("src", before)
    assert button.get_attribute("aria-pressed") == "true"
    assert page.evaluate("document.activeElement.textContent") == "Show attention"
    page.keyboard.press("Enter")
    assert image.get_attribute("src") == before
    page.get_by_label("Order").select_option("least confident first")
    assert percent.all_inner_texts() == sorted(percent.all_inner_texts(), key=lambda text: float(text.split()[0]))
    page.get_by_label("Order").select_option("as added")
    assert page.locator(".card h2").all_inner_texts() == ["0.png", "1.png", "2.png", "3.png"]
    assert page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    red = page.evaluate("parseInt(getComputedStyle(document.body).backgroundColor.match(/[0-9]+/)[0])")
    assert red < 60
    page.get_by_role("button", name="Clear").click()
    assert page.locator(".card").count() == 0
    assert visit.errors == []
    visit.context.close()


def test_a_slider_goes_through_the_layers(browser: Any, service: Running) -> None:
    visit = Visit(browser, service.url)
    sign_in(visit)
    visit.add(**{"a.png": image_file()})
    visit.wait_for(1)
    card = visit.card("a.png")
    card.get_by_role("button").click()
    slider, image = card.get_by_role("slider", name="Layers 1 to 2 of 2"), card.locator("img")
    expect(image).to_have_attribute("alt", re.compile("does not look"))
    whole = image.get_attribute("src")
    assert whole is not None
    slider.focus()
    visit.page.keyboard.press("ArrowLeft")
    assert card.get_by_role("slider", name="Layer 1 of 2").get_attribute("aria-valuetext") == "Layer 1 of 2"
    expect(image).not_to_have_attribute("src", whole)
    assert any(url.endswith("layer=1") for url in visit.requests)
    visit.page.keyboard.press("ArrowRight")
    expect(image).to_have_attribute("src", whole)  # it was drawn before
    assert visit.errors == []
    visit.context.close()


def test_a_computer_takes_a_photograph(browser: Any, service: Running) -> None:
    visit = Visit(browser, service.url)
    sign_in(visit)
    shoot = visit.page.get_by_role("button", name="Take a photograph")
    shoot.click()
    visit.page.get_by_role("button", name="Cancel").click()
    assert visit.page.locator(".card").count() == 0
    shoot.click()
    expect(visit.page.locator("#viewfinder")).to_have_js_property("readyState", 4)
    visit.page.get_by_role("button", name="Take the photograph").click()
    visit.wait_for(1)
    assert visit.page.locator(".card h2").inner_text().startswith("photograph ")
    assert visit.page.locator(".classes li").count() == 3
    visit.context.close()


@pytest.mark.parametrize("path", ["/", "/docs"])
def test_a_page_runs_its_own_scripts_only(path: str, service: Running) -> None:
    policy = httpx.get(f"{service.url}{path}").headers["content-security-policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


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
    visit.wait_for(2)
    assert sorted(visit.page.locator(".card h2").all_inner_texts()) == ["drop.png", "paste.png"]
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
