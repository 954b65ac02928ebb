"""Servers of this fleet that run without a launch record: started by hand, or records lost."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from fleet.errors import EngineError
from fleet.names import Stamps
from fleet.resources import State
from fleet.vllm import compiled_launch, launch_of
from runtime.engine_registry import write_missing_records
from runtime.engines.launch_records import HOME
from runtime.engines.protocol import Engine
from runtime.engines.recognition import FLEET, FleetMark, started_by_others
from runtime.engines.vllm_api import list_models
from tests.removal import remove_tree

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench

REPOSITORY = Path(__file__).parents[3]


@contextmanager
def by_hand(bench: "Bench", **variables: str) -> Iterator[int]:
    """Run the server as `fleetctl compile` prints it; give its process number once it answers."""
    with started(bench, **variables) as pid:
        asyncio.run(answers(bench))
        yield pid


@contextmanager
def started(bench: "Bench", **variables: str) -> Iterator[int]:
    """Run the server as `fleetctl compile` prints it, as a supervisor does; do not wait."""
    model = str(bench.root / "models" / "tiny")
    launch = launch_of(bench.server, bench.host, python=sys.executable, model=model)
    assert launch is not None
    environment = {**os.environ, **launch.environment, "PYTHONPATH": str(REPOSITORY), **variables}
    with subprocess.Popen(launch.arguments, env=environment, cwd=bench.root) as process:
        try:
            yield process.pid
        finally:
            process.kill()


async def answers(bench: "Bench") -> None:
    async with asyncio.timeout(120), bench.client() as http:
        while True:
            try:
                await list_models(http)
            except EngineError:
                await asyncio.sleep(0)
            else:
                return


def test_a_server_started_by_hand_is_the_server_and_needs_no_record(bench: "Bench") -> None:
    name, folder = bench.adapter("acme")
    with by_hand(bench) as pid:
        state: State = bench.run(lambda engine: engine.observe())
        assert state.servers() == {bench.server.name: bench.server}
        assert state.servers()[bench.server.name].flags == bench.server.flags
        assert state.launches == {bench.server.name: compiled_launch(bench.server)}
        (note,) = state.notes
        assert note == (
            f"Server {bench.server.name} runs without a launch record, as process {pid}: "
            "fleetctl adopt"
        )
        assert bench.records.read(bench.server.name) is None  # who observes changes nothing

        bench.run(lambda engine: engine.start(bench.server))  # the port is its own
        assert bench.record().pid == pid
        bench.run(lambda engine: engine.load(bench.server.name, name, folder))
        state = bench.run(lambda engine: engine.observe())
        assert (len(state.adapters()), state.notes) == (1, ())
        bench.run(lambda engine: engine.stop(bench.server.name))
        assert bench.run(lambda engine: engine.observe()).resources == {}


def test_a_supervisor_gets_time_to_start_its_server_again(bench: "Bench") -> None:
    with by_hand(bench):
        bench.run(lambda engine: engine.start(bench.server))
    first = bench.record().pid

    async def looks() -> None:
        its = bench.server, bench.host, bench.records, bench.root, FleetMark("bench")
        looking = asyncio.create_task(started_by_others(*its))
        await asyncio.sleep(0)  # the first look ends with a pause
        assert not looking.done()
        with started(bench) as second:
            found = await looking
        assert found is not None
        assert (found.pid, found.ready) == (second, False)
        assert bench.record() == found
        assert second != first

    asyncio.run(looks())


def test_a_server_that_no_supervisor_had_started_is_not_waited_for(bench: "Bench") -> None:
    its = bench.server, bench.host, bench.records, bench.root, FleetMark("bench")

    async def looks() -> None:
        looking = asyncio.create_task(started_by_others(*its))
        await asyncio.sleep(0)
        assert looking.done()
        assert looking.result() is None

    asyncio.run(looks())


@pytest.mark.parametrize("use", ["load", "adopt"])
def test_a_load_and_an_adoption_write_the_record(bench: "Bench", use: str) -> None:
    name, folder = bench.adapter("acme")
    with by_hand(bench) as pid:
        if use == "load":
            bench.run(lambda engine: engine.load(bench.server.name, name, folder))
        else:
            (written,) = write_missing_records([bench.host], bench.root, bench.state_dir, "bench")
            assert written.name == bench.server.name
            assert write_missing_records([bench.host], bench.root, bench.state_dir, "bench") == ()
        assert (bench.record().pid, bench.record().digest) == (pid, bench.server.digest)
        assert bench.record().server(bench.server.digest) == bench.server


def test_a_server_whose_state_folder_was_lost_is_recognised_and_keeps_its_launch(
    bench: "Bench",
) -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    remove_tree(bench.state_dir)
    state: State = bench.run(lambda engine: engine.observe())
    assert state.servers() == {bench.server.name: bench.server}
    assert state.launches == {bench.server.name: record.served_launch}
    bench.run(lambda engine: engine.start(bench.server))
    assert bench.record().model_copy(update={"base_files": record.base_files}) == record


def test_a_server_of_another_fleet_or_project_is_left_alone_and_never_to_be_killed(
    bench: "Bench", tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    (theirs / bench.server.name).mkdir(parents=True)
    (theirs / bench.server.name / "launch.json").write_text("{}")
    others: list[tuple[Mapping[str, str], str, str]] = [
        ({FLEET: "another"}, "FC4103", "serves fleet `another` on port"),
        ({HOME: str(theirs)}, "FC4011", "It serves `tiny`"),
    ]
    for variables, code, says in others:
        with by_hand(bench, **variables):
            assert bench.run(lambda engine: engine.observe()).resources == {}
            told = refused(bench, lambda engine: engine.start(bench.server))
            assert (told.code, told.command) == (code, "")
            assert says in told.detail + told.hint
            assert "kill" not in told.hint
    with by_hand(bench, **{HOME: str(tmp_path / "gone")}):  # its records are nowhere
        assert set(bench.run(lambda engine: engine.observe()).servers()) == {bench.server.name}


def test_a_server_started_by_hand_with_other_flags_is_seen_with_those(bench: "Bench") -> None:
    assert bench.server.flags is not None
    flags = replace(bench.server.flags, max_loras=2, extra=(("max-num-seqs", "8"), ("seed", "7")))
    other = replace(bench, server=replace(bench.server, flags=flags, digest=flags.digest))
    with by_hand(other):
        state: State = bench.run(lambda engine: engine.observe())
        (seen,) = state.servers().values()
        assert (seen.digest, seen.flags) == (flags.digest, flags)
        assert refused(bench, lambda engine: engine.start(bench.server)).code == "FC4016"


def test_another_launch_that_answers_at_a_servers_address_is_not_that_server(
    bench: "Bench",
) -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    ours = "".join(reversed(record.served_launch))
    words = [word.replace(record.served_launch, ours) for word in record.arguments]
    bench.records.write(record.model_copy(update={"arguments": tuple(words)}))
    state: State = bench.run(lambda engine: engine.observe())
    assert state.resources == {}
    assert state.launches == {bench.server.name: record.served_launch}
    assert state.ports == {bench.server.name: record.port}
    assert state.unknown_servers == {
        bench.server.name: f"launch {record.served_launch} answers at its address, and fleetctl "
        f"started {ours}"
    }


def test_each_start_draws_a_launch_and_the_flags_keep_their_digest(bench: "Bench") -> None:
    launches = set()
    for _ in range(2):
        bench.run(lambda engine: engine.start(bench.server))
        state: State = bench.run(lambda engine: engine.observe())
        assert state.servers() == {bench.server.name: bench.server}
        launches.add(state.launches[bench.server.name])
        assert bench.record().launch.startswith(state.launches[bench.server.name])
        bench.run(lambda engine: engine.stop(bench.server.name))
    assert len(launches) == 2


def test_a_record_without_a_launch_is_that_of_a_server_that_shows_none(bench: "Bench") -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    words = tuple(word for word in record.arguments if not Stamps.among([word]).launch)
    bench.run(lambda engine: engine.stop(bench.server.name))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen(words, env=environment, cwd=bench.root) as process:
        asyncio.run(answers(bench))
        state: State = bench.run(lambda engine: engine.observe())
        assert set(state.servers()) == {bench.server.name}
        assert state.launches == {}
        process.kill()


def refused(bench: "Bench", use: Callable[[Engine], Any]) -> Any:
    async def body(engine: Engine) -> Any:
        with pytest.raises(EngineError) as caught:
            await use(engine)
        return caught.value.diagnostics[0]

    return bench.run(body)
