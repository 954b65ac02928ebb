"""Rows and numbers that a gateway keeps of its requests."""

import asyncio
import re
from collections import defaultdict
from pathlib import Path

import aiohttp
import pytest

from fleet.config.resolve.clients import USUAL_SLO_S
from fleet.traffic import LATENCY_BOUNDS_S, TrafficPolicy
from runtime.gateway.table.table_loader import build_routes
from runtime.gateway.traffic import accounting
from runtime.gateway.traffic.accounting import KEPT_S, UsageCounters, exposition
from runtime.usage.log import USAGE_FILE
from runtime.usage.row import UsageRow
from tests.runtime.gateway.admin_side import metrics_of
from tests.runtime.gateway.stage import NEW, OLD, alias, chat, stage, table, until


def test_buckets_are_cumulative_and_end_at_the_count() -> None:
    counters = UsageCounters()
    values = [0.0, 0.005, 0.0051, 1.0, 500.0]
    for value in values:
        row = UsageRow("", "", client="a", alias="a-b", version='v"1\\', status=200)
        row.latency_s, row.input_tokens = value, 3
        counters.count(row)
    lines = exposition(counters, {("s1", "v"): 2}, [], {}, 0).splitlines()
    labels = 'client="a",alias="a-b",version="v\\"1\\\\"'
    name = "fleetctl_request_seconds"
    buckets = [
        int(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name}_bucket{{")
    ]
    assert buckets == [
        sum(v <= bound for v in values) for bound in (*LATENCY_BOUNDS_S, float("inf"))
    ]
    assert f"{name}_count{{{labels}}} 5" in lines
    assert f"fleetctl_first_byte_seconds_count{{{labels}}} 0" in lines
    assert f"fleetctl_input_tokens_total{{{labels}}} 15" in lines
    assert 'fleetctl_in_flight{server="s1",adapter="v"} 2' in lines


def test_usual_promises_are_bounds() -> None:
    assert set(USUAL_SLO_S.values()) <= {*LATENCY_BOUNDS_S}


@pytest.mark.usefixtures("serving_loop")
def test_every_promise_is_a_bound_and_other_bounds_begin_histograms_again_at_0(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:

            async def asked(revision: int, *promises: float) -> dict[str, list[str]]:
                """Return bounds and counts of every series after a table and a request of each."""
                entries = {
                    name: alias(
                        "acme", (OLD, 100, ("s1",)), policy=TrafficPolicy(promise_s=promise)
                    )
                    for name, promise in zip(("acme-support", "acme-other"), promises, strict=True)
                }
                given = table(ours.servers, revision=revision)
                await ours.publish(given.model_copy(update={"aliases": entries}))
                for name in entries:
                    assert (await ours.send(chat(name))).status == 200
                shown = await metrics_of(ours.state)
                pattern = r'fleetctl_request_seconds_bucket\{.*alias="(.+?)".*le="(.+?)"\} (\d+)'
                found = defaultdict(list)
                for name, bound, count in re.findall(pattern, shown):
                    found[name].append(f"{bound} {count}" if bound == "+Inf" else bound)
                for name in entries:
                    (total,) = re.findall(rf'requests_total\{{.*"{name}".*\}} (\d+)', shown)
                    assert int(total) == revision - 1  # other counters go on
                return found

            def expected(*promises: float, count: int) -> dict[str, list[str]]:
                bounds = sorted({*LATENCY_BOUNDS_S, *promises})
                both = [*map(str, bounds), f"+Inf {count}"]
                return {"acme-support": both, "acme-other": both}

            assert await asked(2, 3.0, 0.3) == expected(0.3, 3.0, count=1)
            assert await asked(3, 0.3, 3.0) == expected(0.3, 3.0, count=2)
            assert await asked(4, 3.0, 45.0) == expected(3.0, 45.0, count=1)

    asyncio.run(scenario())


def test_series_of_a_version_end_an_hour_after_it_left_the_table() -> None:
    counters = UsageCounters()
    for name, version in (("acme-support", OLD), ("acme-support", ""), ("gone-x", "v"), ("", "")):
        counters.count(UsageRow("", "", client="acme", alias=name, version=version, status=200))
    document = table({"s1": "http://s1"})
    only_new = {"acme-support": alias("acme", (NEW, 100, ("s1",)))}
    given = build_routes(document)
    moved = build_routes(document.model_copy(update={"aliases": only_new}))
    counters.expire(given, 0.0)
    counters.expire(moved, KEPT_S - 1)
    assert len(counters.series) == 4
    counters.expire(moved, KEPT_S)
    assert {labels[1:] for labels in counters.series} == {
        ("acme-support", OLD), ("acme-support", ""), ("", ""),
    }  # fmt: skip
    counters.expire(given, KEPT_S + 1)  # rolled back: it counts on
    counters.expire(moved, 2 * KEPT_S)
    counters.expire(moved, 3 * KEPT_S - 1)
    assert ("acme", "acme-support", OLD) in counters.series
    counters.expire(moved, 3 * KEPT_S)
    assert ("acme", "acme-support", OLD) not in counters.series


@pytest.mark.usefixtures("serving_loop")
def test_a_scrape_drops_the_series_of_versions_that_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounting, "KEPT_S", 1e-9)

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            assert (await ours.send(chat())).version == OLD
            labels = f'alias="acme-support",version="{OLD}"'
            assert labels in await metrics_of(ours.state)
            await until(ours, 0)  # a version with a request in flight stays
            given = table(ours.servers, revision=2)
            only_new = {"acme-support": alias("acme", (NEW, 100, ("s1",)))}
            await ours.publish(given.model_copy(update={"aliases": only_new}))
            assert labels not in await metrics_of(ours.state)  # no other table came since

    asyncio.run(scenario())


@pytest.mark.usefixtures("serving_loop")
@pytest.mark.parametrize("streams", [False, True])
def test_what_cannot_be_put_on_record_is_not_answered(tmp_path: Path, *, streams: bool) -> None:
    log = tmp_path / ".fleetctl/gateways/main" / USAGE_FILE
    log.parent.mkdir(parents=True)
    log.symlink_to("/dev/full")
    ended = []

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            for _ in range(3):
                try:
                    reply = await ours.send(chat(stream=streams))
                except aiohttp.ClientError:
                    continue
                assert reply.status == 503
            await until(ours, 0)
            assert (await ours.send(path="/healthz", method="GET")).status == 200
            metrics = await metrics_of(ours.state)
            assert 'fleetctl_requests_total{client="acme"' not in metrics  # as little as a row
            ended.append(True)

    with pytest.raises(OSError, match="Invalid argument"):  # it cannot be synced at the end either
        asyncio.run(scenario())
    assert ended


@pytest.mark.usefixtures("serving_loop")
def test_the_row_is_in_the_log_when_the_answer_is_there(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:

            async def client(number: int) -> None:
                for _ in range(5):
                    reply = await ours.send(chat(stream=bool(number % 2)))
                    found = [row["request_id"] for row in ours.rows()]
                    assert found.count(reply.headers["x-request-id"]) == 1

            await asyncio.gather(*(client(number) for number in range(8)))
            assert len(ours.rows()) == 40

    asyncio.run(scenario())
