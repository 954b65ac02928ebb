"""The status: shares as they are wanted beside those that were seen."""

import json

import pytest

from fleet.history.values import History
from fleet.resources import Route, Share, State
from plans.reports.status import Counts, render_text, status

NEW, OLD = "acme-support-tiny-v2.2.0", "acme-support-tiny-v2.1.0"
ALIAS = "acme-support"
SPLIT = Route(ALIAS, (Share(NEW, 10, ("s1",)), Share(OLD, 90, ("s1",))), "s")
LIVE = State(resources={SPLIT.address: SPLIT})


@pytest.mark.parametrize(
    ("counts", "line", "seen"),
    [
        ({}, "2.2.0 10 %, 2.1.0 90 %\n", [(None, None), (None, None)]),
        (
            {(ALIAS, NEW): 0, (ALIAS, OLD): 0},
            "2.2.0 10 % (none seen), 2.1.0 90 % (none seen)  of 0 requests\n",
            [(0, None), (0, None)],
        ),
        (
            {(ALIAS, NEW): 340, (ALIAS, OLD): 660},
            "2.2.0 10 % (34.0 % seen), 2.1.0 90 % (66.0 % seen)  of 1,000 requests\n",
            [(340, 34.0), (660, 66.0)],
        ),
        (
            {(ALIAS, NEW): 0, (ALIAS, OLD): 3, ("another", NEW): 7},
            "2.2.0 10 % (0.0 % seen), 2.1.0 90 % (100.0 % seen)  of 3 requests\n",
            [(0, 0.0), (3, 100.0)],
        ),
    ],
)
def test_what_was_seen_stands_beside_what_is_wanted(
    counts: Counts, line: str, seen: list[tuple[int | None, float | None]]
) -> None:
    document = status("demo", LIVE, History(), [], None, counts)
    assert f"{ALIAS}  {line}" in render_text(document)
    (alias,) = json.loads(json.dumps(document))["aliases"]
    assert [(e["requests"], e["observed_percent"]) for e in alias["versions"]] == seen
