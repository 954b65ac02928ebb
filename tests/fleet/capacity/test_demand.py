"""Demand by the hour: zones, clock changes, midnight, and what it asks of a server."""

from datetime import UTC, datetime, timedelta
from math import exp

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.capacity.demand import (
    IDLE,
    Load,
    ObservedDemand,
    Recording,
    carried_on,
    hourly_rpm,
    load_of,
    parse_recorded_demand,
    peak_hour,
    record_demand,
    recorded_demand_text,
    without_demand,
)
from fleet.errors import ConfigError
from fleet.names import AdapterName
from fleet.placement.model.accounts import AdapterAccount, summed
from fleet.policies import EndpointFaults
from fleet.spec import AdapterSpec, DemandSpec
from fleet.usage import UsageCell, UsageFigures

PARIS, NEW_YORK, KOLKATA, GREENWICH = (60, 120), (-300, -240), (330,), (0,)
ALL_DAY = frozenset(range(24))


def busy(demand: DemandSpec) -> frozenset[int]:
    return frozenset(hour for hour, rate in enumerate(hourly_rpm(demand)) if rate)


@pytest.mark.parametrize(
    ("hours", "offsets", "expected"),
    [
        ((9, 18), GREENWICH, range(9, 18)),
        ((9, 18), (60,), range(8, 17)),  # Paris in winter
        ((9, 18), (120,), range(7, 16)),  # Paris in summer
        ((9, 18), PARIS, range(7, 17)),  # and over the year: either
        ((9, 17), NEW_YORK, range(13, 22)),
        ((20, 23), NEW_YORK, (0, 1, 2, 3)),  # the next day, UTC
        ((9, 18), KOLKATA, range(3, 13)),  # 03:30 to 12:30: both halves count
        ((9, 10), (345,), (3, 4)),  # Kathmandu: 03:15 to 04:15
        ((22, 4), GREENWICH, (22, 23, 0, 1, 2, 3)),
        ((22, 4), KOLKATA, (16, 17, 18, 19, 20, 21, 22)),
        ((22, 4), (840,), range(8, 14)),  # the easternmost zone
        ((4, 22), GREENWICH, range(4, 22)),
        ((0, 24), GREENWICH, range(24)),
        ((0, 24), KOLKATA, range(24)),
        ((5, 24), GREENWICH, range(5, 24)),
        ((23, 24), GREENWICH, (23,)),
        ((0, 1), PARIS, (22, 23)),
        ((1, 0), GREENWICH, range(1, 24)),
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


START = datetime(2026, 3, 2, tzinfo=UTC)


def asked(
    alias: str,
    day: int,
    hour: int,
    times: int,
    tokens: tuple[int | None, int | None] = (None, None),
) -> list[UsageCell]:
    given, made = tokens
    figures = UsageFigures(
        requests=times,
        input_tokens=times * (given or 0),
        inputs=times if given else 0,
        output_tokens=times * (made or 0),
        outputs=times if made else 0,
    )
    return [UsageCell(START + timedelta(days=day, hours=hour), figures, alias=alias)]


def test_without_a_request_nothing_is_recorded() -> None:
    assert record_demand([], 7) is None


def test_an_hour_counts_its_requests_a_minute() -> None:
    made = record_demand(asked("acme-support", 0, 9, 120), 7)
    assert made is not None
    assert made.adapters["acme-support"].rpm == (0.0,) * 9 + (2.0,) + (0.0,) * 14
    assert (made.since, made.until) == (START + timedelta(hours=9), START + timedelta(hours=10))
    assert made.hours == 1


def test_of_a_week_the_busiest_day_counts() -> None:
    requests = [each for day in range(7) for each in asked("a-b", day, 9, 60 * (day + 1))]
    made = record_demand(reversed(requests), 7)
    assert made is not None
    assert made.adapters["a-b"].rpm[9] == 7.0


def test_of_forty_days_the_two_odd_ones_do_not_count() -> None:
    requests = [each for day in range(40) for each in asked("a-b", day, 9, 60)]
    requests += asked("a-b", 5, 9, 6000) + asked("a-b", 17, 9, 6000)
    made = record_demand(requests, 40)
    assert made is not None
    assert made.adapters["a-b"].rpm[9] == 1.0
    third = record_demand(requests + asked("a-b", 20, 9, 600), 40)
    assert third is not None
    assert third.adapters["a-b"].rpm[9] == 11.0


def test_days_on_which_an_alias_rests_count_as_well() -> None:
    requests = [each for day in range(40) for each in asked("a-b", day, 9, 60)]
    requests += asked("c-d", 3, 9, 60) + asked("c-d", 4, 9, 60)
    made = record_demand(requests, 40)
    assert made is not None
    assert made.adapters["c-d"].rpm[9] == 0.0


def test_only_the_newest_days_count_from_the_last_hour_back() -> None:
    requests = asked("a-b", 0, 9, 6000) + asked("a-b", 9, 9, 60)
    made = record_demand(requests, 7)
    assert made is not None
    assert made.until - made.since == timedelta(days=7)
    assert made.adapters["a-b"].rpm[9] == 1.0


def test_tokens_are_means_of_what_was_reported() -> None:
    requests = asked("a-b", 0, 9, 2, (100, 11)) + asked("a-b", 0, 10, 1, (101, None))
    made = record_demand(requests, 1)
    assert made is not None
    assert (made.adapters["a-b"].prompt_tokens, made.adapters["a-b"].output_tokens) == (101, 11)
    silent = record_demand(asked("a-b", 0, 9, 2), 1)
    assert silent is not None
    assert silent.adapters["a-b"].prompt_tokens is None


def test_who_is_asked_nothing_any_more_is_idle_and_who_is_gone_is_left_out() -> None:
    made = record_demand(asked("a-b", 0, 9, 60) + asked("stranger-x", 0, 9, 60), 1)
    assert made is not None
    before = {name: ObservedDemand((1.0,) * 24, 7, None) for name in ("c-d", "gone-x", "a-b")}
    kept = carried_on(made, before, ["a-b", "c-d", "new-x"])
    assert list(kept.adapters) == ["a-b", "c-d"]
    assert kept.adapters["a-b"].rpm[9] == 1.0
    assert kept.adapters["c-d"] == ObservedDemand((0.0,) * 24, 7, None)


def test_what_was_bad_is_counted_by_kind_among_what_could_be_told() -> None:
    figures = UsageFigures(requests=5, errors=1, judged=2, misshapen=1, ended=3, cut_short=2)
    made = record_demand([UsageCell(START, figures, alias="acme-support")], 7)
    assert made is not None
    faults = made.adapters["acme-support"].faults
    assert faults == EndpointFaults(5, 1, 2, 1, 3, 2)


tokens = st.none() | st.integers(1, 10**6)
demands = st.builds(
    ObservedDemand,
    rpm=st.lists(st.floats(0, 1e6), min_size=24, max_size=24).map(tuple),
    prompt_tokens=tokens,
    output_tokens=tokens,
    faults=st.none() | st.builds(EndpointFaults, *[st.integers(0, 10**9)] * 6),
)


@given(adapters=st.dictionaries(st.from_regex(r"[a-z]{1,5}-[a-z]{1,5}", fullmatch=True), demands))
def test_the_file_reads_back(adapters: dict[str, ObservedDemand]) -> None:
    made = Recording(START, START + timedelta(days=7), dict(sorted(adapters.items())))
    assert parse_recorded_demand(recorded_demand_text(made)) == made


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2}', "null", "\udcff"])
def test_another_file_is_refused_with_the_command_that_helps(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recorded_demand(text)
    (found,) = caught.value.diagnostics
    assert (found.code, found.command) == ("FC1227", "fleetctl demand record")


def test_the_users_of_a_recording_are_kept_and_read_back() -> None:
    made = record_demand(
        [*asked("a-b", 0, 9, 60), *asked("c-d", 0, 9, 60)], 7, {"a-b": 12, "c-d": 0}
    )
    assert made is not None
    assert (made.adapters["a-b"].users, made.adapters["c-d"].users) == (12, None)
    text = recorded_demand_text(made)
    assert text.count('"users"') == 1
    assert parse_recorded_demand(text) == made
