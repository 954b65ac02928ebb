"""Replays an outage of an alias through `watch` itself, minute by minute, on a clock that is moved.

Rows come into a gateway's log as time goes on, and each look ingests, observes, judges and notes.
"""

import asyncio
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from fleet.alerting import Alert, AlertRule
from fleetctl.output import print_message
from fleetctl.wiring import open_workspace
from runtime.operations.rounds.watch import Watcher
from runtime.workspace import Workspace
from tests.fleetctl.project_on_disk import Project

ALIAS: Final = "acme-support"
MONDAY: Final = datetime(2026, 3, 2, 9, tzinfo=UTC)
"""A begin of an hour, by day."""
MINUTE: Final = timedelta(minutes=1)
HISTORY: Final = timedelta(hours=7)


@dataclass
class MovedClock(Workspace):
    """A workspace at a time that the replay sets."""

    time: datetime = MONDAY

    def now(self) -> datetime:
        return self.time


@dataclass(frozen=True)
class Replay:
    """The minutes until `errors` rang and until it ended, and the limit that it broke."""

    rang: int | None
    limit: float | None
    """Of the fast pair or of the slow one."""
    ended: int | None
    """After the healing."""


@dataclass
class OutageReplay:
    """A project with steady traffic of an alias."""

    project: Project
    onset: datetime
    rpm: int
    lasts: timedelta
    _written: datetime = field(init=False)
    _number: int = 0

    def __post_init__(self) -> None:
        self._written = self.onset - HISTORY
        opened = open_workspace(self.project.root, "fake", {}, self.project.root / ".fleetctl")
        self._workspace = MovedClock(
            opened.root, opened.environment, opened.variables, opened.state_dir, print_message,
            opened.render_notice, opened.make_envoys,
        )  # fmt: skip
        self._watcher = Watcher(lambda alert: alert.id)

    def play(self, most: timedelta) -> Replay:
        """Look every minute until the alert has ended, or for `most` after the healing."""
        rang = limit = None
        now, healed = self.onset, self.onset + self.lasts
        while now < healed + most:
            now += MINUTE
            errors = [alert for alert in self._look(now) if alert.rule is AlertRule.ERRORS]
            if rang is None and any(alert.stands for alert in errors):
                rang, limit = (now - self.onset) // MINUTE, errors[0].limit
            if rang is not None and now > healed and not any(alert.stands for alert in errors):
                return Replay(rang, limit, (now - healed) // MINUTE)
        return Replay(rang, limit, None)

    def _look(self, now: datetime) -> tuple[Alert, ...]:
        self._write_until(now)
        self._workspace.time = now
        return asyncio.run(self._watcher.look(self._workspace))

    def _write_until(self, now: datetime) -> None:
        log = self.project.root / ".fleetctl/gateways/main/usage.jsonl"
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as stream:
            while self._written + MINUTE / self.rpm <= now:
                self._written += MINUTE / self.rpm
                self._number += 1
                sick = self.onset < self._written <= self.onset + self.lasts
                row = {
                    "time": self._written.isoformat(timespec="milliseconds"),
                    "request_id": f"{self._number:032x}", "client": "acme", "alias": ALIAS,
                    "version": "acme-support-tiny-v2.1.0", "server": "tiny-laptop-cpu0",
                    "status": 503 if sick else 200, "latency_s": 0.001, "input_tokens": 4,
                    "output_tokens": 6,
                }  # fmt: skip
                stream.write(json.dumps(row) + "\n")
