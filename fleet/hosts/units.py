"""Makes the systemd units of servers and forwards, and the template that root installs."""

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from json import dumps
from typing import Final

from fleet.hardware import PORT_STRIDE, HostSpec
from fleet.hosts.facts import HostFacts, HostFinding, unknown
from fleet.hosts.unit_files import Container, SystemdUnit, plain_value
from fleet.vllm.flags import SERVERS_PER_DEVICE
from fleet.vllm.launch import SHUTDOWN_TIMEOUT_S, LaunchCommand

_MARGIN_S = 10
STOP_S = SHUTDOWN_TIMEOUT_S + _MARGIN_S
"""Seconds between SIGTERM and SIGKILL, more than vLLM's own time for a stop."""

_FORWARD = ("BatchMode=yes", "StrictHostKeyChecking=yes", "ExitOnForwardFailure=yes",
            "ConnectTimeout=5", "ServerAliveInterval=3", "ServerAliveCountMax=2",
            "ControlPath=none", "RemoteCommand=none", "PermitLocalCommand=no")  # fmt: skip
"""Options of `ssh`: a lost connection ends the program within 9 s, and systemd starts it again."""


def unit_name(server: str) -> str:
    """Return the file name of a server's unit."""
    return f"fleetctl-{server}.service"


def instance_name(server: str) -> str:
    """Return the name of a server's instance of the template that root owns."""
    return f"fleetctl-engine@{server}.service"


def server_unit(launch: LaunchCommand, folder: str, key_file: str = "") -> SystemdUnit:
    """Return the unit of a server; `folder` is its working folder, `~` the user's home.

    `key_file` has the server's key; empty: the server has none.
    """
    return SystemdUnit(
        unit_name(launch.server.name),
        f"vLLM {launch.server.name}, flags {launch.server.digest}",
        launch.arguments,
        folder,
        STOP_S,
        launch.environment,
        key_file=key_file,
    )


def server_container(
    unit: SystemdUnit, image: str, readable: Sequence[str], resolver: str = ""
) -> tuple[SystemdUnit, Container]:
    """Return the unit of a server that runs from an image, with the server's container.

    `readable`: what the server reads, as for `Container`. `resolver`: folder of the plug-in there,
    among them; empty: the server has none.
    """
    variables = dict(unit.environment)
    # A container has its own cards alone, which begin at 0 there.
    cards = variables.pop("CUDA_VISIBLE_DEVICES", "")
    if resolver:
        variables["PYTHONPATH"] = resolver
    container = Container(image, readable, cards=cards.split(",") if cards else ())
    return replace(unit, environment=variables), container


def forward_unit(host: HostSpec, folder: str) -> SystemdUnit:
    """Return the unit that forwards the ports of a host of engine `ssh` to its servers.

    It has every port that servers of the host may get, so that a new server needs no new unit: that
    of a server which takes over while the servers of its device still run too.
    """
    last = 65535
    ports = sorted({
        port
        for device in host.devices
        for number in range(SERVERS_PER_DEVICE[-1] + 1)
        if (port := device.port + number * PORT_STRIDE) <= last
    })  # fmt: skip
    options = (word for option in _FORWARD for word in ("-o", option))
    forwards = (
        word for port in ports for word in ("-L", f"{host.reached_at}:{port}:127.0.0.1:{port}")
    )
    return SystemdUnit(
        f"fleetctl-forward-{host.name}.service",
        f"fleetctl, ports of host {host.name}",
        ("ssh", "-NTxa", *options, *forwards, f"ssh://{host.address}"),
        folder,
        _MARGIN_S,
        {},
    )


TEMPLATE: Final = f"/etc/systemd/system/{instance_name('')}"
RULE: Final = "/etc/polkit-1/rules.d/50-fleetctl.rules"
RUN: Final = ".local/share/fleetctl/servers/{}/run"
"""Script of a server, by its name; relative to the user's home."""
_UNIT: Final = """\
[Unit]
Description=vLLM %i of fleetctl
Wants=network-online.target
After=network-online.target
ConditionPathExists={run}
StartLimitIntervalSec=0

[Service]
Type=exec
User={user}
WorkingDirectory=~
ExecStart=/bin/sh {run}
Restart=always
RestartSec=1
TimeoutStopSec={stop_s:g}
KillMode=mixed

[Install]
WantedBy=multi-user.target
"""
_RULE: Final = """\
// {user} starts and stops these instances of a template that root owns, and no other unit.
var instances = {instances};
polkit.addRule(function(action, subject) {{
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == {quoted} &&
            instances.indexOf(action.lookup("unit")) >= 0 &&
            ["start", "stop", "restart", "reset-failed"].indexOf(action.lookup("verb")) >= 0) {{
        // Without the template, the name could be given to a unit of any text, run by root.
        polkit.spawn(["/usr/bin/test", "-e", {template}]);
        return polkit.Result.YES;
    }}
}});
"""


def _template(user: str, home: str) -> str:
    """Return the template of the servers of a user."""
    run = f"{plain_value(home)}/{RUN.format('%i')}"
    return _UNIT.format(user=plain_value(user), run=run, stop_s=STOP_S)


def root_script(user: str, home: str, servers: Collection[str]) -> str:
    """Return the script that root runs on a host for these servers; safe to repeat."""
    names = sorted(map(instance_name, servers))
    rule = _RULE.format(
        user=user, quoted=dumps(user), instances=dumps(names, indent=4), template=dumps(TEMPLATE)
    )
    return (
        f"cat >{TEMPLATE} <<'END'\n{_template(user, home)}END\n"
        f"cat >{RULE} <<'END'\n{rule}END\n"
        f"systemctl daemon-reload && systemctl enable {' '.join(names)}\n"
    )


def judge_template(name: str, facts: HostFacts) -> Iterator[HostFinding]:
    """Yield findings about the template, the rights to its instances and their start at boot."""
    user, home, found = map(facts.told, ("user", "home", "template"))
    refused, disabled = facts.told("refused"), facts.told("disabled")
    shows, subject = f"fleetctl host prepare {name} --dry-run", "system units"
    if not (user and home and found):
        yield unknown(subject)
    elif found != hashlib.sha256(_template(user, home).encode()).hexdigest():
        text = f"`{TEMPLATE}` is {'missing' if found == 'none' else 'not that of this fleetctl'}."
        yield HostFinding(subject, "fault", f"{text} Root installs it.", shows)
    elif not (refused and disabled):
        yield unknown(subject)
    elif refused != "none":
        text = f"`{user}` may not start {refused}. Root allows it."
        yield HostFinding(subject, "fault", text, shows)
    elif disabled != "none":
        text = f"They would not start with the machine: {disabled}."
        yield HostFinding(subject, "fault", text, shows)
    else:
        yield HostFinding(subject, "ok", f"`{user}` starts and stops its servers, no other units.")
