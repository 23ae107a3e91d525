"""The page in headless Chromium: pointer, keyboard, phone, token, and nothing that its policy forbids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
PORTRAIT = Path(__file__).parents[2] / "examples" / "portrait.jpg"
TOKEN = "a-token-of-more-than-16-letters"


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """Chromium of this machine, or playwright's own. `.ci/run` fetches one; elsewhere none is no failure."""
    from playwright.sync_api import Error, sync_playwright

    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        try:
            found = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            message = f"no Chromium (apt-get install chromium, or playwright install chromium): {error}"
            if os.environ.get("CI"):
                pytest.fail(message)
            pytest.skip(message)
        yield found
        found.close()


def start(*words: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "unseen", "serve", "--port", "0", "--workers", "1", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "UNSEEN_TOKEN": ""},
    )
    assert process.stdout is not None
    found = re.search(r"http://\S+", process.stdout.readline())
    assert found is not None
    return process, found[0]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    process, url = start()
    yield url
    process.terminate()
    assert process.wait(30) == 0


@pytest.fixture
def page(browser, address) -> Iterator[object]:
    """The page, loaded; any word on its console, such as a broken policy, fails the test."""
    yield from opened(browser, address)


def opened(browser, address, **context: object) -> Iterator[object]:
    words: list[str] = []
    page = browser.new_page(**context)
    page.on("console", lambda message: words.append(message.text))
    page.on("pageerror", lambda error: words.append(str(error)))
    page.on("request", lambda request: words.append(request.url) if foreign(request.url, address) else None)
    page.goto(address)
    page.wait_for_selector("#version:not(:empty)")
    yield page
    page.close()
    # A refusal that a test provokes is told by the browser too, and is no fault of the page.
    assert [word for word in words if "the server responded with a status of 401" not in word] == []


def foreign(url: str, address: str) -> bool:
    return not url.startswith((address, "blob:" + address, "data:", "about:"))


def until(page, condition: str, seconds: float = 60) -> None:
    """Wait for an expression; playwright's own waiting evaluates it in the page, which its policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, condition
        page.wait_for_timeout(50)


def broken(folder: Path) -> Path:
    path = folder / "broken <i>film.mp4"
    path.write_bytes(b"no film " * 100)
    return path


def test_a_sample_gets_its_verdict_and_report(page) -> None:
    page.set_input_files("#files", [PORTRAIT])
    page.wait_for_selector("iframe", timeout=60_000)
    state = page.inner_text(".item .state")
    assert state in ("No sign of forgery found", "Signs of forgery", "Cannot tell")
    assert re.fullmatch(r"[\d.]+ %", page.inner_text(".number strong"))
    report = page.frame_locator("iframe")
    report.locator(".hero h2").wait_for()
    assert report.locator(".hero h2").inner_text() == state
    # The report has its style and its pictures: the policy lets both through.
    assert report.locator(".hero").evaluate("node => getComputedStyle(node).borderTopLeftRadius") != "0px"
    assert report.locator("img").first.evaluate("async node => (await node.decode(), node.naturalWidth)") > 0
    until(page, "document.querySelector('iframe').clientHeight > 1500")  # as high as its content
    until(page, "document.querySelector('#live').textContent.startsWith('portrait.jpg: ')")
    with page.expect_download() as download:
        page.click(".save")
    assert download.value.suggested_filename == "portrait.jpg.report.html"
    with page.expect_popup() as popup:
        page.click(".open")
    popup.value.wait_for_selector(".hero h2")
    popup.value.close()
    page.click(".remove")
    assert page.locator(".item").count() == 0


def test_a_broken_file_shows_the_reason(page, tmp_path: Path) -> None:
    page.set_input_files("#files", [broken(tmp_path), PORTRAIT])
    page.wait_for_selector(".error-file", timeout=60_000)
    card = page.locator(".error-file")
    assert card.locator(".state").inner_text() == "Not examined"
    assert card.locator(".name").inner_text() == "broken <i>film.mp4"
    assert "broken" in card.locator(".why").inner_text() and page.locator(".item i").count() == 0
    page.wait_for_selector(".item:not(.error-file) .number strong:not(:empty)", timeout=60_000)
    page.click("#clear")
    assert page.locator(".item").count() == 0


def test_dropping_and_a_file_that_is_too_large(page) -> None:
    page.evaluate(
        """() => {
        const bag = new DataTransfer();
        bag.items.add(new File(["nothing"], "dropped.jpg"));
        const large = new File(["x"], "large.mp4");
        Object.defineProperty(large, "size", { value: 9e9 });
        const drop = new DragEvent("drop", { dataTransfer: bag, bubbles: true, cancelable: true });
        document.body.dispatchEvent(drop);
        take([large]);
    }"""
    )
    page.wait_for_selector("text=this server takes 256 MB at most", timeout=60_000)
    page.wait_for_selector("text=dropped.jpg")
    until(page, "document.querySelectorAll('.error-file').length === 2")


def test_the_keyboard_is_enough(page) -> None:
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "files"
    outline = "getComputedStyle(document.querySelector('label.primary')).outlineStyle"
    assert page.evaluate(outline) == "solid", "the focus must be seen"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Space")
    chooser.value.set_files(PORTRAIT)
    page.wait_for_selector("iframe", timeout=60_000)

    def reach(word: str) -> None:
        for _ in range(12):
            page.keyboard.press("Tab")
            if page.evaluate("document.activeElement.className").find(word) >= 0:
                return
        raise AssertionError(f"{word} cannot be reached")

    reach("show")
    page.keyboard.press("Enter")
    assert page.get_attribute(".show", "aria-expanded") == "false" and page.is_hidden(".report")
    page.keyboard.press("Space")
    assert page.is_visible(".report")
    reach("remove")
    page.keyboard.press("Enter")
    assert page.locator(".item").count() == 0
    assert page.evaluate("document.activeElement.id") == "files", "the focus must not get lost"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_scrolls_in_one_direction(browser, address, scheme: str) -> None:
    for page in opened(browser, address, viewport={"width": 360, "height": 700}, color_scheme=scheme):
        page.set_input_files("#files", [PORTRAIT])
        page.wait_for_selector("iframe", timeout=60_000)
        until(page, "document.querySelector('iframe').clientHeight > 1500")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360
        heights = page.locator(".item button:visible, .item a.button:visible").evaluate_all(
            "nodes => nodes.map(node => node.clientHeight)"
        )
        assert len(heights) >= 4 and min(heights) >= 40, "fingers need room"
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 22, 26)"
        assert dark == (scheme == "dark")


def test_a_token_is_asked_for_and_kept_in_memory(browser, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text(TOKEN)
    process, url = start("--token-file", str(secret))
    try:
        for page in opened(browser, url):
            page.wait_for_selector("#ask:not([hidden])")
            page.fill("#token", "wrong")
            page.keyboard.press("Enter")
            page.wait_for_selector("text=This token was not accepted.")
            page.fill("#token", TOKEN)
            page.keyboard.press("Enter")
            page.wait_for_selector("#ask", state="hidden")
            page.set_input_files("#files", [broken(tmp_path)])
            page.wait_for_selector(".error-file .show:not([hidden])", timeout=60_000)
            kept = page.evaluate(
                "[localStorage.length, sessionStorage.length, document.cookie, location.href]"
            )
            assert kept[:3] == [0, 0, ""] and TOKEN not in kept[3]
    finally:
        process.terminate()
        assert process.wait(30) == 0
