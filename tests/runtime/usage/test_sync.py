"""Live gates with gateways on other machines: every request counts, or it is said whose do not."""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.policies import GateSpec
from fleet.spec import GatewaySpec
from fleet.traffic import Sticky, TrafficPolicy
from runtime.gates.live import judge_traffic
from runtime.gateway.admin.admin import MAX_USAGE_PART
from runtime.gateway.control.client import usage_sources
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.usage.log import COPY_PREFIX, USAGE_PATH, segments
from runtime.usage.read import UsageReader
from runtime.usage.sync import sync_usage
from tests.fleet.planning.builders import loaded, state
from tests.ports import free_port
from tests.runtime.gates.test_evidence import PACE, trial
from tests.runtime.gateway.live import Served
from tests.runtime.gateway.stage import ACME, CHAT, MAIN, NEW, OLD, chat, raw_server, replica, table

GATE = GateSpec("errors", "error_rate_rise", 30, "pp", min_requests=5)
LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass
class Two:
    """Two gateways of a fleet: one here, one elsewhere with its admin side over TCP."""

    state: Path
    elsewhere: Path
    urls: dict[str, str]
    gateways: dict[str, GatewaySpec]
    http: aiohttp.ClientSession

    async def ask(self, gateway: str, user: str, times: int = 1) -> list[str]:
        """Ask a gateway as a user; return the versions that answered."""
        answered = []
        for _ in range(times):
            headers = {"Authorization": f"Bearer {ACME}"}
            body = chat(user=user, max_tokens=2)
            async with self.http.post(self.urls[gateway] + CHAT, json=body, headers=headers) as got:
                await got.read()
                answered.append(got.headers["x-fleetctl-version"])
        return answered

    async def collect(self, **skew: float) -> tuple[str, ...]:
        sources = usage_sources(self.state, self.gateways)
        return await sync_usage(sources, LONG_AGO, lambda: datetime.now(UTC) + timedelta(**skew))

    def judge(self, missing: tuple[str, ...] = ()) -> Finding:
        live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
        now = datetime.now(UTC)
        tried = replace(
            trial(50, "s1"), since=now - timedelta(minutes=4), live=(GATE,), sticky=Sticky.SESSION
        )
        usage = UsageReader(self.state, missing)
        (one,) = judge_traffic(tried, PACE, live, (), usage, now + timedelta(seconds=1))
        return one.finding


@asynccontextmanager
async def two(root: Path, monkeypatch: pytest.MonkeyPatch, server: str = "") -> AsyncIterator[Two]:
    """Run both gateways, before a fake server or the server at a URL."""
    monkeypatch.setenv("FLEET_SECRET", "the-operators-own-secret-of-this-fleet")
    here, there = root / "here/.fleetctl", root / "there/.fleetctl"
    here.mkdir(parents=True)
    there.mkdir(parents=True)
    near = replace(MAIN, secret="env:FLEET_SECRET")
    far = GatewaySpec("far", "127.0.0.1:0", f"http://127.0.0.1:{free_port()}", "env:FLEET_SECRET")
    declared = {"main": near, "far": far}
    async with (
        replica(OLD, NEW) as fake,
        serving(here, near) as url,
        serving(there, far) as url_far,
        aiohttp.ClientSession() as http,
    ):
        gateways = LocalGateways(here, declared)
        made = table({"s1": server or fake.url}, new=50)
        by_user = made.aliases["acme-support"].model_copy(update={"policy": TrafficPolicy()})
        made = made.model_copy(update={"aliases": {**made.aliases, "acme-support": by_user}})
        assert await gateways.publish(made) == ()
        await gateways.close()
        yield Two(here, there, {"main": url, "far": url_far}, declared, http)


def test_requests_of_a_gateway_elsewhere_count_and_a_user_of_both_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with two(tmp_path, monkeypatch) as ours:
            for number in range(12):
                near = await ours.ask("main", f"user-{number}", 2)
                assert {*near} == {*await ours.ask("far", f"user-{number}", 3)}
            before = ours.judge()
            assert await ours.collect() == ()
            after = ours.judge()
            whole = [sum(each.counts["requests"]) + sum(each.counts["requests_stable"])  # type: ignore[arg-type]
                     for each in (before, after)]  # fmt: skip
            assert whole == [24, 60]
            assert after.counts["units"] + after.counts["units_stable"] == 12  # type: ignore[operator]
            await ours.ask("far", "user-0")
            (copy,) = (ours.state / "gateways/far").glob(f"{COPY_PREFIX}*")
            size = copy.stat().st_size
            with copy.open("ab") as torn:  # a run that was killed while it wrote
                torn.write(b'{"time": "2031')
            assert await ours.collect() == ()
            log = ours.elsewhere / "gateways/far/usage.jsonl"
            assert copy.read_bytes() == log.read_bytes()
            assert copy.stat().st_size > size
            gateways = {segment.gateway for segment in segments(ours.state)}
            assert gateways == {"main"}  # whole, for bills

    asyncio.run(scenario())


@pytest.mark.live
def test_two_gateways_before_a_real_vllm_are_judged_as_one(
    vllm: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with two(tmp_path, monkeypatch, vllm.url) as ours:
            for number in range(40):
                await asyncio.gather(
                    ours.ask("main", f"user-{number}"), ours.ask("far", f"user-{number + 20}")
                )
            alone = ours.judge()
            assert await ours.collect() == ()
            found = ours.judge()
            requests = [sum(each.counts["requests"]) + sum(each.counts["requests_stable"])  # type: ignore[arg-type]
                        for each in (alone, found)]  # fmt: skip
            assert requests == [40, 80]
            assert found.counts["units"] + found.counts["units_stable"] == 60  # type: ignore[operator]
            assert found.verdict is Verdict.PASS, found.reason

    asyncio.run(scenario())


def test_a_gateway_that_does_not_answer_is_named_and_nothing_passes_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with two(tmp_path, monkeypatch) as ours:
            for number in range(60):
                await ours.ask("main", f"user-{number}")
            assert ours.judge().verdict is Verdict.PASS
        (why,) = await ours.collect()
        assert "requests of gateway far are lacking: it cannot be reached" in why
        found = ours.judge((why,))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert "nothing passes while a gateway is missing" in found.reason
        assert found.reason.endswith(why)

    asyncio.run(scenario())


def test_what_one_gateway_saw_fails_a_version_whoever_is_missing(tmp_path: Path) -> None:
    from tests.runtime.gates.test_evidence import NOON, logged, row  # noqa: PLC0415

    logged(tmp_path, *(row(1, NEW, 500) for _ in range(12)), *(row(1, OLD) for _ in range(12)))
    live = state(loaded(NEW, "s1"), loaded(OLD, "s1"))
    usage = UsageReader(tmp_path, ("requests of gateway far are lacking: it is on fire",))
    end = NOON + timedelta(minutes=5)
    (one,) = judge_traffic(trial(50, "s1"), PACE, live, (), usage, end)
    assert one.finding.verdict is Verdict.FAIL


def test_strangers_clocks_and_envoys_are_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with two(tmp_path, monkeypatch) as ours:
            (why,) = await ours.collect(seconds=-90)
            found = re.search(r"its clock is \+(\d+) s off", why)
            assert found, why
            assert 60 < int(found[1]) <= 90  # less what the answer took
            far = ours.gateways["far"]
            ours.gateways["far"] = replace(far, secret="")
            (why,) = await ours.collect()
            assert "Show the operator's secret" in why
            ours.gateways["far"] = replace(far, kind="envoy")
            (why,) = await ours.collect()
            assert "an Envoy on another machine" in why
            async with raw_server(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}") as (url, _):
                ours.gateways["far"] = replace(far, admin=url)
                (why,) = await ours.collect()
                assert "something else than its usage" in why

    asyncio.run(scenario())


def test_a_copy_that_takes_its_time_is_no_clock_that_is_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = timedelta()

    def seconds() -> float:
        nonlocal late
        late += timedelta(minutes=1)
        return 0.0

    async def scenario() -> None:
        async with two(tmp_path, monkeypatch) as ours:
            await ours.ask("far", "ana")
            clock = lambda: datetime.now(UTC) + late  # noqa: E731 (one line says it)
            sources = usage_sources(ours.state, ours.gateways)
            assert await sync_usage(sources, LONG_AGO, clock, seconds) == ()
            assert late

    asyncio.run(scenario())


def test_usage_is_shown_to_the_operator_in_whole_rows_and_to_nobody_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def scenario() -> None:
        async with two(tmp_path, monkeypatch) as ours:
            await ours.ask("far", "ana", 3)
            log = ours.elsewhere / "gateways/far/usage.jsonl"
            row = log.read_bytes().splitlines(keepends=True)[0]
            with log.open("ab") as more:
                more.write(row * (MAX_USAGE_PART // len(row) + 9))
            admin = ours.gateways["far"].admin
            async with ours.http.get(admin + USAGE_PATH) as refused:
                assert refused.status == 401
            proof = {"Authorization": f"Bearer {os.environ['FLEET_SECRET']}"}
            async with ours.http.get(admin + USAGE_PATH, headers=proof) as got:
                (file,) = (await got.json())["files"]
            assert file["size"] == log.stat().st_size
            path = f"{admin}{USAGE_PATH}/{file['key']}"
            async with ours.http.get(path, headers=proof) as got:
                first = await got.read()
            assert MAX_USAGE_PART - len(row) < len(first) <= MAX_USAGE_PART
            assert first.endswith(b"\n")
            for wrong, status in ((f"{path}?from=-1", 400), (f"{admin}{USAGE_PATH}/none", 404)):
                async with ours.http.get(wrong, headers=proof) as got:
                    assert got.status == status
            assert await ours.collect() == ()
            (copy,) = (ours.state / "gateways/far").glob(f"{COPY_PREFIX}*")
            assert copy.read_bytes() == log.read_bytes()

    asyncio.run(scenario())
