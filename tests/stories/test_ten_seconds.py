"""The first lines of a plan say what the plan does to whom, for a reviewer with ten seconds.

Kinds of change; for each the sentences that have to stand above the fold of the text, of
the Markdown comment and of the page, as a reader sees them.
"""

import html
import re
from html.parser import HTMLParser
from itertools import count
from pathlib import Path

import pytest

from plans.render import RENDERERS
from tests.stories.test_stories import plan_of

STORIES = Path(__file__).parent
FOLD = 25
"""Lines that a screen shows without scrolling."""
_BLOCKS = frozenset({"h1", "h2", "p", "li", "tr", "summary", "div", "pre"})
_HIDDEN = frozenset({"style", "title", "thead", "svg"})

ROLLOUT = "acme-support 2.1.0 -> 2.2.0: "
SENTENCES = {
    "new_version_with_gates": (
        "begins a rollout to 100 %: acme-support 2.2.0",
        ROLLOUT + "0 % now; 10 % after its golden set (accuracy); 50 %, 100 % at the earliest "
        "1 d, 2 d later; gates need about 326 requests at 10 %, expected within 4 h 21 min "
        "(an estimate; people decide after 2 d); rollback 1 s; promoted by itself 0 %, waits for a "
        "person 100 %",
        "2 clients untouched: birch, dune",
    ),
    "golden_set_too_small": (ROLLOUT, "promoted by itself 24 %, waits for a person 74 %"),
    "new_version": (
        ROLLOUT + "10 % now; 50 %, 100 % at the earliest 1 d, 2 d after this apply; rollback 1 s; "
        "no gate: time alone decides",
        "10 % of 30/min",
    ),
    "retention_ended": ("2.1.0 is unloaded: no warm way back to it any more",),
    "tier_changed": (
        "terms or hardware change for birch-faq",
        "birch-faq: tier standard -> premium, retrain_every 90d -> 30d",
        "2 clients untouched: acme, dune",
    ),
    "gate_loosened": ("acme-support, birch-faq, dune-extract: accuracy.max 3pp -> 9pp",),
    "base_changed": (
        "begins a rollout to 100 %: birch-faq 1.5.0",
        "birch-faq 1.4.1 on llama3_8b -> 1.5.0 on llama31_8b: 10 % now; 50 %, 100 %",
    ),
    "card_replaced": (
        "rack1/gpu0 kind h100_80g -> l40s_48g, rack1/gpu0 memory 80.0 GiB -> 48.0 GiB",
        "answers stop while the card is changed",
    ),
    "host_removed": (
        "3 adapters must move: rack1/gpu0 is no longer declared",
        "2.1.0 moves from llama3_8b-rack1-gpu0 to llama3_8b-rack2-gpu0, same weights",
    ),
    "limit_lowered": (
        "terms or hardware change for birch-faq",
        "client's limits.requests_per_minute 60 -> 10",
    ),
    "key_rotation": (
        "acme: key prod is rotated, and requests with its old secret are refused",
        "2 clients untouched: birch, dune",
    ),
    "key_not_readable": (
        "acme: key prod is read from env:ACME_PROD_KEY_OF_A_STORY, which is not readable here",
    ),
    "create": ("acme: new key prod lets requests in",),
    "client_added": ("fox-mail", "1.0.0 100 %", "nothing to go back to", "3 clients untouched"),
    "removal": ("no longer served: dune-extract", "cold, 10 s", "declare it again and apply"),
    "upgrade_canary": (
        "max_model_len: 8192 -> 16384",
        "acme-support, birch-faq, dune-extract: llama3_8b-rack1-gpu0 gives way to a server",
    ),
    "flags_changed": (
        "needs a decision",
        "requests to acme-support, birch-faq, dune-extract will fail for about 1 min 30 s",
    ),
    "replicas_replaced": (
        "acme-support: llama3_8b-rack1-gpu0, llama3_8b-rack1-gpu1 restart in turn",
    ),
    "move": ("1.4.1 moves from llama3_8b-rack1-gpu0 to llama3_8b-rack2-gpu0, same weights",),
}
"""Sentences by story."""


class _Page(HTMLParser):
    """The lines that a browser shows of a page, cells of a row in one line."""

    def __init__(self) -> None:
        super().__init__()
        self.lines, self.hidden = [""], 0

    def handle_starttag(self, tag: str, _: list[tuple[str, str | None]]) -> None:
        self.hidden += tag in _HIDDEN
        if tag in _BLOCKS:
            self.lines.append("")
        elif tag in ("td", "br"):
            self.lines[-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self.hidden -= tag in _HIDDEN

    def handle_data(self, data: str) -> None:
        if not self.hidden:
            self.lines[-1] += data


def seen(text: str, form: str) -> str:
    """Return what a reader sees above the fold of a rendered plan, in a line."""
    lines = text.splitlines()
    if form == "html":
        page = _Page()
        page.feed(text)
        lines = page.lines
    if form == "md":
        shown = re.sub(r"<!--.*?-->|\*\*|\\(?=[_%])", "", text).replace("→", "->")
        lines = html.unescape(re.sub(r"<br>", " ", shown)).splitlines()
    numbers = count()
    above = [line for line in lines if line.strip() and next(numbers) < FOLD]
    return " ".join(" ".join(above).split())


@pytest.mark.parametrize("form", ["text", "md", "html"])
@pytest.mark.parametrize("story", SENTENCES)
def test_a_reviewer_finds_above_the_fold(story: str, form: str) -> None:
    shown = seen(RENDERERS[form](plan_of(STORIES / story)), form).replace("`", "").lower()
    assert [words for words in SENTENCES[story] if words.lower() not in shown] == []


@pytest.mark.parametrize("story", ["new_version_with_gates", "tier_changed", "upgrade_canary"])
def test_no_plan_that_begins_something_reads_as_safe(story: str) -> None:
    shown = RENDERERS["text"](plan_of(STORIES / story))
    assert "safe to apply" not in shown
    assert "3 clients untouched" not in shown


@pytest.mark.parametrize("form", ["text", "md", "html"])
@pytest.mark.parametrize("story", ["new_version_with_gates", "golden_set_too_small"])
def test_the_chances_of_a_rollout_are_told_once(story: str, form: str) -> None:
    shown = RENDERERS[form](plan_of(STORIES / story))
    assert shown.count("waits for a person") == 1
    assert "is no worse, it is promoted" not in shown
