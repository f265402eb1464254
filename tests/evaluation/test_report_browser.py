"""The report in a real browser: it fits a phone, follows the colour scheme, loads nothing."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rlrf4rec.evaluation.report import write_report


@pytest.fixture
def page(tmp_path, results, stories, curves) -> Path:
    path = tmp_path / "report.html"
    write_report(path, results, stories, curves)
    return path


def _picture(png: bytes, name: str) -> np.ndarray:
    # For looking at the pages oneself: REPORT_SCREENSHOTS=folder pytest …
    if folder := os.environ.get("REPORT_SCREENSHOTS"):
        (Path(folder) / f"{name}.png").write_bytes(png)
    return np.asarray(Image.open(io.BytesIO(png)).convert("L"), dtype=np.float64)


@pytest.mark.parametrize("width", [320, 390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_and_follows_the_colour_scheme(browser, page, width, dark):
    browser.open(page, width, 844, dark)
    browser.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate("document.documentElement.scrollWidth") <= width
    picture = _picture(browser.screenshot(whole=True), f"{width}-{'dark' if dark else 'light'}")
    assert picture.std() > 5  # not blank
    assert (np.median(picture) < 60) == dark


def test_charts_are_drawn_with_legible_text(browser, page):
    browser.open(page, 390, 844)
    sizes = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img]')].map(s => {"
        " const box = s.getBoundingClientRect();"
        " const text = s.querySelector('text').getBoundingClientRect();"
        " return [box.width, box.height, text.height]; })"
    )
    # One panel a backbone, one a split, margin and accuracy, time.
    assert len(sizes) == 3 + 2 + 2 + 1
    assert all(width > 280 and height > 80 and text > 9 for width, height, text in sizes)


def test_chart_text_stays_inside_its_chart(browser, page):
    browser.open(page, 1280, 900)
    outside = browser.evaluate(
        "[...document.querySelectorAll('svg[role=img] text')].filter(t => {"
        " const box = t.getBoundingClientRect(), svg = t.ownerSVGElement.getBoundingClientRect();"
        " return box.left < svg.left - 1 || box.right > svg.right + 1"
        "     || box.top < svg.top - 1 || box.bottom > svg.bottom + 1; }).map(t => t.textContent)"
    )
    assert outside == []


def test_wide_tables_scroll_inside_their_box(browser, page):
    browser.open(page, 390, 844)
    inner, outer = browser.evaluate(
        "(() => { const box = document.querySelector('#comparisons ~ .scroll');"
        " return [box.scrollWidth, box.clientWidth]; })()"
    )
    assert inner > outer


def test_nothing_is_loaded_but_the_page(browser, page):
    browser.open(page, 390, 844)
    assert {url for url in browser.requests if not url.startswith("data:")} == {page.as_uri()}
