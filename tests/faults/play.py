"""Lets a fault happen to a fleet under a steady client, and sees how it is found and healed.

Commands that only look run until one of them names the fault. Then the remedy runs, again and
again, until `drift` and `plan` have nothing left and every alias answers rightly.
"""

import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.actions import APPLY, RECONCILE, Person
from tests.faults.stage import Stage
from tests.fleetctl.in_process import Done

LOOKS: tuple[tuple[str, ...], ...] = (
    ("drift",), ("status",), ("plan", "--detailed-exitcode"), ("adapter", "verify"),
    ("validate",),
)  # fmt: skip
"""Commands that only look, in the order in which they are asked."""
FIND_S, HEAL_S, ROUNDS = 20.0, 300.0, 60
"""Upper bounds: seconds until a fault is named and until it is healed, and rounds of a remedy."""


@dataclass(frozen=True)
class Fault:
    """Something that happens to a fleet."""

    name: str
    inject: Callable[[Stage], Person | None]
    names: str
    """Regular expression of the words by which a command names the fault."""
    remedy: tuple[tuple[str, ...], ...] = (RECONCILE,)
    person: str = ""
    """What a person does, for the table; the function comes from `inject`."""
    servers: int = 1
    """How many servers the fault needs."""
    find_s: float = FIND_S
    harmless: bool = False
    """Whether nothing may have to be named: clients are served rightly all along."""
    fake: bool = True
    """Whether the fake engine can play the fault; its answers are right in no golden set."""

    def is_named(self, done: Done) -> bool:
        """Say whether a command names the fault."""
        return bool(re.search(self.names, done.stdout + done.stderr, re.IGNORECASE))


@dataclass
class Row:
    """What became of a fault."""

    fault: Fault
    found: list[str] = field(default_factory=list)
    """Commands that named the fault, with their exit codes."""
    ran: list[str] = field(default_factory=list)
    """Commands of the remedy that ran, in order."""
    healed_s: float | None = None
    counts: dict[str, int] = field(default_factory=dict)
    wrong_unnamed: int = 0
    """Wrong answers while no command had named the fault yet."""
    fine: bool = False
    """Whether `drift` and `plan` had nothing to say while answers were wrong or missing."""
    trouble: str = ""

    def note(self, ran: Sequence[tuple[tuple[str, ...], Done]]) -> None:
        """Note which of the commands that ran name the fault."""
        for words, done in ran:
            command = " ".join(words[: 2 if words[0] == "adapter" else 1])
            entry = f"`{command}` ({done.returncode})"
            told = done.returncode != 0 or words[0] in {"status", "reconcile"}
            if told and entry not in self.found and self.fault.is_named(done):
                self.found.append(entry)

    @property
    def good(self) -> bool:
        """Whether the fault was named and healed, and no answer was wrong."""
        named = bool(self.found) or self.fault.harmless
        return named and self.healed_s is not None and not self.counts.get("wrong")

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        remedy = [self.fault.person] if self.fault.person else []
        remedy += dict.fromkeys(self.ran)
        quiet = "nothing to name" if self.fault.harmless else "**not named**"
        return (
            self.fault.name,
            ", ".join(self.found) or quiet,
            "; ".join(remedy) or "none needed",
            "**no**" if self.healed_s is None else f"{self.healed_s:.1f}",
            str(self.counts.get("sent", 0)),
            str(self.counts.get("failed", 0)),
            str(self.counts.get("wrong", 0)),
        )


HEADS = ("fault", "found by (exit code)", "remedy", "healed in s", "requests", "failed", "wrong")


def play(stage: Stage, fault: Fault) -> Row:
    """Let a fault happen and be healed."""
    row, began, first = Row(fault), time.monotonic(), len(stage.ran)
    stage.client.taken()
    person = fault.inject(stage)
    row.note(stage.ran[first:])
    until = time.monotonic() + fault.find_s
    while not row.found and time.monotonic() < until and not fault.harmless:
        codes = [stage.run(*command).returncode for command in LOOKS]
        row.note(stage.ran[first:])
        row.fine |= not row.found and not any(codes) and not stage.client.probe_all(1)
    if row.found:
        for command in LOOKS:
            stage.run(*command)
    row.wrong_unnamed = stage.client.counts["wrong"]
    if person is not None:
        person(stage)
    mended = len(stage.ran)
    heal(stage, row, began)
    row.note(stage.ran[first:])
    if row.healed_s is None:
        row.trouble = "\n".join(
            f"$ {' '.join(words)} -> {done.returncode}\n{done.stdout[-700:]}{done.stderr[-900:]}"
            for words, done in stage.ran[mended:][-5:]
        )
    row.counts = dict(stage.client.taken())
    return row


def heal(stage: Stage, row: Row, began: float) -> None:
    """Run the remedy until the fleet is whole."""
    for _ in range(ROUNDS):
        if is_whole(stage):
            row.healed_s = time.monotonic() - began
            return
        if time.monotonic() > began + HEAL_S:
            return
        for command in row.fault.remedy:
            stage.run(*command)
            row.ran.append(f"`{' '.join(command)}`")


def is_whole(stage: Stage) -> bool:
    """Say whether nothing is left to do and every alias answers rightly."""
    looks = LOOKS[0], LOOKS[2]
    return all(stage.run(*look).returncode == 0 for look in looks) and stage.client.probe_all(2)


def recover(stage: Stage) -> bool:
    """Bring the fleet back after a fault that did not heal; return whether that worked."""
    stage.restore_files()
    for alias in stage.client.questions:
        stage.run("release", alias, "--reason", "scorecard")
    for command in (("gateway", "start"), RECONCILE, APPLY, RECONCILE):
        stage.run(*command)
    return is_whole(stage)


def played(
    faults: Sequence[Fault], folder: Path, python: Path | None, servers: int
) -> Iterator[Row]:
    """Play faults one after another; a fleet that cannot be brought back is made anew."""
    number, waiting = 0, list(faults)
    while waiting:
        number += 1
        stage = Stage.raise_up(folder / f"fleet-{number}", python, servers=servers)
        try:
            with stage.client.running():
                while waiting:
                    fault = waiting.pop(0)
                    try:
                        row = play(stage, fault)
                    except Exception as error:  # noqa: BLE001 (a row must say so, and others follow)
                        row = Row(fault, trouble=f"{type(error).__name__}: {error}")
                    stage.client.paused.clear()
                    yield row
                    stage.client.reset()
                    if row.healed_s is None and not recover(stage):
                        break
        finally:
            stage.clean_up()
