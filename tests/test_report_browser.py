"""The report in a real headless Chromium; skipped where there is none."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser
from small_run import small_run

from icl_align.explain import explain
from icl_align.ledger import Ledger, response_key, sqlite_url
from icl_align.prompt import FORMATS, Prompt
from icl_align.prove import prove
from icl_align.report import write_report
from icl_align.report.collect import Collected, collect
from icl_align.report.grid import Column, make_grid, rows_of
from icl_align.report.page import rendered
from icl_align.types import Example, Response, Score

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="needs Chromium: apt-get install chromium (.ci/run does)"
)
WIDTHS = (1280, 375)
TABBABLE = """[...document.querySelectorAll('a[href], button, input, select, summary, [tabindex="0"]')]
  .filter((e) => e.tabIndex >= 0 && !e.disabled && e.checkVisibility() && !e.closest('dialog'))"""
CELL = "document.activeElement"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a small run with hostile texts."""
    folder = tmp_path_factory.mktemp("page")
    run = small_run(folder, dev=60)
    prove(run)
    explain(run, budget=600)
    write_report(run, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """One browser for all tests."""
    with Browser(tmp_path_factory.mktemp("profile")) as made:
        yield made


@pytest.mark.parametrize("width", WIDTHS)
def test_it_loads_in_silence_and_fits(
    browser: Browser, page: Path, width: int, tmp_path: Path
) -> None:
    """No complaint, no request but itself, nothing hostile ran, and no sideways scrolling of the page."""
    browser.open(page, width)
    assert browser.complaints == []
    assert browser.requests == [page.resolve().as_uri()]
    assert browser.run("window.hacked === undefined")
    browser.run("document.querySelectorAll('details').forEach((one) => { one.open = true; })")
    over = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(over) <= 0
    browser.screenshot(tmp_path / "page.png", whole=True)
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_figures_follow_the_dark_theme(browser: Browser, page: Path) -> None:
    """The ink of page and figures is light on dark where that is wished."""
    colours = []
    for wished in ("light", "dark"):
        features = [{"name": "prefers-color-scheme", "value": wished}]
        browser.call("Emulation.setEmulatedMedia", features=features)
        browser.open(page, 1280)
        ink = browser.run("getComputedStyle(document.querySelector('figure svg text')).fill")
        colours.append((ink, browser.run("getComputedStyle(document.body).backgroundColor")))
    browser.call("Emulation.setEmulatedMedia", features=[])
    assert colours[0][0] != colours[1][0]
    assert colours[0][1] != colours[1][1]


def count(browser: Browser) -> int:
    """How many instructions the grid says it shows."""
    return int(browser.run("document.getElementById('count').textContent").split()[0])


def pick(browser: Browser, split: str) -> None:
    """Picks a split; "" for all."""
    browser.run(
        f"(() => {{ const s = document.getElementById('split'); s.value = '{split}';"
        " s.dispatchEvent(new Event('change')); })()"
    )


def search(browser: Browser, text: str, matches: int) -> None:
    """Types into the search field and waits for the count."""
    browser.run(
        "(document.getElementById('find').value = '', document.getElementById('find').focus())"
    )
    browser.type(text)
    browser.until(f"document.getElementById('count').textContent.startsWith('{matches} of')")


def test_search_finds_instructions_and_answers(browser: Browser, page: Path) -> None:
    """Words of an instruction, its id or tags are found; words of answers when asked for."""
    browser.open(page, 1280)
    pick(browser, "")
    assert count(browser) == 90  # 15 test, 15 confirm, 60 dev
    search(browser, "question 17?", 1)
    assert browser.run("document.querySelector('#grid [role=rowheader]').textContent").startswith(
        "dev-17"
    )
    search(browser, "odd", 44)
    search(browser, "no such word", 0)
    search(browser, "u202eabc\\\\x1b"[:9], 90)  # tags have it
    browser.run("document.getElementById('inside').click()")
    browser.until("!document.getElementById('count').textContent.startsWith('opening')")
    search(
        browser, "0.1000", 13
    )  # without exemplars, of the multiples of 7: 9 of dev, 2 of test, 2 that explain asked
    assert browser.complaints == []


def test_splits_are_told_apart(browser: Browser, page: Path) -> None:
    """The proof's instructions come first, with the winner's and the baseline's answers; any split can be picked."""
    browser.open(page, 1280)
    options = browser.run("[...document.getElementById('split').options].map((o) => o.text)")
    assert options == ["all", "test", "confirm", "dev"]
    for split, n in (("dev", 60), ("confirm", 15), ("test", 15), ("", 90)):
        pick(browser, split)
        assert count(browser) == n
    browser.run("document.querySelector('#grid .row:not(.head) .cell').click()")
    browser.until("document.querySelectorAll('#card-body h3').length > 1")
    shown = browser.run("document.getElementById('card').textContent")
    assert "test-0 (test)" in shown
    assert "winner, trial" in shown
    assert "zero-shot, " in shown
    assert browser.complaints == []
    browser.run("document.getElementById('close').click()")


def test_prompts_without_a_score_in_the_split_are_left_out(browser: Browser, page: Path) -> None:
    """At first the proof's split with what it measured; all splits have all prompts; a sort by one that goes ends."""
    heads = "document.querySelectorAll('#grid [role=columnheader]').length"
    cells = "document.querySelector('#grid .row:not(.head)').children.length"
    sorts = "document.querySelectorAll('#grid [aria-sort=descending]').length"
    columns = "Number(document.getElementById('grid').getAttribute('aria-colcount'))"
    browser.open(page, 1280)
    assert browser.run("document.getElementById('split').value") == "test"
    few = browser.run(columns)
    assert few == 3  # instruction, winner, baseline
    assert browser.run("document.getElementById('count').textContent").startswith(
        "15 of 90 instructions, 2 of "
    )
    pick(browser, "")
    many = browser.run(columns)
    assert many > 10
    assert (browser.run(heads), browser.run(cells)) == (many, many)
    browser.run("document.querySelector('#grid .head').lastElementChild.firstChild.click()")
    assert browser.run(sorts) == 1
    assert browser.run(f"{CELL}.parentNode.getAttribute('aria-colindex')") == str(many)
    pick(browser, "test")
    assert (browser.run(heads), browser.run(cells), browser.run(sorts)) == (few, few, 0)
    pick(browser, "")
    assert browser.run(sorts) == 0
    pick(browser, "test")
    browser.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    browser.press("End")
    browser.press("ArrowRight")
    browser.press("ArrowDown")
    assert browser.run(f"{CELL}.getAttribute('aria-colindex')") == str(few)
    browser.press("Enter")
    browser.until("document.querySelectorAll('#card-body h3').length > 1")
    assert "zero-shot" in browser.run("document.querySelector('#card-body h3').textContent")
    assert browser.complaints == []


def test_a_phone_shows_what_matters(browser: Browser, page: Path) -> None:
    """Differences with intervals are in sight, figures can be read, long texts have a line of their own."""
    browser.open(page, 390)
    edge = """(() => { const cell = document.querySelector('#won ~ .wide tr:nth-child(2) ~ tr td.n');
      return cell.getBoundingClientRect().right; })()"""
    assert browser.run(edge) <= 390
    small = """[...document.querySelectorAll('figure svg text')]
      .map((t) => parseFloat(getComputedStyle(t).fontSize) * Math.hypot(t.getScreenCTM().a, t.getScreenCTM().b))"""
    assert min(browser.run(small)) >= 9
    texts = """[...document.querySelectorAll('.told td.text')]
      .map((t) => [t.getBoundingClientRect().right, t.getBoundingClientRect().width])"""
    for right, wide in browser.run(texts):
        assert right <= 390 and wide > 300
    wide = "[...document.querySelectorAll('figure')].map((f) => f.getBoundingClientRect().width)"
    browser.open(page, 1280)
    assert max(browser.run(wide)) <= 38 * 16


def test_print_shows_what_is_folded(browser: Browser, page: Path) -> None:
    """On paper nothing can be opened: the changes and the experiment file are printed, the grid is not."""
    browser.open(page, 800)
    high = """[...document.querySelectorAll('main details')]
      .map((d) => d.lastElementChild.checkVisibility())"""
    assert not all(browser.run(high))
    browser.call("Emulation.setEmulatedMedia", media="print")
    try:
        assert all(browser.run(high))
        assert not browser.run("document.getElementById('grid').checkVisibility()")
        broken = (
            "[...document.querySelectorAll('.wide')].map((t) => getComputedStyle(t).breakInside)"
        )
        assert {*browser.run(broken)} == {"avoid"}
    finally:
        browser.call("Emulation.setEmulatedMedia", media="")


def test_sorting_by_keyboard(browser: Browser, page: Path) -> None:
    """Enter on a prompt's heading sorts by it, best first; again, worst first; no verdict comes last."""
    browser.open(page, 1280)
    pick(browser, "")
    script = """[...document.querySelectorAll('#grid .row:not(.head)')]
      .sort((a, b) => a.getAttribute('aria-rowindex') - b.getAttribute('aria-rowindex'))
      .map((row) => row.children[1].textContent)"""
    browser.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    browser.press("ArrowRight")
    for sign, name in ((-1, "descending"), (1, "ascending")):
        browser.press("Enter")
        assert (
            browser.run("document.querySelectorAll('#grid .head > *')[1].getAttribute('aria-sort')")
            == name
        )
        found = [float(text) for text in browser.run(script) if text != "\u2013"]
        assert len(found) > 5
        assert found == sorted(found, key=lambda value: sign * value)
    for _ in range(3):
        browser.press("PageDown")
    browser.press("End", modifiers=2)
    assert browser.run(f"{CELL}.closest('.row').children[1].textContent") == "\u2013"


def test_a_keyboard_reaches_everything(browser: Browser, page: Path) -> None:
    """Tab comes to every link, field, summary and scrolling part; arrows to every cell; Enter opens answers."""
    browser.open(page, 1280)
    pick(browser, "")
    wanted = browser.run(f"{TABBABLE}.length")
    assert wanted > 20
    browser.run(f"{TABBABLE}.forEach((e, i) => {{ e.dataset.stop = i; }})")
    reached = set()
    for _ in range(wanted + 2):
        browser.press("Tab")
        stop = browser.run(f"{CELL}.dataset.stop")
        if stop is not None:
            reached.add(int(stop))
    assert reached == set(range(wanted))
    browser.run("document.querySelector('#grid [tabindex=\"0\"]').focus()")
    browser.press("ArrowDown")
    browser.press("ArrowRight")
    where = f"[{CELL}.closest('.row').getAttribute('aria-rowindex'), {CELL}.getAttribute('aria-colindex')]"
    assert browser.run(where) == ["2", "2"]
    for _ in range(58):
        browser.press("ArrowDown")
    browser.press("End")
    assert browser.run(where)[0] == "60"
    assert browser.run(
        f"(() => {{ const b = {CELL}.getBoundingClientRect(), g = document.getElementById('grid').getBoundingClientRect(); return b.top >= g.top && b.bottom <= g.bottom && b.right <= g.right; }})()"
    )
    browser.press("Enter")
    browser.until("document.querySelectorAll('#card-body h3').length > 5")
    assert "window.hacked=1" in browser.run("document.getElementById('card-body').textContent")
    assert browser.run("document.querySelectorAll('#card-body img, #card-body script').length") == 0
    browser.press("Escape")
    browser.until("!document.getElementById('card').open")
    assert browser.run(where)[0] == "60"
    assert browser.run("window.hacked === undefined")
    assert browser.complaints == []


def test_two_thousand_by_fifty_open_in_three_seconds(
    browser: Browser, page: Path, tmp_path: Path
) -> None:
    """A page with 100,000 answers of about 290 characters is drawn in less than 3 s, and can be searched."""
    place = tmp_path / "large.html"
    place.write_text(rendered(large(page, tmp_path)), "utf-8")
    seconds = browser.open(place, 1280)
    assert seconds < 3, f"{place.stat().st_size:,} bytes took {seconds:.2f} s"
    assert count(browser) == 2000
    search(browser, "number 1234", 1)
    browser.run("document.getElementById('inside').click()")
    started = time.monotonic()
    search(browser, "a77p31e", 1)
    assert time.monotonic() - started < 20
    assert browser.complaints == []


def large(page: Path, folder: Path) -> Collected:
    """A run of 2,000 instructions and 50 prompts, all answered."""
    from icl_align.run import open_run

    found = collect(open_run(page.parent / "run"))
    examples = tuple(
        Example(f"Instruction number {i}. " + "Words. " * 20, id=f"n{i}") for i in range(2000)
    )
    ids = tuple(example.id for example in examples)
    ledger, chance = Ledger(sqlite_url(folder / "large.db")), random.Random(0)
    words = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(3000)]
    columns = []
    for p in range(50):
        prompt = Prompt(f"Prompt {p}.", (), FORMATS["colon"])
        keys = [response_key("f", prompt.render(e), prompt.stop, prompt.decoding) for e in examples]
        texts = (f"a{i}p{p}e {' '.join(chance.choices(words, k=45))}" for i in range(2000))
        ledger.put_responses({k: Response(t, 60, "stop") for k, t in zip(keys, texts, strict=True)})
        scores = {("dev", name): Score(math.sin(i * (p + 1)) ** 2) for i, name in enumerate(ids)}
        columns.append(Column(f"trial {p}", "", prompt, scores))
    rows = rows_of("dev", examples)
    grid = make_grid(rows, columns, ledger, "f")
    ledger.close()
    return replace(found, rows=tuple(rows), columns=tuple(columns), grid=grid)
