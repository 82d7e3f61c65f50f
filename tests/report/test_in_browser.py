"""The page in Chromium, from a file: no complaint in the console, nothing requested, details and sorting work, it fits a phone.

Needs `pip install playwright` and a Chromium or Chrome on the PATH.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from finished_run import EVIL, contents

from genie_onnx.report.page import render

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the PATH")]
PHONE, DESKTOP = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A browser without a window."""
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Any, tmp_path: Path) -> Iterator[Any]:
    """Return a function that opens the page of a run whose names are markup. At the end it must not have complained."""
    file = tmp_path / "report.html"
    file.write_text(render(contents(EVIL)), encoding="utf-8")
    complaints: list[str] = []
    contexts = []

    def opened(viewport: dict[str, int], **settings: Any) -> Any:
        contexts.append(browser.new_context(viewport=viewport, **settings))
        page = contexts[-1].new_page()
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else complaints.append(request.url))
        page.goto(file.as_uri())
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


def test_a_block_opens_its_details_and_escape_closes_them(opened: Any) -> None:
    page = opened(DESKTOP)
    assert not page.is_visible("#details")
    page.click("svg a.block >> nth=0")
    assert page.inner_text("#details h2").replace("\u200b", "") == EVIL
    assert page.locator("#details .histogram rect").count() == 2 * 16  # of its weight, and of the value that it reads
    assert page.locator("#details polyline").count() == 1
    assert "0.02 (channels: 0.01 to 0.03)" in page.inner_text("#details")
    assert page.locator("#details img").count() == 0
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#block-0"


def test_the_keyboard_reaches_the_blocks(opened: Any) -> None:
    page = opened(DESKTOP)
    page.focus("svg a.block >> nth=1")
    page.keyboard.press("Enter")
    assert page.inner_text("#details h2") == "b/Conv"
    page.focus("#details .close")
    page.keyboard.press("Enter")
    assert not page.is_visible("#details")


def test_a_heading_sorts(opened: Any) -> None:
    page = opened(DESKTOP)
    table = page.locator("#comparison table", has_text="Saturated")
    sqnr = table.locator("tbody td:nth-child(3)")
    assert sqnr.all_inner_texts() == ["12.0", "30.0", "9.0"]
    table.get_by_role("button", name="SQNR").click()
    assert sqnr.all_inner_texts() == ["30.0", "12.0", "9.0"]
    table.get_by_role("button", name="SQNR").click()
    assert sqnr.all_inner_texts() == ["9.0", "12.0", "30.0"]
    table.get_by_role("button", name="Value").click()
    assert table.locator("tbody td:nth-child(1)").all_inner_texts() == ["image", "va", "vb"]
    table.locator("tbody a").first.click()
    assert page.inner_text("#details h2") == "image"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone(opened: Any, scheme: str) -> None:
    page = opened(PHONE, color_scheme=scheme, is_mobile=True)
    page.click("#comparison tbody a >> nth=0")
    assert page.is_visible("#details")
    assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
    colours = [page.evaluate(f"getComputedStyle(document.body).{name}") for name in ("backgroundColor", "color")]
    assert (sum(map(int, colours[0][4:-1].split(","))) > sum(map(int, colours[1][4:-1].split(",")))) == (scheme == "light")


def test_on_paper_everything_is_open(opened: Any) -> None:
    page = opened(DESKTOP)
    assert not page.is_visible("text=placement.wbits")
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert page.is_visible("text=placement.wbits")
    assert not page.is_visible("nav")
