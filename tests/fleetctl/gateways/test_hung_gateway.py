"""A gateway that takes connections and never answers is asked once by a command."""

import json
import socket
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from runtime.gateway.admin.admin_socket import short_path
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied

SOCKET = "hung.sock"
WHY = "does not answer: gateway `main` did not answer GET /-/config within 2 s"


@dataclass
class HungGateway:
    """An admin socket: the kernel takes connections and requests, and nothing answers."""

    listener: socket.socket

    def asked(self) -> list[str]:
        """Return the requests since the last call; the commands that sent them have ended."""
        requests = []
        with suppress(BlockingIOError):
            while True:
                connection, _ = self.listener.accept()
                with connection:
                    requests.append(connection.recv(1 << 16).decode().partition(" HTTP")[0])
        return requests


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet, applied, with the admin socket of the test for its gateway."""
    for project in applied(tmp_path_factory.mktemp("fleet")):
        file = project.root / "fleet.yaml"
        text = file.read_text("utf-8")
        file.write_text(text.replace("main: {listen", f"main: {{admin: {SOCKET}, listen"), "utf-8")
        yield project


@pytest.fixture
def gateway(project: Project) -> Iterator[HungGateway]:
    path = project.root / SOCKET
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(short_path(path)))
        listener.listen()
        listener.setblocking(False)
        yield HungGateway(listener)
    path.unlink()


@pytest.mark.parametrize(
    "command",
    [
        "status",
        "drift",
        "plan",
        "gateway status",
        "rollout list",
        "explain acme-support",
        "diagnose",
    ],
)
def test_a_command_asks_a_gateway_that_hangs_once(
    project: Project, gateway: HungGateway, command: str
) -> None:
    done = call(project, *command.split())
    assert done.returncode in (0, 2), done.stderr
    assert gateway.asked() == ["GET /-/config"]


def test_what_is_known_without_its_answer_is_shown(project: Project, gateway: HungGateway) -> None:
    shown = call(project, "status", "--format", "json")
    drifted = call(project, "drift", "--format", "json")
    assert (shown.returncode, drifted.returncode) == (0, 2)
    for found in (json.loads(shown.stdout)["outages"], json.loads(drifted.stdout)["causes"]):
        (outage,) = found
        assert outage["subject"] == "gateway/main"
        assert outage["summary"] == WHY
    assert len(gateway.asked()) == 2


def test_the_same_gateway_once_it_answers_shows_its_split(project: Project) -> None:
    file = project.root / "clients" / "acme.yaml"
    file.write_text(file.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert requests(project) == {"2.1.0": None, "2.2.0": None}
    assert call(project, "gateway", "start").returncode == 0
    assert requests(project) == {"2.1.0": 0, "2.2.0": 0}


def requests(project: Project) -> dict[str, int | None]:
    """Return the counted requests of an alias by version, as `status` shows them."""
    shown = json.loads(call(project, "status", "--client", "acme", "--format", "json").stdout)
    (alias,) = (alias for alias in shown["aliases"] if alias["alias"] == "acme-support")
    return {version["version"]: version["requests"] for version in alias["versions"]}
