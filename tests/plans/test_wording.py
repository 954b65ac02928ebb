from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.names import Address
from fleet.plan import Action, Change, Plan, Reason
from fleet.resources import Server
from plans.render.verdict import ReviewLevel, judge
from plans.wording import SYMBOLS, difference, duration, listed, size, tally, verb


@pytest.mark.parametrize(
    ("changed", "level", "reason"),
    [
        ({}, ReviewLevel.SAFE, "no restart"),
        ({"back_out_class": "cold"}, ReviewLevel.CARE, "cold"),
        ({"share_moved": 11}, ReviewLevel.CARE, "premium"),
        ({"share_moved": 11, "tier": "standard"}, ReviewLevel.SAFE, "no restart"),
        ({"interrupted": True}, ReviewLevel.DANGER, "will fail"),
    ],
)
def test_the_verdict_on_what_a_client_will_notice(
    canary: Plan, changed: dict[str, object], level: ReviewLevel, reason: str
) -> None:
    impact = replace(canary.impacts[0], **changed)  # type: ignore[arg-type]
    verdict = judge(replace(canary, impacts=(impact,)))
    assert verdict.level is level
    assert reason in verdict.reasons[0]


@pytest.mark.parametrize(
    ("before", "during", "level"),
    [(3, 7, ReviewLevel.SAFE), (3, 8, ReviewLevel.CARE), (8, 8, ReviewLevel.SAFE)],
)
def test_the_verdict_on_slots(canary: Plan, before: int, during: int, level: ReviewLevel) -> None:
    use = replace(canary.capacity[0], slots_before=before, slots_during=during, slots=8)
    assert judge(replace(canary, capacity=(use,))).level is level


def test_a_restart_needs_a_decision_and_the_worst_reason_comes_first(canary: Plan) -> None:
    server = Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), 8100, "0a1b2c3d4e5f")
    restart = Change(
        server.address, Action.REPLACE, server, server, Reason.FLAGS_CHANGED, "Flags differ."
    )
    verdict = judge(replace(canary, changes=(*canary.changes, restart), warnings=("w",)))
    assert verdict.level is ReviewLevel.DANGER
    assert verdict.reasons == ("1 server to restart", "1 warning")


def test_all_actions_have_a_symbol_and_all_kinds_a_word_for_each() -> None:
    assert set(SYMBOLS) == set(Action)
    for kind, action in product(("server", "adapter", "route", "key"), Action):
        change = Change(Address(f"{kind}/x"), action, None, None, Reason.DECLARED, "")
        assert tally([change, change]).startswith(f"2 {kind}s to {verb(change)}")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "under 1 s"),
        (0.99, "under 1 s"),
        (1.4, "1 s"),
        (59.6, "1 min"),
        (110, "1 min 50 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("amount", "words"),
    [(None, "?"), (0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (5 * 2**30, "5.0 GiB")],
)
def test_sizes_in_words(amount: int | None, words: str) -> None:
    assert size(amount) == words


def test_what_differs_in_words() -> None:
    assert difference("max_loras", "8", "16") == "max_loras: 8 -> 16"
    assert difference("2.2.0", "", "10 %") == "2.2.0: 10 % (new)"
    assert difference("2.2.0", "none", "10 %") == "2.2.0: 10 % (new)"
    assert difference("2.1.0", "90 %", "") == "2.1.0: 90 % (gone)"


@given(st.lists(st.text("abc", min_size=1), max_size=30), st.integers(1, 12))
def test_a_list_never_shows_more_than_its_limit(words: list[str], limit: int) -> None:
    shown = listed(words, limit)
    assert shown.count(",") < max(limit, 1)
    assert (f"{len(words) - limit} more" in shown) == (len(words) > limit)
