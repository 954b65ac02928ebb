from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.names import Address
from fleet.plan import Action, Change, Plan, Reason
from plans.tables import and_more, duration, file_size, listed, percent, size
from plans.wording import SYMBOLS, cost, difference, short_version, tally, verb


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


@pytest.mark.parametrize(
    ("amount", "words"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 KB"), (162_900, "162.9 KB"),
     (10**6, "1.0 MB"), (2 * 10**9, "2.0 GB")],
)  # fmt: skip
def test_file_sizes_in_decimal_units(amount: int | None, words: str) -> None:
    assert file_size(amount) == words


@pytest.mark.parametrize(
    ("part", "digits", "words"), [(0.0, 0, "0 %"), (0.624, 0, "62 %"), (0.624, 1, "62.4 %")]
)
def test_shares_in_percent(part: float, digits: int, words: str) -> None:
    assert percent(part, digits) == words


@pytest.mark.parametrize(("shown", "words"), [(0, "and 2 more"), (1, "and 1 more"), (2, "")])
def test_a_rest_is_counted_where_there_is_one(shown: int, words: str) -> None:
    assert and_more(["a", "b"], shown) == words


@pytest.mark.parametrize(
    ("adapter", "version"),
    [("acme-support-tiny-v2.1.0", "2.1.0"), ("rogue-v2", "rogue-v2"), ("rogue", "rogue")],
)
def test_only_a_full_name_is_shortened_to_its_version(adapter: str, version: str) -> None:
    assert short_version(adapter) == version


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        (None, None, ""),
        (5.0, None, "not known for the whole fleet"),
        (None, 2.5, "2.50 per hour; before: not known, a device in use is not declared"),
        (5.0, 5.0, "5.00 per hour, unchanged"),
    ],
)
def test_a_cost_is_told_as_far_as_it_is_known(
    before: float | None, after: float | None, words: str
) -> None:
    assert cost(Plan("", "lab", cost_before=before, cost_after=after)) == words
