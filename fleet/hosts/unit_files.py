"""Writes units of systemd: servers, gateways, forwards of ports, the reconciler."""

import posixpath
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fleet.environment import FORBIDDEN, SERVER_KEY

_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(frozen=True, slots=True)
class SystemdUnit:
    """Program that systemd starts at boot, and again after every end."""

    file: str
    """Name of the file."""
    description: str
    arguments: Sequence[str]
    folder: str
    """Working folder."""
    stop_s: float
    """Seconds between SIGTERM and SIGKILL."""
    environment: Mapping[str, str]
    secrets: str = ""
    """File of variables that need not exist; empty: none is read."""
    after: Sequence[str] = ()
    """Units that are started first."""
    kill_mode: str = "mixed"
    key_file: str = ""
    """File with a server's key, without which the program does not start; empty: no key."""


def unit_text(unit: SystemdUnit, user: str = "") -> str:
    """Return a unit, headed by its file name.

    `user` runs the program of a system unit. Empty: the unit is for a user's own manager.
    """
    # Modules that lie in the project must not shadow those of the program.
    variables = {"PYTHONSAFEPATH": "1", **unit.environment}
    given = {*variables, *([SERVER_KEY] if unit.key_file else [])}
    after = [*(["network-online.target"] if user else []), *unit.after]
    lines = [
        f"# {unit.file}",
        "[Unit]",
        f"Description={plain_value(unit.description)}",
        *(["Wants=network-online.target"] if user else []),
        *([f"After={' '.join(after)}"] if after else []),
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=exec",
        *([f"User={plain_value(user)}"] if user else []),
        f"WorkingDirectory={plain_value(unit.folder)}",
        *([f"EnvironmentFile=-{unit.secrets}"] if unit.secrets else []),
        *([f"EnvironmentFile={unit.key_file}"] if unit.key_file else []),
        *(f"Environment={quoted_word('='.join(pair))}" for pair in sorted(variables.items())),
        f"UnsetEnvironment={' '.join(cleared_variables(given))}",
        f"ExecStart={_command(unit.arguments)}",
        "Restart=always",
        "RestartSec=1",
        f"TimeoutStopSec={unit.stop_s:g}",
        f"KillMode={unit.kill_mode}",
        "",
        "[Install]",
        f"WantedBy={'multi-user' if user else 'default'}.target",
    ]
    return "\n".join(lines) + "\n"


def script_text(unit: SystemdUnit) -> str:
    """Return a script that becomes the program of a unit, for a unit that runs a file.

    The program's output goes to the journal by `systemd-cat`, where the user may read it: lines of
    a system unit that systemd itself collects are for administrators alone.
    """
    variables = {"PYTHONSAFEPATH": "1", **unit.environment}
    given = {*variables, *([SERVER_KEY] if unit.key_file else [])}
    exports = (f"{name}={shlex.quote(value)}" for name, value in sorted(variables.items()))
    command = " \\\n  ".join(shlex.join(line) for line in flag_lines(unit.arguments))
    lines = [
        f"# {unit.file}: {plain_value(unit.description)}",
        f"unset {' '.join(cleared_variables(given))}",
        *([f"set -a && . {shlex.quote(unit.key_file)} && set +a || exit"] if unit.key_file else []),
        *(f"export {pair}" for pair in exports),
        f"exec systemd-cat --identifier=vllm {command}",
    ]
    return "\n".join(lines) + "\n"


def cleared_variables(given: Collection[str]) -> list[str]:
    """Return the variables that must not be inherited; systemd would clear given ones too."""
    return [name for name in FORBIDDEN if name not in given]


def flag_lines(arguments: Sequence[str]) -> list[list[str]]:
    """Return the words of a command by line: its program, then a line for every flag."""
    lines: list[list[str]] = [[]]
    for argument in arguments:
        if argument.startswith("--"):
            lines.append([])
        lines[-1].append(argument)
    return lines


def _command(arguments: Sequence[str]) -> str:
    # The colon keeps `$` as it is; doubled, it would stay double in the program's path.
    lines = flag_lines((f":{arguments[0]}", *arguments[1:]))
    return " \\\n  ".join(" ".join(map(quoted_word, line)) for line in lines)


def quoted_word(text: str) -> str:
    """Return a word by systemd's rules of quoting, without specifiers."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    # A line break would end the setting, and the rest be read as another.
    escaped = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", escaped)
    plain = escaped and all(char.isalnum() or char in "-_./:,=+@" for char in escaped)
    return escaped if plain else f'"{escaped}"'


def plain_value(text: str) -> str:
    """Return a value that systemd reads to the end of its line, and does not unquote."""
    return _CONTROL.sub("?", text.replace("%", "%%"))


_STOP_MARGIN_S = 10
"""Seconds beyond podman's own wait for the program, until systemd kills podman."""


@dataclass(frozen=True, slots=True)
class Container:
    """The container of a unit's program; it is gone, with what was written into it, at each end.

    Its root is the unit's user outside, without capabilities. It has network and shared memory of
    its machine, and no variable of the user's.
    """

    image: str
    readable: Sequence[str] = ()
    """Paths by `unit_path` that are the same inside, or `OUTSIDE:INSIDE`."""
    writable: Sequence[str] = ()
    cards: Sequence[str] = ()
    """Indices of the NVIDIA cards that the program sees, by the names of CDI."""
    folder: str = ""
    """Working folder by `unit_path`; empty: the image's."""
    options: Sequence[str] = ()
    """Further options of `podman run`."""


def unit_path(path: str) -> str:
    """Return a path in the spelling of units; a relative path starts at the user's home."""
    escaped = plain_value(path.removeprefix("./")).replace("$", "$$")
    return escaped if path.startswith("/") else f"%h/{escaped}"


def container_name(unit: str) -> str:
    """Return the name of the Quadlet file from which systemd's generator makes a unit."""
    return f"{unit.removesuffix('.service')}.container"


def container_text(unit: SystemdUnit, container: Container) -> str:
    """Return a Quadlet file of a user's own manager, headed by its name."""
    program, *arguments = unit.arguments
    variables = {"PYTHONSAFEPATH": "1", **unit.environment}
    given = {*variables, *([SERVER_KEY] if unit.key_file else [])}
    # Those of Python and the loader belong to the image as its code does.
    cleared = [name for name in cleared_variables(given) if name.startswith("VLLM_")]
    files = [file for file in (unit.secrets, unit.key_file) if file]
    options = ["--pull=never", "--http-proxy=false", "--log-driver=passthrough", "--ipc=host",
               "--user=0", "--security-opt=label=disable", f"--stop-timeout={unit.stop_s:g}",
               *(f"--unsetenv={name}" for name in cleared), *container.options]  # fmt: skip
    lines = [
        f"# {container_name(unit.file)}",
        "[Unit]",
        f"Description={plain_value(unit.description)}",
        *([f"After={' '.join(unit.after)}"] if unit.after else []),
        "StartLimitIntervalSec=0",
        "",
        "[Quadlet]",  # else a start waits 90 s for a target that few machines reach
        "DefaultDependencies=false",
        "",
        "[Container]",
        f"Image={plain_value(container.image)}",
        "Network=host",
        *(f"AddDevice=nvidia.com/gpu={card}" for card in container.cards),
        *(f"Volume={_mount(path)}:ro" for path in container.readable),
        *(f"Volume={_mount(path)}" for path in container.writable),
        *(f"EnvironmentFile={file}" for file in files),
        *(f"Environment={_word('='.join(pair))}" for pair in sorted(variables.items())),
        "NoNewPrivileges=true",
        "DropCapability=all",
        *(f"PodmanArgs={option}" for option in options),
        *([f'PodmanArgs="--workdir={container.folder}"'] if container.folder else []),
        f"PodmanArgs={_word(f'--entrypoint={program}')}",
        f"Exec={_podman_command(arguments)}",
        "",
        "[Service]",
        *([f'ExecStartPre=/bin/sh -c "{_made(unit.secrets)}"'] if unit.secrets else []),
        "Restart=always",
        "RestartSec=1",
        f"TimeoutStopSec={unit.stop_s + _STOP_MARGIN_S:g}",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    return "\n".join(lines) + "\n"


def _made(file: str) -> str:
    return f"umask 077; mkdir -p {posixpath.dirname(file)}; : >>{file}"  # podman needs it


def _mount(path: str) -> str:
    return path if ":" in path else f"{path}:{path}"


def _podman_command(arguments: Sequence[str]) -> str:
    return " \\\n  ".join(" ".join(map(_word, line)) for line in flag_lines(arguments) if line)


def _word(text: str) -> str:
    """Return a word that reaches podman unchanged: its unit's command expands `$` once."""
    return quoted_word(text).replace("$", "$$")
