"""What happens to servers of a box, and to the box: told apart, and never made worse."""

import asyncio
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineError
from fleet.hardware import DeviceSpec
from fleet.names import adapter_address
from fleet.resources import Server
from runtime.engines.protocol import Engine
from runtime.engines.remote.engine import SshEngine
from runtime.engines.remote.units import launch_log
from tests.beds.engine_bench import BOX, STORE_THERE, UNITS

if TYPE_CHECKING:
    from runtime.engine_conformance import Use
    from tests.beds.engine_bench import BoxBench

pytestmark = pytest.mark.boxes
NOWHERE = ("-p", "1", "-o", "ControlPath=none")


def code_of(bench: "BoxBench", call: "Use") -> str:
    with pytest.raises(EngineError) as raised:
        bench.run(call)
    return raised.value.diagnostics[0].code


def test_a_second_checkout_sees_the_same_servers_and_adapters(ready: "BoxBench") -> None:
    name, folder = ready.adapter("acme")
    ready.run(lambda engine: engine.load(ready.server.name, name, folder))
    other = replace(ready, state_dir=ready.root / "other", root=ready.root / "elsewhere")
    assert other.observe() == ready.observe()
    assert set(other.observe().adapters()) == {adapter_address(name, ready.server.name)}


def test_a_box_that_ssh_does_not_reach_is_asked_through_forwards_that_stand(
    ready: "BoxBench",
) -> None:
    before = ready.observe()
    away = replace(ready, options=NOWHERE)
    seen = away.observe()
    assert (seen.servers(), seen.unknown_servers) == (before.servers(), {})
    (note,) = seen.notes
    assert note.startswith(f"Host {BOX} is not reached: `{BOX}`: ")

    async def unforward(engine: Engine) -> None:
        assert isinstance(engine, SshEngine)
        await engine.observe()  # opens the connection
        port = ready.server.port
        await engine.ssh.cancel_forward(port, port, ready.host.reached_at)

    ready.run(unforward)
    seen = away.observe()
    assert (seen.resources, set(seen.unknown_servers)) == ({}, {ready.server.name})
    assert ready.observe() == before


def test_a_box_that_is_cut_off_is_unknown_and_not_gone(ready: "BoxBench") -> None:
    before = ready.observe()
    ready.bed.do("cut", BOX)
    try:
        seen = ready.observe()
        assert (seen.resources, set(seen.unknown_servers)) == ({}, {ready.server.name})
        assert seen.ports == {ready.server.name: ready.server.port}
        assert code_of(ready, lambda engine: engine.start(ready.server)) == "FC4090"
    finally:
        ready.bed.until_mended(BOX)
    assert ready.observe() == before


def test_a_server_of_another_fleet_is_neither_shown_nor_touched(ready: "BoxBench") -> None:
    name, folder = ready.adapter("acme")
    ready.run(lambda engine: engine.load(ready.server.name, name, folder))
    before, launch = ready.observe(), ready.served_launch()
    other = replace(ready, fleet="other", state_dir=ready.root / "others-state")
    assert other.observe().resources == {}
    assert code_of(other, lambda engine: engine.check_start(ready.server)) == "FC4101"
    assert code_of(other, lambda engine: engine.start(ready.server)) == "FC4101"
    assert code_of(other, lambda engine: engine.load(ready.server.name, name, folder)) == "FC4017"
    other.run(lambda engine: engine.unload(ready.server.name, name))
    other.run(lambda engine: engine.stop(ready.server.name))
    assert (ready.observe(), ready.served_launch()) == (before, launch)
    assert name in ready.there("cat .local/share/fleetctl/servers/*/adapters.json")


def test_a_gpu_that_a_running_server_has_for_itself_gets_no_other_server(
    ready: "BoxBench",
) -> None:
    """A checkout with an earlier base, and another fleet, have started it; `ready` has no GPU."""
    host = replace(ready.host, devices=(DeviceSpec("gpu0", "rtx4090_24g", 24 << 30, 0, 8100),))

    def bench(base: str, port: int, share: float, fleet: str = "bench") -> "BoxBench":
        old = ready.server.flags
        assert old is not None
        flags = replace(old, kv_cache_bytes=None, memory_share=share)
        server = Server(f"{base}-{BOX}-gpu0", "tiny", BOX, ("gpu0",), port, flags.digest, flags)
        return replace(ready, host=host, server=server, fleet=fleet)

    stale, new = bench("stale", 8100, 0.45), bench("new", 8101, 0.9)
    stale.start()
    before, launch = stale.observe(), stale.served_launch()
    for refused, command in (
        (new, f"fleetctl server stop {stale.server.name}"),
        (replace(new, fleet="other"), f"ssh {BOX} systemctl --user disable --now fleetctl-stale-"),
    ):
        with pytest.raises(EngineError, match=r"of fleet `bench` runs on GPU 0") as raised:
            refused.start()
        assert raised.value.diagnostics[0].code == "FC4102"
        assert raised.value.diagnostics[0].command.startswith(command)
    assert (stale.observe(), stale.served_launch()) == (before, launch)
    half = bench("half", 8101, 0.45)
    half.start()
    for started in (half, stale):
        started.run(lambda engine: engine.stop(started.server.name))  # noqa: B023
    new.start()
    new.run(lambda engine: engine.stop(new.server.name))


def test_a_unit_changed_by_hand_is_named_and_written_anew_once_it_does_not_answer(
    ready: "BoxBench",
) -> None:
    unit, launch = f"fleetctl-{ready.server.name}.service", ready.served_launch()
    ready.there(
        f"sed -i s/RestartSec=1/RestartSec=2/ {UNITS}/{unit}; systemctl --user daemon-reload"
    )
    seen = ready.observe()
    assert set(seen.servers()) == {ready.server.name}
    (note,) = seen.notes
    assert unit in note
    ready.start()
    assert ready.served_launch() == launch
    ready.there(f"touch hold; systemctl --user restart {unit}")
    assert ready.observe().resources == {}
    ready.there("(sleep 1; rm hold) >/dev/null 2>&1 &")
    ready.start()
    assert ready.served_launch() != launch
    assert not ready.unit().is_edited
    assert ready.observe().notes == ()


def test_a_start_that_was_interrupted_is_joined(ready: "BoxBench") -> None:
    ready.run(lambda engine: engine.stop(ready.server.name))
    ready.there("touch hold")

    async def interrupted(engine: Engine) -> None:
        starting = asyncio.create_task(engine.start(ready.server))
        while not (await engine.observe()).notes:
            assert not starting.done()
        starting.cancel()

    ready.run(interrupted)
    launch = ready.served_launch()
    ready.there("rm hold")
    ready.start()
    assert ready.served_launch() == launch


def test_a_server_that_ends_at_its_start_leaves_its_log_and_no_unit(ready: "BoxBench") -> None:
    ready.run(lambda engine: engine.stop(ready.server.name))
    ready.there("touch fail")
    try:
        with pytest.raises(EngineError, match="no room for the base") as raised:
            ready.start()
    finally:
        ready.there("rm fail")
    assert raised.value.diagnostics[0].code == "FC4012"
    assert ready.there(f"ls {UNITS}/fleetctl-* || :") == ""
    assert (ready.observe().resources, ready.observe().notes) == ({}, ())


def test_a_start_that_cannot_succeed_is_refused_before(ready: "BoxBench") -> None:
    def check(bench: "BoxBench") -> str:
        return code_of(bench, lambda engine: engine.check_start(bench.server))

    ready.run(lambda engine: engine.check_start(ready.server))  # runs: for `start` to judge
    ready.run(lambda engine: engine.stop(ready.server.name))
    ready.run(lambda engine: engine.check_start(ready.server))
    assert check(replace(ready, host=replace(ready.host, python="no/python"))) == "FC4018"
    port = ready.server.port
    squatter = f"{sys.executable} -m http.server --bind 127.0.0.1 {port}"
    ready.there(f"systemd-run --user --quiet --collect --unit=squatter {squatter}")
    ready.there(f'until [ "$(ss -Hltn sport = {port})" ]; do sleep 0.1; done')
    try:
        assert check(ready) == "FC4011"
    finally:
        ready.there("systemctl --user stop squatter")


def test_a_damaged_copy_is_left_and_a_fresh_path_is_loaded(ready: "BoxBench") -> None:
    name, folder = ready.adapter("damaged")
    there = ready.path_there(folder)
    ready.run(lambda engine: engine.load(ready.server.name, name, folder))
    ready.run(lambda engine: engine.unload(ready.server.name, name))
    ready.there(f"chmod u+w {there}/*; echo >>{there}/adapter_config.json")
    ready.run(lambda engine: engine.load(ready.server.name, name, folder))
    (adapter,) = ready.observe().adapters().values()
    assert (adapter.path, adapter.digest) == (f"{there}-2", there.removeprefix(f"{STORE_THERE}/"))


def test_what_is_not_kept_does_not_come_back(ready: "BoxBench") -> None:
    names = []
    for client in ("acme", "birch"):
        name, folder = ready.adapter(client)
        names.append(adapter_address(name, ready.server.name))
        ready.run(lambda engine: engine.load(ready.server.name, name, folder))  # noqa: B023
    live = ready.observe()
    ready.run(lambda engine: engine.keep_for_restart(live, names[:1]))
    ready.kill()
    ready.start()
    assert list(ready.observe().resolvable) == names[:1]


def test_the_log_is_that_of_a_launch_or_of_the_launch_before(ready: "BoxBench") -> None:
    name = ready.server.name
    ready.kill()
    ready.start()

    async def logs(engine: Engine) -> tuple[str, str, str]:
        assert isinstance(engine, SshEngine)
        with pytest.raises(EngineError) as raised:
            await launch_log(engine.ssh, "nothing", None)
        assert raised.value.diagnostics[0].code == "FC4021"
        now, end = await launch_log(engine.ssh, name, None), await launch_log(engine.ssh, name, 1)
        return now, end, await launch_log(engine.ssh, name, None, previous=True)

    now, end, before = ready.run(logs)
    assert "code=killed" in before
    assert "code=killed" not in now
    assert now.endswith(end)
    assert end.count("\n") == 1
