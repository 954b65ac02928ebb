"""Properties of every split, and the terms of hours."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from fleet.costing import (
    CostLine,
    LineKind,
    Role,
    Terms,
    WorkCell,
    apportion,
    hourly_terms,
    to_cents,
)
from fleet.policies import IdleRule
from tests.drawn import drawn, examples
from tests.fleet.costing.worlds import NOON, cell, client, fleet, leases, lines, resident, server

CLIENTS = ("a", "b", "c", "d")
PURPOSES = ("live", "eval", "smoke", "shadow")
amounts = st.integers(0, 5_000_000)
residents = st.builds(
    resident, st.sampled_from(CLIENTS), st.integers(0, 500), st.sampled_from(Role),
    st.integers(0, 1), st.sampled_from(("1.0.0", "2.0.0")),
)  # fmt: skip
devices = st.sampled_from(("h/0", "h/1", "h/2"))
servers = st.builds(
    lambda versions, names, capacity: server(
        *versions, devices=tuple(sorted(names)), capacity=capacity
    ),
    st.lists(residents, max_size=4, unique_by=lambda item: item.adapter),
    st.sets(devices, min_size=1, max_size=2),
    st.sampled_from((0, 1, 997, 10_000)),
)
terms_drawn = st.builds(
    lambda rule, priced, always, its: Terms(
        fleet(rule),
        {name: replace(leases(price, name)[name], always=always) for name, price in priced.items()},
        its,
    ),
    st.sampled_from(IdleRule),
    st.dictionaries(devices, amounts, min_size=1),
    st.booleans(),
    st.dictionaries(st.sampled_from(("s", "t")), servers),
)
cells_drawn = st.lists(
    st.builds(
        cell, st.sampled_from(CLIENTS), st.integers(0, 2000), st.sampled_from(("s", "t", "gone")),
        st.integers(0, 500), st.integers(0, 600), st.sampled_from(PURPOSES),
        st.sampled_from(("1.0.0", "2.0.0")), st.integers(0, 1),
    ),
    max_size=8,
)  # fmt: skip


def leased(terms: Terms) -> int:
    used = {device for its in terms.servers.values() for device in its.devices}
    return sum(lease.price for name, lease in terms.devices.items() if lease.always or name in used)


@drawn
@given(terms_drawn, cells_drawn, st.sampled_from((True, True, False)))
@settings(max_examples=examples(60, 600), deadline=None)
def test_lines_add_up_to_leases_in_any_order(
    terms: Terms,
    cells: Sequence[WorkCell],
    is_known: bool,  # noqa: FBT001 (drawn)
) -> None:
    found = lines(terms, *cells, is_known=is_known)
    assert sum(line.micro for line in found) == leased(terms)
    assert all(line.micro >= 0 for line in found)
    turned = replace(terms, servers=dict(reversed([*terms.servers.items()])))
    assert Counter(lines(turned, *reversed(cells), is_known=is_known)) == Counter(found)
    assert sum(to_cents(found).values()) == (leased(terms) + 5_000) // 10_000


def of_client(found: Sequence[CostLine], name: str, *kinds: LineKind) -> int:
    return sum(
        line.micro for line in found if line.client == name and (not kinds or line.kind in kinds)
    )


@drawn
@given(terms_drawn, cells_drawn, st.sampled_from(("s", "t")), st.integers(0, 3000))
@settings(max_examples=examples(60, 600), deadline=None)
def test_a_further_request_never_lowers_its_own_cost_nor_raises_serving_of_others(
    terms: Terms, cells: Sequence[WorkCell], name: str, tokens: int
) -> None:
    told = [item._replace(unknown=0) for item in cells]
    before = lines(terms, *told)
    after = lines(terms, *told, cell("a", tokens, server=name))
    rounding = sum(len(its.devices) for its in terms.servers.values())
    assert of_client(after, "a") >= of_client(before, "a") - rounding
    for other, kind in product(CLIENTS[1:], (LineKind.SERVING, LineKind.EVAL)):
        assert of_client(after, other, kind) <= of_client(before, other, kind)


@given(amounts, st.dictionaries(st.text(max_size=3), st.integers(0, 10**12), max_size=9))
def test_parts_are_whole_and_next_to_their_quota(amount: int, weights: dict[str, int]) -> None:
    parts, total = apportion(amount, weights), sum(weights.values())
    assert sum(parts.values()) == (amount if total else 0)
    for key, part in parts.items():
        assert abs(part * total - amount * weights[key]) < total


def test_ties_go_by_name() -> None:
    assert apportion(5, {"c": 1, "a": 1, "b": 1}) == {"a": 2, "b": 2, "c": 1}


def test_a_begun_hour_counts_for_what_is_new_and_for_what_is_gone() -> None:
    first = Terms(fleet(), leases(1, "h/0"), {}, {"a": client(5)}).documents()
    minutes = timedelta(minutes=1)
    changes: list[tuple[Any, Any]] = [
        (NOON + 20 * minutes, first),
        (NOON + 80 * minutes, {"device/h/0": None, "device/h/1": {"price": 2, "always": True}}),
        (NOON + 130 * minutes, {"device/h/1": {"price": 3, "always": True}, "later/x": {}}),
    ]
    hours = list(hourly_terms(changes, NOON - 120 * minutes, NOON + 240 * minutes))
    assert [hour for hour, _ in hours] == [NOON + 60 * n * minutes for n in range(4)]
    prices = [{name: d.price for name, d in terms.devices.items()} for _, terms in hours]
    assert prices == [{"h/0": 1}, {"h/0": 1, "h/1": 2}, {"h/1": 3}, {"h/1": 3}]
