"""Demand by the hour: zones, clock changes, midnight, and what it asks of a server."""

from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.capacity.demand import IDLE, Load, hourly_rpm, load_of, peak_hour, without_demand
from fleet.names import AdapterName
from fleet.placement.accounting import summed
from fleet.placement.accounts import AdapterAccount
from fleet.spec import AdapterSpec, DemandSpec

PARIS, NEW_YORK, KOLKATA, UTC = (60, 120), (-300, -240), (330,), (0,)
ALL_DAY = frozenset(range(24))


def busy(demand: DemandSpec) -> frozenset[int]:
    return frozenset(hour for hour, rate in enumerate(hourly_rpm(demand)) if rate)


@pytest.mark.parametrize(
    ("hours", "offsets", "expected"),
    [
        ((9, 18), UTC, range(9, 18)),
        ((9, 18), (60,), range(8, 17)),  # Paris in winter
        ((9, 18), (120,), range(7, 16)),  # Paris in summer
        ((9, 18), PARIS, range(7, 17)),  # and over the year: either
        ((9, 17), NEW_YORK, range(13, 22)),
        ((20, 23), NEW_YORK, (0, 1, 2, 3)),  # the next day, UTC
        ((9, 18), KOLKATA, range(3, 13)),  # 03:30 to 12:30: both halves count
        ((9, 10), (345,), (3, 4)),  # Kathmandu: 03:15 to 04:15
        ((22, 4), UTC, (22, 23, 0, 1, 2, 3)),
        ((22, 4), KOLKATA, (16, 17, 18, 19, 20, 21, 22)),
        ((22, 4), (840,), range(8, 14)),  # the easternmost zone
        ((4, 22), UTC, range(4, 22)),
        ((0, 24), UTC, range(24)),
        ((0, 24), KOLKATA, range(24)),
        ((5, 24), UTC, range(5, 24)),
        ((23, 24), UTC, (23,)),
        ((0, 1), PARIS, (22, 23)),
        ((1, 0), UTC, range(1, 24)),
    ],
)
def test_an_hour_is_busy_if_it_is_under_any_offset(
    hours: tuple[int, int], offsets: tuple[int, ...], expected: object
) -> None:
    assert busy(DemandSpec(30, hours, offsets=offsets)) == frozenset(expected)  # type: ignore[call-overload]


def test_the_rate_is_the_peak_inside_and_nothing_outside() -> None:
    assert hourly_rpm(DemandSpec(30, (9, 11))) == (0.0,) * 9 + (30, 30) + (0.0,) * 13
    assert hourly_rpm(DemandSpec(0, (9, 11))) == (0.0,) * 24
    assert hourly_rpm(None) == (0.0,) * 24


def test_a_batch_window_adds_hours_at_the_same_rate() -> None:
    demand = DemandSpec(12, (9, 17), batch=(22, 2), offsets=PARIS)
    assert busy(demand) == {*range(7, 16), 20, 21, 22, 23, 0}
    assert set(hourly_rpm(demand)) == {0.0, 12}


def test_what_was_observed_replaces_what_is_declared() -> None:
    seen = tuple(float(hour) for hour in range(24))
    assert hourly_rpm(DemandSpec(99, (9, 10), batch=(1, 2), observed=seen)) == seen


def test_the_load_of_an_hour() -> None:
    load = load_of(DemandSpec(60, (9, 10), prompt_tokens=200, output_tokens=100), 0.1, 2.0)
    assert load.tokens == (0.0,) * 9 + (120.0,) + (0.0,) * 14
    assert load.concurrency[9] == pytest.approx(1 - exp(-2.0), rel=1e-12)
    assert load.concurrency[8] == 0


def test_an_adapter_that_is_hardly_asked_has_hardly_any_concurrency() -> None:
    load = load_of(DemandSpec(1e-9), 0.1, 10.0)
    assert load.concurrency[0] == pytest.approx(1e-9 / 6, rel=1e-9)


def together(*loads: Load) -> Load:
    return summed(
        AdapterAccount(f"acme-a{number}-tiny-v1.0.0", "server", 8, cached=False, load=load)
        for number, load in enumerate(loads)
    )


def test_loads_add_up() -> None:
    one = load_of(DemandSpec(60, (9, 10)), 0.0, 1.0)
    assert together(one, IDLE) == one
    assert together(one, one).tokens[9] == 2 * one.tokens[9]
    assert together(one, one).concurrency[9] == 2 * one.concurrency[9]


def test_without_demand_there_is_no_load_and_the_alias_is_told() -> None:
    assert load_of(None, 0.1, 2.0) == Load((0.0,) * 24, (0.0,) * 24)
    adapters = [
        AdapterSpec(
            AdapterName.parse(f"{client}-a-tiny-v1.0.0"),
            "standard",
            demand,
            "short_generation",
            1,
            None,
            None,
            (),
        )
        for client, demand in (("zeta", None), ("acme", None), ("birch", DemandSpec(1)))
    ]
    assert without_demand(adapters) == ("acme-a", "zeta-a")


def test_the_peak_hour_is_the_first_of_equal_ones() -> None:
    assert peak_hour(hourly_rpm(DemandSpec(5, (14, 18)))) == 14
    assert peak_hour((0.0,) * 24) == 0


hours = st.tuples(st.integers(0, 23), st.integers(0, 24)).filter(lambda pair: pair[0] != pair[1])
offset = st.integers(-48, 56).map(lambda quarter: 15 * quarter)


@given(hours=hours, offset=offset)
def test_a_window_never_shrinks_and_grows_by_an_hour_at_most(
    hours: tuple[int, int], offset: int
) -> None:
    length = (hours[1] - hours[0]) % 24 or 24
    found = len(busy(DemandSpec(1, hours, offsets=(offset,))))
    assert found == length if offset % 60 == 0 else found in {length, length + 1}


@given(hours=hours, one=offset, other=offset)
def test_a_year_is_never_less_busy_than_one_of_its_seasons(
    hours: tuple[int, int], one: int, other: int
) -> None:
    both = busy(DemandSpec(1, hours, offsets=(one, other)))
    assert both == busy(DemandSpec(1, hours, offsets=(one,))) | busy(
        DemandSpec(1, hours, offsets=(other,))
    )


@given(
    rpm=st.floats(0, 1e5),
    slo=st.floats(0.001, 100),
    weight=st.floats(0, 1),
)
def test_concurrency_is_a_part_of_the_time(rpm: float, slo: float, weight: float) -> None:
    load = load_of(DemandSpec(rpm), weight, slo)
    assert all(0 <= each <= 1 for each in load.concurrency)
    assert all(each >= 0 for each in load.tokens)
