"""The dashboard's pages in a real headless Chromium; skipped where there is none."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import pytest
from browser import CHROMIUM, Browser
from small_run import small_run

from icl_align.run import Run

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None, reason="needs Chromium: apt-get install chromium (.ci/run does)"
    ),
    pytest.mark.skipif(find_spec("optuna_dashboard") is None, reason="needs the extra dashboard"),
]
HOSTILE = (
    "Be kind.\n````\n</code></pre><img src=x onerror='window.hacked=1'>"
    "<script>window.hacked=2</script>\n[click](javascript:window.hacked=3)\n"
    "![see](http://evil.example/x.png)\n```html\n<b id=bold>b</b>\n# Heading\u202e\n"
    "``````````\n<svg onload=window.hacked=4>\n| a | b |\n|---|---|\n"
)
INSIDE = """(() => {
  const bad = 'img[src], script:not([src]), a[href^="javascript"], a[href*="evil"], b#bold, svg[onload], table';
  return [...document.querySelectorAll('pre')].flatMap((one) => [...one.querySelectorAll(bad)]).length
    + document.querySelectorAll('img[src*="evil"], a[href^="javascript"], b#bold').length;
})()"""


WIDTHS = """(() => {
  const page = document.documentElement;
  const list = [...document.querySelectorAll('main *')].find((one) => /^\\d+ Trials$/.test(one.innerText));
  return [page.scrollWidth <= page.clientWidth, list.getBoundingClientRect().width > 60];
})()"""
"""Whether the page is no wider than its window, and whether the list of trials is still to be read."""


@dataclass
class Site:
    """A dashboard, and the browser that looks at it."""

    run: Run
    browser: Browser
    served: Any

    def open(self, url: str, ready: str) -> str:
        """Opens a page, waits until it says something, and gives its text."""
        self.browser.complaints, self.browser.requests = [], []
        self.browser.call(
            "Emulation.setDeviceMetricsOverride",
            width=1280, height=1000, deviceScaleFactor=1, mobile=False,
        )  # fmt: skip
        self.browser.call("Page.navigate", url=url)
        self.browser.until(f"document.body && document.body.innerText.includes({ready!r})")
        return str(self.browser.run("document.body.innerText"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A run with a hostile system text, served with a round of preferences."""
    from icl_align.dashboard import serving

    space = {
        "systems": [HOSTILE, "Be kind. Be brief.", ""],
        "pool": "pool.jsonl",
        "k": [0, 3],
        "formats": ["block", "colon"],
    }
    run = small_run(tmp_path_factory.mktemp("site"), space=space)
    with (
        serving(run, port=0, prefer=(3, 2)) as served,
        Browser(tmp_path_factory.mktemp("profile")) as browser,
    ):
        thread = threading.Thread(target=served.server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield Site(run, browser, served)
        finally:
            served.server.shutdown()
            thread.join()


def test_a_hostile_prompt_is_text(site: Site) -> None:
    """The note of a trial shows the hostile system text as it is; nothing of it runs, loads or leads away."""
    hostile = [
        trial.number
        for trial in site.run.trials()
        if trial.evaluation and trial.evaluation.prompt.system == HOSTILE
    ]
    text = site.open(f"{site.served.url}/trials?numbers={hostile[0]}", "Worst and best")
    assert "</code></pre><img src=x onerror='window.hacked=1'>" in text
    assert "[click](javascript:window.hacked=3)" in text
    assert "# Heading\\u202e" in text
    assert "standard error" in text and "Against the main baseline" in text
    assert site.browser.run(WIDTHS) == [True, True]
    assert site.browser.run(INSIDE) == 0
    assert site.browser.run("window.hacked === undefined")
    assert not [url for url in site.browser.requests if "evil" in url]
    assert site.browser.complaints == []


def test_the_run_says_what_it_is(site: Site) -> None:
    """The run's own note has the headline and the command that runs it again."""
    text = site.open(f"{site.served.url}/note", "To run it again")
    assert "Not proved yet" in text
    assert "icl-align run experiment.toml --out again" in text
    assert site.browser.run("window.hacked === undefined")
    assert site.browser.complaints == []


def test_a_person_chooses_the_worst(site: Site) -> None:
    """Answers are read whole, without names, and a click on WORST is a verdict."""
    from icl_align.dashboard import read_preferences

    cards = len(site.served.asked.cards)
    text = site.open(site.served.preferences, f"Answers of card {cards - 1}")
    assert "onerror='window.hacked=2'" in text  # in every answer
    assert "zero-shot" not in text and "Be kind" not in text
    cut = """[...document.querySelectorAll('pre')].filter((one) =>
      one.scrollWidth > one.clientWidth + 1).length"""
    assert site.browser.run(cut) == 0  # long lines are folded
    assert site.browser.run(INSIDE) == 0
    worst = "[...document.querySelectorAll('button')].filter((b) => /worst/i.test(b.innerText))"
    assert site.browser.run(f"{worst}.length") == cards == 3
    site.browser.run(f"{worst}[1].click()")
    site.browser.until(f"{worst}.length === 2")
    end = time.monotonic() + 20
    while not (pairs := _said(site)) and time.monotonic() < end:
        time.sleep(0.05)
    assert pairs == [(0, 1), (2, 1)]
    told = read_preferences(site.run)
    assert told["comparisons"] == 2
    assert told["prompts"][-1]["digest"] in [one.digest for one in site.served.asked.cards[1]]
    assert "Decided." not in site.browser.run("document.body.innerText")
    site.browser.run(f"{worst}[0].click()")
    site.browser.until("document.body.innerText.includes('Decided.')")
    assert "--preferences" in site.browser.run("document.body.innerText")
    assert site.browser.run("window.hacked === undefined")
    assert site.browser.complaints == []


def _said(site: Site) -> list[tuple[int, int]]:
    from icl_align.dashboard.preferring import rounds, worse_pairs
    from icl_align.search.study import DEFAULT_STUDY, opened_study

    with opened_study(site.run.url, DEFAULT_STUDY, create=False) as study:
        return worse_pairs(study._storage, rounds(study._storage)[0])
