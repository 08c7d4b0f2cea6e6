"""The report as a browser shows it: nothing is asked of anybody, nothing sticks out on a phone or on paper."""

import dataclasses
import re
import zlib
from pathlib import Path

import pytest

from cohorts.phantom import simulate
from evaluation.policy import Lane
from evaluation.report import PHANTOM, SYNTHETIC, Pictures, draw
from tests.browser import CHROMIUM, Browser
from tests.certified import full, statement

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
PHONE, PAPER = 390, 680  # CSS pixels: a phone; A4 less its margins, at 96 to the inch


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Browser:
    return Browser(tmp_path_factory.mktemp("browser"))


def _pages() -> dict[str, str]:
    frames = simulate.stills(4, seed=1, size=32, style="site-a")
    shown = {
        PHANTOM: Pictures(pixels=frames.pixels, masks=frames.masks),
        SYNTHETIC: Pictures(pixels=frames.pixels[::-1], masks=frames.masks[::-1]),
    }
    whole = full().predicate
    return {
        "release": draw(dataclasses.replace(whole, basis=None), shown),
        "audit": draw(whole, shown),
        "poor": draw(statement(lane=Lane.EMPIRICAL, utility=(), audits=(), findings=()).predicate, {}),
    }


PAGES = _pages() if CHROMIUM else {"release": "", "audit": "", "poor": ""}


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [PHONE, PAPER, 1280])
def test_nothing_sticks_out_at_any_width(browser: Browser, name: str, width: int) -> None:
    found = browser.measure(PAGES[name], width)
    assert (found["width"], found["wide"], found["tiny"], found["images"]) == (width, [], 0, True)
    assert found["text"] > 2000
    assert found["height"] > 900


def test_a_page_that_is_too_wide_would_be_noticed(browser: Browser) -> None:
    found = browser.measure("<!doctype html><body><p style='width:900px;font-size:9px'>x</p></body>", PHONE)
    assert found["width"] > PHONE
    assert (found["wide"], found["tiny"]) == (["P."], 1)


def test_no_request_leaves_the_page(browser: Browser) -> None:
    assert browser.requests(PAGES["release"]) == set()


def test_a_request_would_be_noticed_and_the_page_would_forbid_it(browser: Browser) -> None:
    leak = '<img src="http://pericard.example/leak.png">'
    assert "http://pericard.example/leak.png" in browser.requests(f"<!doctype html><body>{leak}</body>")
    guarded = PAGES["release"].replace("<footer>", f"{leak}<footer>")
    assert browser.requests(guarded) == set()


def test_it_prints_on_pages_of_a4_with_everything_unfolded(browser: Browser) -> None:
    pdf = browser.printed(PAGES["release"])
    boxes = {tuple(map(float, box)) for box in re.findall(rb"/MediaBox\s*\[([\d.]+) ([\d.]+) ([\d.]+) ([\d.]+)\]", pdf)}
    assert {(round(x), round(y)) for _, _, x, y in boxes} == {(595, 842)}
    pages = len(re.findall(rb"/Type\s*/Page\b", pdf))
    folded = browser.printed(re.sub("details::details-content", "details::nothing", PAGES["release"]))
    assert 5 <= pages <= 20
    assert _drawn(pdf) > 1.05 * _drawn(folded)


def _drawn(pdf: bytes) -> int:
    """Return how much is drawn on the pages: bytes of all streams, unpacked, that show text."""
    streams = re.findall(rb"stream\r?\n(.*?)endstream", pdf, re.DOTALL)
    texts = []
    for stream in streams:
        try:
            texts.append(zlib.decompress(stream))
        except zlib.error:
            continue
    return sum(text.count(b"Tj") + text.count(b"TJ") for text in texts)


def test_the_phone_shows_what_paper_shows(browser: Browser, tmp_path: Path) -> None:
    out = tmp_path / "phone.png"
    page = tmp_path / "page.html"
    page.write_text(PAGES["release"], "utf-8")
    browser(f"--window-size={PHONE},1600", f"--screenshot={out}", page.as_uri())
    assert out.stat().st_size > 20_000
