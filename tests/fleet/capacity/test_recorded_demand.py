"""Recorded demand: the percentile over days, means, and a file that reads back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.capacity.recorded_demand import (
    ObservedDemand,
    Recording,
    carried_on,
    parse_recorded_demand,
    record_demand,
    recorded_demand_text,
)
from fleet.errors import ConfigError
from fleet.policies import EndpointFaults
from fleet.usage import UsageCell, UsageFigures

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
