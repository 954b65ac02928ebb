"""Every probe on the wire, on both transports: no client reaches or sees another one."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from runtime.gateway import places
from tests.runtime.gateway.probes import FORBIDDEN, PROBES, STATUSES, Outcome, Probe
from tests.runtime.gateway.replay import Answer, replay
from tests.runtime.gateway.stage import ACME, MAIN, NEW, OLD, Stage, chat, stage, table

pytestmark = pytest.mark.usefixtures("transport")
SWAPS = 60
AT_ONCE = 8


async def replayed(ours: Stage, probe: Probe) -> Answer:
    port = int(ours.url.rpartition(":")[2])
    return await replay("127.0.0.1", port, probe.wire(f"127.0.0.1:{port}"))


async def metrics(ours: Stage) -> bytes:
    connector = aiohttp.UnixConnector(str(places.socket_path(ours.state, MAIN)))
    async with (
        aiohttp.ClientSession(connector=connector) as admin,
        admin.get("http://gateway/metrics") as reply,
    ):
        return await reply.read()


async def leaks(ours: Stage, answers: Mapping[str, Answer]) -> list[str]:
    """Return where something of another client's, or a secret, shows."""
    places_searched = {name: each.raw for name, each in answers.items()}
    places_searched["the usage log"] = (ours.state / "gateways/main/usage.jsonl").read_bytes()
    places_searched["the metrics"] = await metrics(ours)
    return [
        f"{word!r} in {place}"
        for place, found in places_searched.items()
        for word in FORBIDDEN
        if word in found
    ]


def surprises(answers: Mapping[str, Answer]) -> dict[str, tuple[int, int]]:
    """Return status and count of the answers that are not as the probes say."""
    return {
        probe.name: (answers[probe.name].status, answers[probe.name].count)
        for probe in PROBES
        if answers[probe.name].status not in STATUSES[probe.outcome]
        or answers[probe.name].count > 1
    }


def test_no_probe_reaches_or_shows_what_is_not_its_own(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert len(PROBES) == len({each.name for each in PROBES}) >= 150

    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl") as ours:
            answers = {}
            for each in PROBES:
                before = len(ours.asked)
                answers[each.name] = await replayed(ours, each)
                reached = ours.asked[before:]
                assert (each.name, reached) == (
                    each.name,
                    [OLD] if each.outcome is Outcome.SERVED else [],
                )
            assert surprises(answers) == {}
            unknown = [each.name for each in PROBES if each.outcome is Outcome.UNKNOWN]
            assert len({answers[name].body for name in unknown}) == 1
            assert await leaks(ours, answers) == []

    asyncio.run(scenario())
    said = capfd.readouterr()
    assert not [word for word in FORBIDDEN if word.decode() in said.out + said.err]


def test_no_probe_slips_through_while_the_table_is_swapped(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with stage(tmp_path / ".fleetctl", new=50) as ours:
            answers: dict[str, Answer] = {}
            waiting = iter(PROBES)

            async def client() -> None:
                for each in waiting:
                    answers[each.name] = await replayed(ours, each)

            async def swap() -> None:
                for number in range(SWAPS):
                    made = table(ours.servers, new=number % 101, revision=number + 2)
                    assert await ours.gateways.publish(made) == ()

            await asyncio.gather(*(client() for _ in range(AT_ONCE)), swap())
            assert surprises(answers) == {}
            assert set(ours.asked) <= {OLD, NEW}
            assert await leaks(ours, answers) == []
            assert (await ours.send(chat(), secret=ACME)).status == 200

    asyncio.run(scenario())
