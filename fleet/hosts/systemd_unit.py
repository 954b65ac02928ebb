"""Writes units of systemd: servers, gateways, forwards of ports, the reconciler."""

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
