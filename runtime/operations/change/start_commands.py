"""Compiles servers of the plan into start commands, and into units of systemd with the rest."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fleet.errors import FleetError, did_you_mean
from fleet.hardware import HostSpec
from fleet.hosts import (
    Container,
    SystemdUnit,
    container_name,
    container_text,
    forward_unit,
    server_container,
    server_unit,
    unit_path,
    unit_text,
)
from fleet.resources import Server
from fleet.spec import FleetSpec
from fleet.vllm import LaunchCommand, launch_of
from runtime.engines.adapters_file import adapters_path
from runtime.files import normal_path, read_text, replace_file
from runtime.gateway.admin.state_dir import known_gateways
from runtime.gateway.http.timeouts import GRACE_S
from runtime.operations.change.planning import desired_fleet
from runtime.trust import load_trust
from runtime.workspace import Workspace

_FLEET = "# Fleet "
"""Beginning of the first line of units, which names the fleet."""
_STOP_MARGIN_S = 10
"""Seconds beyond a gateway's own grace period, until systemd kills."""
_ROUND_S = 120
"""Seconds that a running round gets when the reconciler is told to stop."""


def for_systemd(
    workspace: Workspace, hosts: tuple[str, ...], out: Path | None, user: str, *, programs: bool
) -> tuple[str, tuple[str, ...]]:
    """Return units of the servers; of forwards, gateways and reconciler too, if `programs`.

    `user` runs them as system units; empty: they are units of a user's own manager.

    Raises:
        FleetError: as `launches_of`, or FC5021, another fleet has units of these names.
    """
    folder, fleet = normal_path(workspace.root), workspace.project.fleet()
    boxes = {name: host for name, host in fleet.hosts.items() if host.engine == "ssh"}
    units = [
        server_unit(launch, "~" if launch.server.host in boxes else folder)
        for launch in launches_of(workspace, hosts)
    ]
    if programs:
        forwards = [forward_unit(host, folder) for _, host in sorted(boxes.items())]
        servers = [unit.file for unit in units]
        units += [*forwards, *_programs(workspace, folder, servers, [f.file for f in forwards])]
    texts = {unit.file: unit_text(unit, user) for unit in units}
    manager = "systemctl" if user else "loginctl enable-linger && systemctl --user"
    start = f"start them now and at every boot: {manager} enable --now {' '.join(texts)}"
    return _written(fleet.name, texts, out, start)


def for_quadlet(
    workspace: Workspace, hosts: tuple[str, ...], out: Path | None, image: str
) -> tuple[str, tuple[str, ...]]:
    """Return Quadlet files of the servers of hosts; without hosts, of this machine's programs.

    These are forwards, gateways and reconciler, from an `image` with the program `fleetctl`.

    Raises:
        FleetError: as `for_systemd`.
    """
    fleet, notes = workspace.project.fleet(), list[str]()
    folder, state = normal_path(workspace.root), normal_path(workspace.state_dir)
    if hosts:
        made = [
            _in_container(launch, fleet.hosts) for launch in launches_of(workspace, hosts, "image")
        ]
    else:
        boxes = [host for _, host in sorted(fleet.hosts.items()) if host.engine == "ssh"]
        forwards = [forward_unit(host, folder) for host in boxes]
        files = [unit.file for unit in forwards]
        units = [*forwards, *_programs(workspace, folder, (), files, ("fleetctl",))]
        if any(host.engine in ("local", "fake") for host in fleet.hosts.values()):
            units.pop()  # the last is the reconciler's
            notes.append("the reconciler starts servers of this machine, which no container can: "
                         "--target systemd has its unit")  # fmt: skip
        read = ["/etc/machine-id", "%E/fleetctl:/root/.config/fleetctl"]
        read += ["%h/.ssh:/root/.ssh"] if boxes else []
        written = [
            unit_path(folder),
            *([] if f"{state}/".startswith(f"{folder}/") else [unit_path(state)]),
        ]
        # The state folder names processes by their numbers on this machine.
        container = Container(image, read, written, options=["--pid=host"])
        made = [(unit, container) for unit in units]
    texts = {container_name(unit.file): container_text(unit, its) for unit, its in made}
    names = " ".join(unit.file for unit, _ in made)
    manager = "loginctl enable-linger && systemctl --user daemon-reload && systemctl --user"
    start = f"start them now, as at every boot: {manager} start {names}"
    text, told = _written(fleet.name, texts, out, start)
    return text, (*told, *notes)


def _in_container(
    launch: LaunchCommand, hosts: Mapping[str, HostSpec]
) -> tuple[SystemdUnit, Container]:
    """Return the unit and the container of a server, whose base is a folder of its host."""
    host, model = hosts[launch.server.host], launch.arguments[launch.arguments.index("--model") + 1]
    paths = [unit_path(host.store_there), unit_path(model)]
    unit, container = server_container(server_unit(launch, "~"), host.image, paths)
    return unit, container if model.startswith("/") else replace(container, folder="%h")


def _written(
    fleet: str, texts: Mapping[str, str], out: Path | None, start: str
) -> tuple[str, tuple[str, ...]]:
    texts = {name: f"{_FLEET}{fleet}\n{text}" for name, text in texts.items()}
    if out is None:
        return "\n".join(texts.values()), ()
    out.mkdir(parents=True, exist_ok=True)
    for name in texts:
        _refuse_other_fleet(out / name, fleet)
    for name, text in texts.items():
        replace_file(out / name, text.encode())
    return "", (f"written to {out}", start)


def _refuse_other_fleet(file: Path, fleet: str) -> None:
    """Raise where a unit is of another fleet: its servers would be replaced by ours."""
    first = read_text(file).partition("\n")[0] if file.is_file() else ""
    other = first.removeprefix(_FLEET)
    if other not in (first, fleet):
        raise FleetError.of(
            "FC5021",
            "File cannot be written",
            f"`{file}` is the unit of fleet `{other}`: names of units do "
            "not hold that of the fleet.",
            hint="Run the two fleets as two users.",
        )


def _programs(
    workspace: Workspace,
    folder: str,
    servers: Sequence[str],
    forwards: Sequence[str],
    program: Sequence[str] = (sys.executable, "-m", "fleetctl"),
) -> Iterator[SystemdUnit]:
    """Yield the units of the gateways, and of the reconciler after those of the servers."""
    fleet, state = workspace.project.fleet(), normal_path(workspace.state_dir)
    variables = (word for pair in workspace.variables.items() for word in ("--var", "=".join(pair)))
    words = [*program, "-C", folder, *variables, "--state-dir", state]
    words += ["--env", workspace.environment] if workspace.environment else []

    def made(name: str, stop_s: float, *arguments: str) -> SystemdUnit:
        file, title = f"fleetctl-{name}.service", f"fleetctl {' '.join(arguments)}, {fleet.name}"
        secrets = f"%E/fleetctl/{fleet.name}.env"
        return SystemdUnit(file, title, (*words, *arguments), folder, stop_s, {}, secrets, forwards)

    for name in sorted(fleet.gateways or known_gateways(workspace.state_dir)):
        yield made(f"gateway-{name}", GRACE_S + _STOP_MARGIN_S, "gateway", "run", name)
    # Servers and gateways that the reconciler started outlive the reconciler.
    # A broken client keeps no other waiting: the job is red, and goes on.
    every = ("reconcile", "--interval", "30s", "--without-broken")
    reconciler = made("reconcile", _ROUND_S, *every)
    yield replace(reconciler, after=(*servers, *forwards), kill_mode="process")


def require_hosts(fleet: FleetSpec, hosts: Sequence[str]) -> None:
    """Raise FC5011 where a host is not declared."""
    for name in hosts:
        if name not in fleet.hosts:
            known = sorted(fleet.hosts)
            near = did_you_mean(name, known) or f"There are: {', '.join(known)}."
            detail = f"No host is called `{name}`."
            raise FleetError.of("FC5011", "No such resource", detail, hint=near)


def launches_of(
    workspace: Workspace, hosts: tuple[str, ...], from_what: str = "python"
) -> list[LaunchCommand]:
    """Return the launches of servers of the plan that run from a `python`, or from an `image`.

    Raises:
        FleetError: FC5011, no such host is declared, or its servers run from the other.
    """
    fleet = workspace.project.fleet()
    require_hosts(fleet, hosts)
    for name in hosts:
        if bool(fleet.hosts[name].image) is not (from_what == "image"):
            target = "systemd" if from_what == "image" else "quadlet"
            detail = f"Servers of `{name}` do not run from `{from_what}`."
            hint = f"`--target {target}` has their files."
            raise FleetError.of("FC5011", "No such resource", detail, hint=hint)
    launches = list[LaunchCommand]()
    root = Path(normal_path(workspace.root))
    records = Path(normal_path(workspace.state_dir)) / "servers"
    for server in desired_fleet(workspace).servers().values():
        host = fleet.hosts.get(server.host)
        if host is None or (hosts and host.name not in hosts):
            continue
        if (host.engine in ("ssh", "ray") or host.supervisor) and not hosts:
            continue  # not for this machine, or `apply` writes their units
        if host.engine == "ssh":
            launches += _on_box(server, host)
            continue
        model = root / server.flags.model if server.flags else Path()
        fake = host.engine == "fake"
        python = sys.executable if fake else _interpreter(root, host.python)
        launch = launch_of(
            server,
            host,
            python=python,
            model=str(model) if model.is_dir() else "",
            adapters=adapters_path(records, server.name, python, fake=fake),
            allowed=load_trust().code.get(host.name, ()),
        )
        if launch is not None:
            launches.append(launch)
    return launches


def _on_box(server: Server, host: HostSpec) -> Iterator[LaunchCommand]:
    """Yield the launch of a server on a host of engine `ssh`, by paths as they are there.

    The file of adapters is left out: `apply` writes it where the host has the plug-in.
    """
    allowed = load_trust().code.get(host.name, ())
    python = "python3" if host.image else host.python_there
    launch = launch_of(server, host, python=python, allowed=allowed)
    if launch is not None:
        # systemd starts no program by a relative path, and does not know the home of the user.
        is_relative = "/" in python and not python.startswith("/")
        env = ("/usr/bin/env",) if is_relative else ()
        yield replace(launch, arguments=(*env, *launch.arguments))


def _interpreter(root: Path, declared: str) -> str:
    """Return the declared interpreter as a path that works from anywhere."""
    if "/" not in declared:
        return declared or "python3"
    return normal_path(root / declared)
