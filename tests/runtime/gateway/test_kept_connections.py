"""A client's connection between its requests."""

import asyncio
from pathlib import Path

import pytest

from fleet.traffic import TimeoutPolicy, TrafficPolicy
from runtime.gateway.http.timeouts import CLIENT_IDLE_S, SWEEP_S
from tests.runtime.gateway.sockets import answered, asked, connected, post, raw, scripted, told
from tests.runtime.gateway.stage import OLD, alias, stage, table, until


class Ahead(asyncio.SelectorEventLoop):
    """An event loop whose clock can be put forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


@pytest.mark.usefixtures("serving_loop")
def test_an_answer_that_took_long_leaves_its_connection_as_long_as_any_other(
    tmp_path: Path,
) -> None:
    loop = Ahead()

    async def scenario() -> None:
        may_answer = asyncio.Event()

        async def script(
            reader: asyncio.StreamReader, writer: asyncio.StreamWriter, _: int
        ) -> None:
            while True:
                await asked(reader)
                await may_answer.wait()
                writer.write(told("late"))

        async with stage(tmp_path / ".fleetctl") as ours, scripted(script) as url:
            policy = TrafficPolicy(timeouts=TimeoutPolicy(first_byte_s=600.0))
            entry = alias("acme", (OLD, 100, ("s1",)), policy=policy)
            given = table({"s1": url}, revision=2)
            aliases = {**given.aliases, "acme-support": entry}
            await ours.publish(given.model_copy(update={"aliases": aliases}))
            async with connected(ours) as (reader, writer):
                writer.write(post(raw()))
                await until(ours, 1)
                loop.ahead += CLIENT_IDLE_S + 5
                may_answer.set()
                assert (await answered(reader))[0] == 200
                loop.ahead += 2 * SWEEP_S
                for _ in range(3):
                    assert (await ours.send(path="/healthz", method="GET")).status == 200
                writer.write(post(raw()))
                assert (await answered(reader))[0] == 200

    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario())
