"""A new version that is slow, or that slows others, is caught; on a fake server and on a real vLLM.

The two versions are on two servers, and another client's adapter on both. What is wrong is wrong
with the server of the new version, so that the old one shows what is usual.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest

from fleet.gates.decide import Finding, Verdict
from fleet.hardware import DeviceSpec, HostSpec
from fleet.names import AdapterName
from fleet.policies import GateSpec, RolloutPolicy
from fleet.resources import Server, ServerFlags
from fleet.traffic import Sticky
from runtime.engine_registry import make_engine
from runtime.engines.protocol import HostSetup
from runtime.gates.live import judge_traffic
from runtime.gateway.control.control import LocalGateways
from runtime.gateway.process import serving
from runtime.gateway.table.table import RoutingTable
from runtime.library.layout import folder_digest, version_folder
from runtime.library.served_copies import publish
from runtime.processes import in_session, listening, send
from runtime.usage.read import UsageReader
from tests.fleet.planning.builders import loaded, state
from tests.ports import free_port
from tests.runtime.gates.test_evidence import trial
from tests.runtime.gateway.live import CORVID, DATES, MODELS
from tests.runtime.gateway.stage import ACME, CHAT, MAIN, NEW, OLD, alias, chat, key, replica

GATES = (
    GateSpec("whole", "p95_ratio", 1.5, "x", min_requests=20),
    GateSpec("first", "first_token_ratio", 1.5, "x", min_requests=20, alarm_at=1.1),
    GateSpec("token", "token_time_ratio", 1.5, "x", min_requests=20),
    GateSpec("near", "neighbour_ratio", 1.25, "x", min_requests=20),
)
PACE = RolloutPolicy("standard", (50, 100), timedelta(hours=1), timedelta(days=7), ("whole",))
BEFORE, DURING, TOKENS = 40, 70, 5
PACE_S = 0.03
"""A token of the fake servers: longer than a busy machine makes anybody wait."""
NEAR, FAR = "near", "far"


@dataclass
class Fleet:
    """A gateway before two servers; the new version is on the one that is near."""

    root: Path
    servers: dict[str, str]
    url: str
    http: aiohttp.ClientSession
    gateways: LocalGateways
    at_once: int = 1
    """Rounds of questions at the same time; as many before as while it is pressed."""
    rounds: int = DURING

    async def publish(self, revision: int, new: int) -> None:
        table = RoutingTable(
            revision=revision,
            servers=self.servers,
            aliases={
                "acme-support": alias("acme", (NEW, new, (NEAR,)), (OLD, 100 - new, (FAR,))),
                "corvid-dates": alias("corvid", (DATES, 100, (NEAR, FAR))),
            },
            keys=key("acme", ACME) | key("corvid", CORVID),
        )
        await self.gateways.publish(table)

    async def ask(self, model: str, secret: str, number: int) -> None:
        body = chat(
            model, f"Paid on 15/11/{2000 + number % 20}", stream=True, temperature=0,
            max_tokens=TOKENS, ignore_eos=True, user=f"user-{number}",
        )  # fmt: skip
        headers = {"Authorization": f"Bearer {secret}"}
        async with self.http.post(self.url + CHAT, json=body, headers=headers) as reply:
            await reply.read()
            assert reply.status == 200

    async def both(self, numbers: range, at_once: int = 1) -> None:
        """Let both clients ask, the one a question and the other two, so many at once."""
        for first in numbers[::at_once]:
            each = range(first, min(first + at_once, numbers.stop))
            await asyncio.gather(
                *(self.ask("acme-support", ACME, number) for number in each),
                *(self.ask("corvid-dates", CORVID, number) for number in each),
                *(self.ask("corvid-dates", CORVID, -number - 1) for number in each),
            )

    async def judged(self, pressed: object) -> dict[str, Finding]:
        """Ask before, begin the rollout, ask under whatever presses, and judge."""
        await self.publish(1, 0)
        await self.both(range(4))  # what is asked first is slow for everybody
        (self.root / "gateways/main/usage.jsonl").write_bytes(b"")
        await self.both(range(BEFORE), self.at_once)
        await self.publish(2, 50)
        since = datetime.now(UTC)
        async with pressed:  # type: ignore[attr-defined]
            await self.both(range(BEFORE, BEFORE + self.rounds), self.at_once)
        now = datetime.now(UTC) + timedelta(seconds=1)
        live = state(loaded(NEW, NEAR), loaded(OLD, FAR), loaded(DATES, NEAR), loaded(DATES, FAR))
        tried = replace(trial(50, NEAR), since=since, live=GATES, sticky=Sticky.SESSION)
        found = judge_traffic(tried, PACE, live, (), UsageReader(self.root), now)
        return {each.finding.gate: each.finding for each in found}


@asynccontextmanager
async def fleet(root: Path, servers: dict[str, str]) -> AsyncIterator[Fleet]:
    connector = aiohttp.TCPConnector(limit=0)
    async with (
        serving(root, MAIN) as url,
        aiohttp.ClientSession(connector=connector) as http,
    ):
        gateways = LocalGateways(root, {"main": MAIN})
        yield Fleet(root, servers, url, http, gateways)
        await gateways.close()


@asynccontextmanager
async def nothing() -> AsyncIterator[None]:
    yield


def verdicts(found: dict[str, Finding]) -> dict[str, Verdict]:
    return {name: each.verdict for name, each in found.items()}


@pytest.mark.parametrize("slow", [False, True])
def test_a_slow_version_fails_and_passes_no_gate_on_time_and_a_healthy_one_does_not_fail(
    tmp_path: Path,
    slow: bool,  # noqa: FBT001
) -> None:
    async def scenario() -> None:
        async with AsyncExitStack() as stack:
            near = await stack.enter_async_context(replica(NEW, DATES, token_seconds=PACE_S))
            far = await stack.enter_async_context(replica(OLD, DATES, token_seconds=PACE_S))

            @asynccontextmanager
            async def slower() -> AsyncIterator[None]:
                near.memory.config = replace(near.memory.config, token_seconds=5 * PACE_S)
                yield

            urls = {NEAR: near.url, FAR: far.url}
            ours = await stack.enter_async_context(fleet(tmp_path / ".fleetctl", urls))
            ours.at_once = 7
            found = await ours.judged(slower() if slow else nothing())
            said = {name: each.reason for name, each in found.items()}
            # The fake server says that it begins before its first token, as vLLM does not; and as
            # all its answers take the same time, a busy machine makes both versions late by turns.
            ours_only = {name: each for name, each in verdicts(found).items() if name != "first"}
            assert (Verdict.FAIL in ours_only.values()) is slow, said
            assert not slow or Verdict.PASS not in ours_only.values(), said

    asyncio.run(scenario())


@asynccontextmanager
async def two_vllm(python: Path, root: Path) -> AsyncIterator[dict[str, str]]:
    """Run two real servers; the new version on the near one, another client's on both."""
    urls = {}
    async with AsyncExitStack() as stack:
        for name, adapters in ((NEAR, (NEW, DATES)), (FAR, (OLD, DATES))):
            port = free_port()
            host = HostSpec(name, "local", devices=(DeviceSpec("cpu0", "cpu", 8 << 30, 0.0, port),),
                        python=str(python))  # fmt: skip
            flags = ServerFlags(
                model=str(MODELS / "base" / "tiny"), served_name="tiny", max_loras=3,
                max_lora_rank=16, max_cpu_loras=4, dtype="bfloat16", max_model_len=512,
                kv_cache_bytes=64 << 20,
            )  # fmt: skip
            server = Server(f"tiny-{name}-cpu0", "tiny", name, ("cpu0",), port, flags.digest, flags)
            engine = make_engine(HostSetup(host, root, root / f".{name}", "test"))
            stack.push_async_callback(engine.close)
            stack.push_async_callback(engine.stop, server.name)
            await engine.start(server)
            for adapter in adapters:
                folder = version_folder(MODELS, AdapterName.parse(adapter))
                source = publish(folder, folder_digest(folder), root / f".{name}" / "store")
                await engine.load(server.name, adapter, str(source))
            urls[name] = f"http://127.0.0.1:{port}"
        yield urls


@asynccontextmanager
async def pressed(ours: Fleet) -> AsyncIterator[None]:
    """Let the near server have a fifth of its time, as if its new version kept it busy."""
    (leader,) = listening(int(ours.servers[NEAR].rpartition(":")[2]))
    assert os.getsid(leader) != os.getsid(0)
    whole = in_session(os.getsid(leader))

    def tell(number: signal.Signals) -> None:
        for pid in whole:
            send(pid, number)

    async def stop_and_go() -> None:
        while True:
            tell(signal.SIGSTOP)
            await asyncio.sleep(0.2)
            tell(signal.SIGCONT)
            await asyncio.sleep(0.05)

    running = asyncio.create_task(stop_and_go())
    try:
        yield
    finally:
        running.cancel()
        tell(signal.SIGCONT)


@pytest.mark.live
@pytest.mark.proof
def test_a_version_that_keeps_its_server_busy_is_caught_by_its_times_and_by_its_neighbours(
    vllm_python: Path, tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with (
            two_vllm(vllm_python, tmp_path) as urls,
            fleet(tmp_path / ".fleetctl", urls) as ours,
        ):
            ours.rounds, ours.at_once = 160, 4
            found = await ours.judged(pressed(ours))
            said = {name: (each.verdict, each.reason) for name, each in found.items()}
            failed = {name for name, (verdict, _) in said.items() if verdict is Verdict.FAIL}
            assert failed == {"whole", "first", "token", "near"}, said

    asyncio.run(scenario())
