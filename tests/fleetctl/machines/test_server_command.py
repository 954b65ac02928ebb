"""`fleetctl server` works from the state folder alone."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from fleet.errors import EngineError
from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import Server, ServerFlags
from fleetctl.cli import main_group
from runtime.engine_registry import make_engine
from runtime.engines.protocol import HostSetup
from runtime.processes import lines_of
from tests.ports import free_port

FLAGS = ServerFlags("/models/tiny", "tiny", 2, 16, 4)


def fleetctl(folder: Path, *arguments: str) -> Result:
    result = CliRunner().invoke(main_group, ["-C", str(folder), *arguments])
    if isinstance(result.exception, EngineError):
        raise result.exception
    return result


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder without declarations in which one fake server was started."""
    port = free_port()
    host = HostSpec("laptop", "fake", devices=(DeviceSpec("cpu0", "cpu", 1, 0, port),))
    server = Server("tiny-laptop-cpu0", "tiny", "laptop", ("cpu0",), port, FLAGS.digest, FLAGS)

    async def start() -> None:
        engine = make_engine(HostSetup(host, tmp_path, tmp_path / ".fleetctl", "test"))
        await engine.start(server)
        await engine.close()

    asyncio.run(start())
    return tmp_path


def test_a_server_is_listed_and_stopped(project: Path) -> None:
    (row,) = json.loads(fleetctl(project, "server", "list", "--format", "json").stdout)
    assert row["server"] == "tiny-laptop-cpu0"
    assert row["state"] == "running"
    assert row["digest"] == FLAGS.digest
    assert "tiny-laptop-cpu0  running  pid" in fleetctl(project, "server", "list").stdout
    assert fleetctl(project, "server", "stop", "tiny-laptop-cpu0").exit_code == 0
    assert json.loads(fleetctl(project, "server", "list", "--format", "json").stdout) == []
    assert fleetctl(project, "server", "logs", "tiny-laptop-cpu0", "--lines", "3").exit_code == 0


def test_all_are_stopped_and_none_is_fine(project: Path) -> None:
    assert "stopped tiny-laptop-cpu0" in fleetctl(project, "server", "stop", "--all").stderr
    assert fleetctl(project, "server", "stop", "--all").exit_code == 0


@pytest.mark.parametrize("arguments", [["stop"], ["stop", "x", "--all"], ["frobnicate"]])
def test_wrong_usage_is_refused(tmp_path: Path, arguments: list[str]) -> None:
    assert fleetctl(tmp_path, "server", *arguments).exit_code == 2


@pytest.mark.parametrize("arguments", [["stop", "tiny-laptop-cpu1"], ["logs", "tiny-laptop-cpu1"]])
def test_an_unknown_server_is_an_error(tmp_path: Path, arguments: list[str]) -> None:
    with pytest.raises(EngineError) as caught:
        fleetctl(tmp_path, "server", *arguments)
    assert caught.value.diagnostics[0].code == "FC4021"


def test_a_log_is_followed_until_the_reader_goes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\n", encoding="utf-8")
    lines = lines_of(("tail", "-n", "+1", "-F", "--", str(log)))
    assert next(lines) == "one\n"
    with log.open("a", encoding="utf-8") as stream:
        stream.write("two\n")
    assert next(lines) == "two\n"
    lines.close()
