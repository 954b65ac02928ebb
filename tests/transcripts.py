"""Plays the commands of a page, and compares what they print with what the page shows.

Of a page's blocks, those of kind `console` are played: a line that begins with `$ ` is a command,
the lines after it are its output, and a line `…` stands for lines that are left out. Blocks of
other kinds whose first line is a comment with a path, such as `# agency/fleet.yaml`, are written to
that file; all others are for the reader. `UPDATE_TRANSCRIPTS=1` writes the outputs anew.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from fleetctl.cli import main

BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\S+\.\w+)\n")
COMMAND = re.compile(r"\$ ((?:.*\\\n)*.*)\n?")
LEFT_OUT = "…"
"""Line that stands for lines of an output; at the end of a longer line: a step that goes on."""
LIMIT_S = 300
MASKS = (
    (r"\b[0-9a-f]{12,64}\b", "HEX"),
    (r"\b\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d)?(\.\d+)?(Z|\+00:00)?( UTC)?)?", "TIME"),
    (r"\b\d+(\.\d+)? (ms|s|min|h)\b( \d+ s\b)?", "SECONDS"),
    (r"\b[\w.-]+@[\w.-]+", "PERSON"),
    (r"^\[\d+/", "[N/"),
    (r"(?<=pid )\d+|(?<=#)\d+|(?<=evidence )\d+|(?<=\"created\":)\d+", "N"),
)
"""Parts of an output that differ from run to run, with their words."""


@dataclass(frozen=True)
class Played:
    """A command of a page: its output as the page shows it and as it is, both made stable."""

    line: str
    shown: list[str]
    told: list[str]


@dataclass
class Shell:
    """A folder, an environment and the free ports that stand for those of a page."""

    folder: Path
    environment: Mapping[str, str]
    ports: Mapping[str, str] = field(default_factory=dict)

    @property
    def _noted(self) -> Path:
        return self.folder / ".where"

    @property
    def where(self) -> str:
        """The folder in which the last command ended."""
        noted = self._noted
        return noted.read_text("utf-8").strip() if noted.exists() else str(self.folder)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(replaced(text, self.ports), encoding="utf-8")

    def run(self, line: str) -> str:
        """Run a command where the last one ended, and return what it printed, in its order."""
        done = subprocess.run(
            ["bash", "-c", f'{replaced(line, self.ports)}\npwd > "$WHERE"\n'],
            cwd=self.where,
            env={**self.environment, "WHERE": str(self._noted), "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        return self.shown(done.stdout)

    def shown(self, said: str) -> str:
        """Return what was printed with the ports of the page, and without the folder's place."""
        usual = {free: port for port, free in self.ports.items()}
        return replaced(said.replace(str(self.folder), "~"), usual)


@dataclass
class InProcess(Shell):
    """A shell that calls fleetctl in this process, where nothing else is in the line."""

    def run(self, line: str) -> str:
        """Run a command, in the environment of this process where it is fleetctl's."""
        if not line.startswith("fleetctl ") or re.search(r"[|;&<>$]", line):
            return super().run(line)
        said = io.StringIO()
        with (
            contextlib.chdir(self.where),
            contextlib.redirect_stdout(said),
            contextlib.redirect_stderr(said),
            contextlib.suppress(SystemExit),
        ):
            main(shlex.split(replaced(line, self.ports))[1:])
        return self.shown(said.getvalue())


def replaced(text: str, words: Mapping[str, str]) -> str:
    """Return a text with whole words replaced."""
    for old, new in words.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return text


def commands(block: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the commands of a block with their outputs; a backslash at its end continues a line."""
    for part in re.split(r"^(?=\$ )", block, flags=re.MULTILINE):
        if found := COMMAND.match(part):
            yield found[1], tuple(part[found.end() :].splitlines())


def stable(lines: Sequence[str]) -> list[str]:
    """Return lines without what differs from run to run; steps side by side are sorted."""
    masked = []
    for line in lines:
        told = line.rstrip()
        for pattern, word in MASKS:
            told = re.sub(pattern, word, told)
        masked.append(told)
    runs = groupby(masked, key=lambda line: line.startswith("[N/"))
    return [line for is_step, run in runs for line in (sorted(run) if is_step else run)]


def shortened(output: str, shown: Sequence[str]) -> tuple[str, ...]:
    """Return an output with lines left out where the shown output leaves some out."""
    lines = tuple(line.rstrip() for line in output.splitlines())
    lines = tuple(line for line in lines if not re.fullmatch(rf".+{LEFT_OUT}", line))
    if LEFT_OUT not in shown:
        return lines
    first = shown.index(LEFT_OUT)
    last = len(shown) - first - 1
    return (*lines[:first], LEFT_OUT, *lines[len(lines) - last :])


def played(
    text: str, shell: Shell, wanted: Callable[[str], bool] = lambda _: True
) -> tuple[list[Played], str]:
    """Play a page's text; return its commands, and the text with their outputs of now."""
    found: list[Played] = []

    def play(block: re.Match[str]) -> str:
        kind, body = block.groups()
        if kind != "console":
            if named := FILE.match(body):
                shell.write(named[1], body)
            return block[0]
        parts = []
        for line, shown in commands(body):
            if wanted(line):
                said = shortened(shell.run(line), shown)
                found.append(Played(line, stable(shown), stable(said)))
                same = found[-1].shown == found[-1].told
                parts.append("\n".join((f"$ {line}", *(shown if same else said))).rstrip() + "\n")
        return f"```console\n{''.join(parts)}```"

    return found, BLOCK.sub(play, text)


def held(page: Path, shell: Shell) -> None:
    """Play a page and check that it shows what its commands print, or write the page."""
    found, text = played(page.read_text(encoding="utf-8"), shell)
    if os.environ.get("UPDATE_TRANSCRIPTS"):
        page.write_text(text, encoding="utf-8")
        return
    assert found
    for command in found:
        assert (command.line, command.told) == (command.line, command.shown)
