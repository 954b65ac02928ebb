"""State folders that others have planted or may read."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fleet.errors import FleetError
from runtime.files import make_private
from runtime.state_folder import require_private
from tests.attacks.conftest import Listener, call, declare
from tests.attacks.test_git import git
from tests.fleetctl import in_process
from tests.fleetctl.project_on_disk import Project

COMMANDS = [
    ("validate",),
    ("plan",),
    ("status",),
    ("drift",),
    ("history",),
    ("apply", "--auto", "--yes"),
    ("gateway", "status"),
    ("server", "stop", "--all"),
    ("rollback", "acme-support", "--reason", "test"),
    ("config", "show"),
]
"""Commands, each with the options that it needs."""


def others(path: Path) -> int:
    """Return the bits of a file's mode that let others in."""
    return stat.S_IMODE(path.lstat().st_mode) & 0o077


def a_link(state: Path) -> None:
    (state.parent.parent / "elsewhere").mkdir()
    state.symlink_to(state.parent.parent / "elsewhere")


def a_link_to_nothing(state: Path) -> None:
    state.symlink_to(state.parent.parent / "nothing")


def a_link_within(state: Path) -> None:
    (state.parent / "inside").mkdir()
    state.symlink_to("inside")


def a_file(state: Path) -> None:
    state.write_text("")


def a_fifo(state: Path) -> None:
    os.mkfifo(state)


FOLDERS: dict[str, Callable[[Path], None]] = {
    "a link": a_link,
    "a link to nothing": a_link_to_nothing,
    "a link within the project": a_link_within,
    "a file": a_file,
    "a FIFO": a_fifo,
}


@pytest.mark.parametrize("plant", FOLDERS.values(), ids=FOLDERS)
def test_a_folder_that_another_may_have_placed_is_refused(
    project: Path, plant: Callable[[Path], None]
) -> None:
    plant(project / ".fleetctl")
    done = call(project, "plan")
    assert (done.code, "FC6080" in done.text) == (1, True), done.text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_reads_a_folder_that_is_a_link(project: Path, command: tuple[str, ...]) -> None:
    a_link(project / ".fleetctl")
    assert "FC6080" in call(project, *command).text


@pytest.mark.needs("root")
def test_a_folder_of_another_user_is_refused(project: Path) -> None:
    (project / ".fleetctl").mkdir(mode=0o700)
    os.chown(project / ".fleetctl", 4242, 4242)
    assert "FC6080" in call(project, "plan").text


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_reads_a_folder_that_came_with_the_checkout(
    project: Path, command: tuple[str, ...]
) -> None:
    plant = project / ".fleetctl" / "servers" / "tiny-laptop-cpu0" / "launch.json"
    plant.parent.mkdir(parents=True)
    plant.write_text("{}")
    git(project, "init", "-q")
    git(project, "add", "-A", "-f")
    done = call(project, *command)
    assert (done.code, "FC6081" in done.text) == (1, True), done.text


@pytest.mark.parametrize("depth", ["", "fleets/one"])
def test_a_tracked_folder_is_found_below_the_top_and_with_its_modes_closed(
    tmp_path: Path, depth: str
) -> None:
    state = tmp_path / depth / ".fleetctl"
    make_private(state)
    (state / "routes.json").write_text("{}")
    git(tmp_path, "init", "-q")
    require_private(state)
    git(tmp_path, "add", "-A", "-f")
    with pytest.raises(FleetError) as refused:
        require_private(state)
    assert refused.value.diagnostics[0].code == "FC6081"
    git(tmp_path, "rm", "-rq", "--cached", str(state))
    require_private(state)


@pytest.fixture(params=[0o000, 0o002, 0o022, 0o077, 0o027])
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_what_is_made_is_its_owners_alone_whatever_the_umask(project: Path) -> None:
    assert call(project, "freeze", "--reason", "a test").code == 0
    assert call(project, "plan").code == 0
    made = [project / ".fleetctl", *(project / ".fleetctl").rglob("*")]
    assert len(made) > 2
    assert [str(path) for path in made if others(path)] == []


@pytest.mark.long
def test_no_file_of_a_running_fleet_is_reached_by_others_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    project = Project.copy(tmp_path / "project", None)
    try:
        for command in (
            "gateway start",
            "apply --auto --yes",
            "eval run acme-support",
            "freeze --reason test",
            "rollback acme-supportstate backup b.tar.gz",
        ):
            in_process.call(project, *command.split())
        state = project.root / ".fleetctl"
        assert others(state) == 0  # so nothing below is reached, whatever its mode
        made = [*state.rglob("*")]
        assert {"ledger.jsonl", "routes.json", "log", "store"} <= {path.name for path in made}
        served = [path for path in made if path.is_relative_to(state / "store")]
        assert served
        assert [str(path) for path in {*made} - {*served} if others(path)] == []
    finally:
        os.umask(before)
        project.clean_up()


@pytest.mark.usefixtures("umask")
def test_missing_parents_are_private_too(tmp_path: Path) -> None:
    make_private(tmp_path / "a" / "b" / "c")
    for name in ("a", "a/b", "a/b/c"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


def test_an_open_folder_of_ours_is_closed_and_the_copies_for_servers_stay(project: Path) -> None:
    state = project / ".fleetctl"
    for name in ("servers/one", "store/abc"):
        (state / name).mkdir(parents=True)
    for name in ("servers/one/launch.json", "store/abc/adapter_config.json"):
        (state / name).write_text("{}")
        (state / name).chmod(0o644)
    state.chmod(0o755)
    (project / "target").write_text("")
    (project / "target").chmod(0o644)
    (state / "link").symlink_to(project / "target")
    assert call(project, "plan").code == 0
    assert others(state) == 0
    assert others(state / "servers" / "one" / "launch.json") == 0
    assert others(state / "store" / "abc" / "adapter_config.json") == 0o044
    assert others(project / "target") == 0o044


def own_server(port: int, secret: str) -> str:
    return (
        "hosts: {near: {engine: attach, servers: {big: {url: "
        f'"http://127.0.0.1:{port}", base: tiny, max_loras: 4, max_lora_rank: 16, '
        f'api_key: "file:{secret}"}}}}}}}}\n'
    )


NAMED: dict[str, Callable[[int], str]] = {
    "the key of the dashboard": lambda port: own_server(port, ".fleetctl/dashboard.key"),
    "the operator's secret": lambda port: own_server(port, ".fleetctl/operator.secret"),
    "the same by a detour": lambda port: own_server(port, "x/../.fleetctl/operator.secret"),
    "the same by a link": lambda port: own_server(port, "linked/operator.secret"),
    "a client's key": lambda port: own_server(port, ".fleetctl/keys/acme-prod"),
    "a judge's key": lambda port: (
        f"evals: {{judge: {{url: 'http://127.0.0.1:{port}', model: m, "
        "key: 'file:.fleetctl/operator.secret'}}\n"
    ),
    "an admin side's secret": lambda port: (
        f'gateways: {{main: {{listen: "127.0.0.1:8080", admin: "http://127.0.0.1:{port}", '
        'secret: "file:.fleetctl/dashboard.key"}}\n'
    ),
    "a webhook's address": lambda _: "notify: {webhook: 'file:.fleetctl/operator.secret'}\n",
    "a client's key beside the folder of keys": lambda _: (
        "clients: {acme: {keys: {prod: 'file:.fleetctl/operator.secret'}}}\n"
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_no_declaration_names_a_file_of_the_state_folder(
    name: str, project: Path, listener: Listener, canary: str
) -> None:
    """Six of these nine called the receiver before, with the secret where it asked for one."""
    keys = project / ".fleetctl" / "keys"
    make_private(keys)
    (project / "x").mkdir()
    (project / "linked").symlink_to(".fleetctl")
    for path in ("dashboard.key", "operator.secret", "keys/acme-prod"):
        (project / ".fleetctl" / path).write_text(f"{canary}\n")
    declare(project, NAMED[name](listener.port))
    assert "FC1289" in call(project, "validate").stderr
    for command in ("plan", "status", "drift"):
        call(project, *command.split())
    assert listener.received == []


def test_keys_of_clients_may_lie_in_the_state_folder(project: Path, canary: str) -> None:
    make_private(project / ".fleetctl" / "keys")
    (project / ".fleetctl" / "keys" / "acme-prod").write_text(f"{canary}\n")
    declare(project, "clients: {acme: {keys: {prod: 'file:.fleetctl/keys/acme-prod'}}}\n")
    assert "FC1289" not in call(project, "validate").text


def test_another_state_folder_is_as_closed(project: Path, listener: Listener, canary: str) -> None:
    make_private(project / "elsewhere")
    (project / "elsewhere" / "operator.secret").write_text(f"{canary}\n")
    declare(project, own_server(listener.port, "elsewhere/operator.secret"))
    done = call(project, "--state-dir", str(project / "elsewhere"), "plan")
    assert "FC1289" in done.stderr
    assert listener.received == []


@pytest.mark.parametrize("name", [".fleetctl", "elsewhere", "staging/.fleetctl"])
def test_a_state_folder_is_closed_to_runs_with_another(
    name: str, project: Path, listener: Listener, canary: str
) -> None:
    """With `--state-dir`, `plan` sent the secret of the project's own folder to the receiver."""
    make_private(project / name)
    (project / name / "operator.secret").write_text(f"{canary}\n")
    (project / name / "ledger.jsonl").write_text("")
    declare(project, own_server(listener.port, f"{name}/operator.secret"))
    done = call(project, "--state-dir", str(project / "other"), "plan")
    assert "FC1289" in done.stderr
    assert listener.received == []
