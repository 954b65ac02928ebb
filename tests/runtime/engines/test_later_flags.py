"""A server whose flags a later release decided: unknown to this one, and so left alone."""

from dataclasses import replace
from typing import TYPE_CHECKING

from runtime.engines.protocol import Engine

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench


def test_a_server_of_a_later_format_is_unknown_and_not_missing(bench: "Bench") -> None:
    later = f"2.{bench.server.digest}"

    async def use(engine: Engine) -> None:
        await engine.start(replace(bench.server, digest=later))  # returns once it shows its digest
        seen = await engine.observe()
        assert seen.servers() == {}
        reason = seen.unknown_servers[bench.server.name]
        assert f"The flags of `{bench.server.name}` are of format 2" in reason

    bench.run(use)
    assert bench.record().digest == later
    assert f"fleetctl-{later}" in bench.record().arguments
