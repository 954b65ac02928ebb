"""The local engine's care for its processes, shown on fake servers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fleet.errors import EngineError, EngineTimedOutError, EngineUnreachableError
from fleet.resources import State
from runtime.engine_registry import make_engine
from runtime.engines.launch_records import MARK, LaunchRecord
from runtime.engines.local import LocalEngine
from runtime.engines.observation import base_digest
from runtime.engines.protocol import Engine, HostSetup
from runtime.processes import start_mark

if TYPE_CHECKING:
    from tests.runtime.engines.conftest import Bench

CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
print("ready", child.pid, flush=True)
time.sleep(600)
"""


def write_record(bench: "Bench", **changes: object) -> LaunchRecord:
    flags = bench.server.flags
    assert flags is not None
    url = f"http://127.0.0.1:{bench.server.port}"
    record = LaunchRecord.of(bench.server, flags, url, "mark-of-a-test")
    record = record.model_copy(update=changes)
    bench.records.write(record)
    return record


def test_a_record_is_read_back_as_it_was_written(bench: "Bench") -> None:
    assert bench.server.flags is not None
    flags = replace(bench.server.flags, extra=(("seed", "7"), ("enforce-eager", "")))
    bench = replace(bench, server=replace(bench.server, flags=flags, digest=flags.digest))
    record = write_record(bench, pid=7, process_start="8")
    assert bench.record() == record
    assert bench.record().flags.digest == flags.digest


def test_a_server_that_ends_at_once_is_reported_with_its_last_words(bench: "Bench") -> None:
    assert bench.server.flags is not None
    flags = replace(bench.server.flags, max_lora_rank=17)

    async def use(engine: Engine) -> State:
        with pytest.raises(EngineError, match=r"invalid choice: '?17") as caught:
            await engine.start(replace(bench.server, flags=flags))
        assert caught.value.diagnostics[0].code == "FC4012"
        assert str(bench.records.log(bench.server.name)) in caught.value.diagnostics[0].hint
        return await engine.observe()

    state: State = bench.run(use)
    assert state.resources == {}
    assert state.unknown_servers == {}


def test_a_taken_port_is_a_clear_error_and_starts_nothing(bench: "Bench") -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(EngineError, match="Something else listens") as caught:
            await engine.start(bench.server)
        (told,) = caught.value.diagnostics
        assert told.code == "FC4011"
        assert f"process {os.getpid()}, `" in told.detail
        assert told.command == ""

    with socket.create_server(("127.0.0.1", bench.server.port)):
        bench.run(use)
    assert bench.records.read(bench.server.name) is None


def test_an_interpreter_that_does_not_exist_is_a_clear_error(bench: "Bench") -> None:
    host = replace(bench.host, engine="local", python="nowhere/bin/python")
    bench = replace(bench, host=host)

    async def use(engine: Engine) -> None:
        with pytest.raises(EngineError, match="nowhere/bin/python") as caught:
            await engine.start(bench.server)
        assert caught.value.diagnostics[0].code == "FC4018"
        assert caught.value.diagnostics[0].command == "fleetctl vllm install"

    bench.run(use)
    assert bench.records.read(bench.server.name) is None


def test_a_server_with_other_flags_is_not_taken_for_the_wanted_one(bench: "Bench") -> None:
    assert bench.server.flags is not None
    flags = replace(bench.server.flags, max_loras=2)

    async def use(engine: Engine) -> None:
        await engine.start(bench.server)
        with pytest.raises(EngineError, match="runs with flags") as caught:
            await engine.start(replace(bench.server, flags=flags, digest=flags.digest))
        assert caught.value.diagnostics[0].code == "FC4016"
        seen = await engine.observe()
        assert bench.server.name in seen.servers()
        files = base_digest(bench.root / bench.server.flags.model)  # type: ignore[union-attr]
        assert seen.bases == {bench.server.name: files}
        assert files

    bench.run(use)


def test_a_run_that_dies_before_it_knows_the_process_number_leaves_no_orphan(
    bench: "Bench",
) -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    unfinished = record.model_copy(update={"pid": 0, "process_start": "", "ready": False})
    bench.records.write(unfinished)

    async def use(engine: Engine) -> None:
        assert bench.server.name in (await engine.observe()).servers()
        await engine.start(bench.server)
        await engine.stop(bench.server.name)

    bench.run(use)
    assert start_mark(record.pid) is None


@pytest.mark.parametrize("lost", ["launch.json", "", ".."])
def test_a_server_whose_record_was_lost_is_known_from_its_process(
    bench: "Bench", lost: str
) -> None:
    """The record, the server's folder, or the folder of all servers."""
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    place = (bench.records.folder / bench.server.name / lost).resolve()
    place.unlink() if lost == "launch.json" else shutil.rmtree(place)
    assert bench.record() == record

    async def use(engine: Engine) -> None:
        if lost == "launch.json":
            assert (await engine.observe()).servers() == {bench.server.name: bench.server}
        await engine.start(bench.server)
        assert (await engine.observe()).servers() == {bench.server.name: bench.server}

    bench.run(use)
    assert (bench.records.folder / bench.server.name / "launch.json").is_file()
    assert bench.record() == record


def test_a_server_whose_record_was_lost_can_be_stopped(bench: "Bench") -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    bench.records.forget(bench.server.name)
    bench.run(lambda engine: engine.stop(bench.server.name))
    assert record.leader() is None
    assert list(bench.records.all()) == []


def test_workers_that_outlive_their_server_are_ended_before_the_next_start(
    bench: "Bench",
) -> None:
    bench.run(lambda engine: engine.start(bench.server))
    record = bench.record()
    command = [sys.executable, "-c", CHILD]
    environment = {**os.environ, MARK: record.launch}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        grandchild = int(worker.stdout.readline().split()[1])
        os.kill(record.pid, signal.SIGKILL)

        async def use(engine: Engine) -> None:
            bench.until_gone(record, leader_only=True)
            assert (await engine.observe()).resources == {}
            await engine.start(bench.server)

        bench.run(use)
        assert start_mark(worker.pid) is None
        assert start_mark(grandchild) is None
    assert bench.record().pid != record.pid


def test_another_process_with_the_same_number_is_not_ours(bench: "Bench") -> None:
    write_record(bench, pid=os.getpid(), process_start="0", ready=True)

    async def use(engine: Engine) -> State:
        state = await engine.observe()
        await engine.stop(bench.server.name)
        return state

    assert bench.run(use).resources == {}
    assert bench.records.read(bench.server.name) is None


def test_a_server_that_answered_before_and_does_not_now_is_unknown(bench: "Bench") -> None:
    bench.run(lambda engine: engine.start(bench.server))
    port = bench.server.port
    with_closed_port = bench.record().model_copy(update={"url": "http://127.0.0.1:9"})
    bench.records.write(with_closed_port)
    state: State = bench.run(lambda engine: engine.observe())
    assert state.resources == {}
    assert set(state.unknown_servers) == {bench.server.name}
    assert "cannot be reached" in state.unknown_servers[bench.server.name]
    assert bench.record().server(None).port == port
    assert state.ports == {bench.server.name: port}


def test_a_server_that_still_starts_is_absent_with_a_note_and_start_joins_it(
    bench: "Bench",
) -> None:
    command, environment = [sys.executable, "-c", CHILD], {**os.environ, MARK: "mark-of-a-test"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        mark = start_mark(process.pid)
        record = write_record(bench, pid=process.pid, process_start=mark)
        state: State = bench.run(lambda engine: engine.observe())
        assert state.resources == {}
        assert state.unknown_servers == {}
        assert state.notes == (f"Server {bench.server.name} is still starting.",)

        async def use(_: Engine) -> None:
            engine = make_engine(HostSetup(bench.host, bench.root, bench.state_dir))
            assert isinstance(engine, LocalEngine)
            engine.start_timeout_s = 0.1
            with pytest.raises(EngineTimedOutError) as caught:
                await engine.start(bench.server)
            assert caught.value.diagnostics[0].code == "FC4019"
            await engine.close()

        bench.run(use)
        assert bench.record() == record
        process.kill()


def test_a_process_that_ignores_sigterm_is_killed_with_its_children(bench: "Bench") -> None:
    stubborn = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n{CHILD}"
    environment = {**os.environ, MARK: "mark-of-a-test"}
    with subprocess.Popen(
        [sys.executable, "-c", stubborn],
        stdout=subprocess.PIPE,
        env=environment,
        start_new_session=True,
    ) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline().split()[1])
        write_record(bench, pid=process.pid, process_start=start_mark(process.pid))

        async def use(_: Engine) -> None:
            engine = make_engine(HostSetup(bench.host, bench.root, bench.state_dir))
            assert isinstance(engine, LocalEngine)
            engine.stop_timeout_s = 0.1
            await engine.stop(bench.server.name)
            await engine.close()

        bench.run(use)
        assert process.wait() == -signal.SIGKILL
        assert start_mark(child) is None


def test_the_log_of_the_launch_before_is_kept(bench: "Bench") -> None:
    log = bench.records.log(bench.server.name)
    log.parent.mkdir(parents=True)
    log.write_text("old\n")
    bench.run(lambda engine: engine.start(bench.server))
    assert Path(f"{log}.1").read_text() == "old\n"


def test_asking_a_server_that_was_never_started_is_unreachable(bench: "Bench") -> None:
    async def use(engine: Engine) -> None:
        with pytest.raises(EngineUnreachableError) as caught:
            await engine.complete(bench.server.name, "tiny", "hello")
        assert caught.value.diagnostics[0].code == "FC4017"

    bench.run(use)


def test_a_server_inherits_nothing_that_opens_it_up(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_SERVER_DEV_MODE", "1")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1")
    bench.run(lambda engine: engine.start(bench.server))
    raw = Path(f"/proc/{bench.record().pid}/environ").read_text()
    found = dict(pair.split("=", 1) for pair in raw.split("\0") if pair)
    assert "VLLM_SERVER_DEV_MODE" not in found
    assert "RAY_ADDRESS" not in found
    assert found["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] == "1"
    assert found["FLEETCTL_FLEET"] == "bench"


def test_a_record_holds_no_secret_of_the_environment(
    bench: "Bench", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOME_TOKEN", "hunter2")
    bench.run(lambda engine: engine.start(bench.server))
    text = json.dumps(bench.record().model_dump(mode="json"))
    assert "hunter2" not in text
