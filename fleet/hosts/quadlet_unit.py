"""Writes Quadlet files: units of systemd whose program runs in a container of podman.

Only what podman 4.4 knows stands under a key of its own; newer options are words of `PodmanArgs=`.
"""

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from fleet.environment import SERVER_KEY
from fleet.hosts.systemd_unit import (
    SystemdUnit,
    cleared_variables,
    flag_lines,
    plain_value,
    quoted_word,
)

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
        f"Exec={_command(arguments)}",
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


def _command(arguments: Sequence[str]) -> str:
    return " \\\n  ".join(" ".join(map(_word, line)) for line in flag_lines(arguments) if line)


def _word(text: str) -> str:
    """Return a word that reaches podman unchanged: its unit's command expands `$` once."""
    return quoted_word(text).replace("$", "$$")
