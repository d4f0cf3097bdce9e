"""report.html in a real browser: nothing is fetched, no message is logged, nothing is blank.

Needs Debian's chromium (or another under that name); skipped without one. REPORT_PAGES names
further pages, separated by colons, for example those of a demo run.
"""

from __future__ import annotations

import io
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sign_ensemble.core.run_folder import RunFolder
from sign_ensemble.report.write_report import write_report

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
PAGES = [path for path in os.environ.get("REPORT_PAGES", "").split(":") if path]
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        # its sandbox cannot start for root in a container
        opened = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def drawn_pages(drawn_run: Callable[..., Path], wide_run: Path) -> list[Path]:
    """One run, and two side by side."""
    sizes = {"known": ("known", 60), "a long name of a set": ("far", 20)}
    single = drawn_run("a-run-with-a-name-that-is-longer-than-a-phone-is-wide", 1, sizes)
    runs = [RunFolder(wide_run), RunFolder(single)]
    pages = [wide_run / "browser.html", single / "both.html"]
    write_report(runs[:1], pages[0])
    write_report(runs, pages[1])
    return pages


def contrast(png: bytes) -> float:
    """Difference between a picture's lightest and darkest 0.5 %, 0 to 255."""
    grey = np.asarray(Image.open(io.BytesIO(png)).convert("L"))
    return float(np.quantile(grey, 0.995) - np.quantile(grey, 0.005))


def check(browser: Any, page: Path, width: int, scheme: str) -> int:
    """Open the page as someone would; how many plots it has."""
    context = browser.new_context(viewport={"width": width, "height": 844}, color_scheme=scheme)
    try:
        tab = context.new_page()
        messages: list[str] = []
        requests: list[str] = []
        tab.on("console", lambda message: messages.append(message.text))
        tab.on("pageerror", lambda fault: messages.append(str(fault)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.resolve().as_uri())
        for each in tab.locator("details").all():
            each.evaluate("element => element.open = true")
        assert messages == []
        fetched = [url for url in requests if not url.startswith("data:")]
        assert fetched == [page.resolve().as_uri()]
        assert tab.evaluate("document.documentElement.scrollWidth") <= width
        plots = tab.locator("figure.plot svg").all()
        for plot in plots:
            assert contrast(plot.screenshot()) > 60
        pictures = tab.locator("img")
        loaded = pictures.evaluate_all("all => all.filter(i => i.naturalWidth > 0).length")
        assert loaded == pictures.count()
        paper = tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (paper == "rgb(255, 255, 255)") == (scheme == "light")
        return len(plots)
    finally:
        context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_page_is_complete(browser: Any, drawn_pages: list[Path], width: int, scheme: str) -> None:
    assert check(browser, drawn_pages[0], width, scheme) == 16
    if scheme == "dark":
        assert check(browser, drawn_pages[1], width, scheme) > 25


@pytest.mark.parametrize("page", PAGES)
def test_a_given_page_is_complete(browser: Any, page: str) -> None:
    for width in (390, 1280):
        for scheme in ("light", "dark"):
            assert check(browser, Path(page), width, scheme) > 10
