"""Report a rollout to the client: events, gates, evaluations, outcome.

The report names a single alias, from the ledger alone: no server, no person, no other client.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from fleet import history
from fleet.history import Entry
from fleet.resources import FULL
from plans.explain.rollout import client_reason
from plans.tables import date_time
from plans.templating import rendered
from plans.visible import prose, scrubbed
from plans.wording import short_version

METRICS: Mapping[str, str] = {
    "accuracy_drop": "right answers on the golden set, against the version before",
    "replay_drop": "sound answers to recent requests asked again, against the version before",
    "hallucination_rise": "answers that invent something, against the version before",
    "error_rate_rise": "failed requests, against the version before",
    "format_drop": "answers without the agreed form, against the version before",
    "truncation_rise": "answers that were cut off, against the version before",
    "p95_ratio": "time to the whole answer (95th percentile), against the version before",
    "first_token_ratio": "time to the first word (95th percentile), against the version before",
    "token_time_ratio": "time per word (95th percentile), against the version before",
    "neighbour_ratio": "effect on others who share the machine",
    "error_rate": "failed requests",
    "p95_latency": "time to the whole answer (95th percentile)",
    "baseline_ratio": "time to the whole answer, against the time before the rollout",
}
MARKS: Mapping[str, str] = {
    "hold": "held back", "resume": "let go on", "approve": "approved", "advance": "sent on",
    "extend": "given more time", "abort": "aborted", "pause": "paused",
}  # fmt: skip


def document(entries: Iterable[Entry], alias: str, adapter: str, now: datetime) -> dict[str, Any]:
    """Return the report of a version of an alias.

    Entries are given oldest first; `now` is the time of the report.
    """
    report = _Report(alias, adapter)
    for entry in entries:
        report.take(entry)
    return {
        "format": "fleetctl-rollout-report",
        "format_version": "1.0",
        "alias": alias,
        "version": short_version(adapter),
        "made": _time(now),
        "before": ", ".join(report.before),
        "outcome": report.outcome(),
        "share": report.share,
        "events": report.events,
        "gates": list(report.gates.values()),
        "evaluations": report.asked(),
        "proof": report.proof,
    }


class _Report:
    """Fold entries of the ledger, oldest first, into the parts of a report."""

    def __init__(self, alias: str, adapter: str) -> None:
        self.alias, self.adapter = alias, adapter
        self.share = 0
        self.before: tuple[str, ...] = ()
        """Versions that answered before, newest first."""
        self.events: list[dict[str, str]] = []
        self.gates: dict[str, dict[str, Any]] = {}
        self.proof: dict[str, Any] = {}
        self._failed: dict[str, str] = {}
        """Reason of the last failure, by gate."""
        self._runs: dict[str, dict[str, Any]] = {}
        """Evaluations by id."""
        self._behind: dict[str, list[str]] = {}
        """Ids of the evaluations behind the latest verdict, by gate; the new version's last."""
        self._begun: dict[str, Mapping[str, Any]] = {}
        self._end = ""
        self._full = False
        """Whether the version had all requests, and some ever since."""
        self._beside = ""
        """Newest other version with a share; empty where that version is older."""

    def take(self, entry: Entry) -> None:  # noqa: C901, PLR0912 (a case a kind)
        """Add an entry."""
        route, version = f"route/{self.alias}", short_version(self.adapter)
        match entry.event:
            case history.StepStarted(address=address) as event if address == route:
                self._begun[event.step] = event.operation
            case history.StepFinished(address=address) as event if address == route:
                operation = self._begun.pop(event.step, event.operation or {})
                self._shares(entry, operation.get("route") or {})
            case history.Adopted(address=address, resource=resource) if address == route:
                self._shares(entry, resource)
            case history.GateJudged(alias=self.alias, adapter=self.adapter) as event:
                self._judged(event, entry)
            case history.EvalFinished(alias=self.alias, purpose="gate") as event:
                self._runs[event.run] = {
                    "version": short_version(event.adapter), "questions": event.summary["n"],
                    "accuracy": event.summary["accuracy"], "at": _time(entry.time),
                }  # fmt: skip
            case history.RolledBack(alias=self.alias) as event:
                self._flipped(event, entry)
            case history.RollbackChecked(alias=self.alias, smoke_ok_s=seconds, smoke=smoke):
                if self._end == "rolled back" and seconds:
                    self._tell(entry, f"smoke test passed, {smoke.passed} of {smoke.total}")
            case history.RolloutMarked(alias=self.alias, adapter=self.adapter) as event:
                until = f" until {_time(event.until)}" if event.until else ""
                self._tell(entry, f"{version} was {MARKS.get(event.mark, event.mark)}{until}")
            case history.Released(alias=self.alias, adapter=adapter) as event:
                if adapter in (None, self.adapter) and self._end == "rolled back":
                    self._end = ""
                    self._tell(entry, f"{version} may be tried again")
                if event.route:
                    self._shares(entry, event.route)
            case _:
                pass

    def _shares(self, entry: Entry, route: Mapping[str, Any]) -> None:
        """Add the shares of a route, newest version first."""
        parts = {part["adapter"]: part["percent"] for part in route.get("shares", ())}
        share, had = parts.pop(self.adapter, 0), self.share
        others = [short_version(name) for name, percent in parts.items() if percent]
        if share and not had:
            self.before = self.before or tuple(others)
        new = [version for version in others if version not in self.before]
        self._beside = new[0] if new else ""
        if share == had:
            return
        self.share, self._end = share, ""
        self._full = share == FULL or (self._full and share > 0)
        if not share and others:
            self._end = f"replaced by {new[0]}" if new else "rolled back"
        self._tell(entry, f"{short_version(self.adapter)} answers {share} % of the requests")

    def _flipped(self, event: history.RolledBack, entry: Entry) -> None:
        """Add a rollback or its undoing: all requests go to a single version."""
        had, to = self.share, short_version(event.to)
        back, seconds = event.to == self.adapter, f"{event.seconds:.2f} s"
        if had == (FULL if back else 0):  # nothing changes for this version
            return
        self.share, self._full, self._beside = (FULL, True, "") if back else (0, False, "")
        if back:
            self._end = "serves again" if self._end else ""
            self._tell(entry, f"{to} has all requests{' again' if self._end else ''}, {seconds}")
        elif event.forward:
            self._end = f"replaced by {to}"
            self._tell(entry, f"{to} has all requests, {seconds}")
        else:
            self._end = "rolled back"
            gate = event.gate or ""
            reason = self._failed.get(gate)
            why = f"{gate}: {reason}" if reason else f"gate {gate} failed"
            because = f": {why}" if gate else ""
            self._tell(entry, f"{to} has all requests again, {seconds}{because}")

    def _judged(self, event: history.GateJudged, entry: Entry) -> None:
        finding, name = event.finding, event.gate
        self.before = self.before or (short_version(event.stable),)
        before, reason = self.gates.get(name), client_reason(finding)
        if finding["verdict"] == "FAIL":
            self._failed[name] = reason
        self.gates[name] = {
            "gate": scrubbed(name), "about": METRICS.get(finding["metric"], finding["metric"]),
            "verdict": finding["verdict"], "reason": scrubbed(reason),
            "entry": entry.seq, "share": event.percent, "at": _time(entry.time),
        }  # fmt: skip
        self._behind[name] = list(event.runs)
        self.proof = {"entry": entry.seq, "hash": entry.hash}
        if before is None or before["verdict"] != finding["verdict"]:
            because = f", {reason}" if reason else ""
            self._tell(entry, f"gate {name}: {finding['verdict']}{because}")

    def asked(self) -> list[dict[str, Any]]:
        """Return the evaluations behind the latest verdicts; gates score differently."""
        return [
            {"gate": gate, **self._runs[run]}
            for gate, runs in self._behind.items()
            for run in runs
            if run in self._runs
        ]

    def _tell(self, entry: Entry, text: str) -> None:
        self.events.append({"at": _time(entry.time), "text": scrubbed(text)})

    def outcome(self) -> str:
        """Return the state in a few words."""
        if self._end:
            return self._end
        failed = any(gate["verdict"] == "FAIL" for gate in self.gates.values())
        if self.share == FULL:
            return "complete"
        if self._full and self.share:
            by = f", {self._beside} takes over" if self._beside else ""
            return f"complete; still answers {self.share} %{by}"
        if failed:
            return "stopped before it got any traffic"
        return f"under way at {self.share} %" if self.share else "not begun"


def render_markdown(report: Mapping[str, Any]) -> str:
    """Return the report as Markdown that is safe to post."""
    return rendered("rollout.md.j2", report=report, prose=prose)


def render_html(report: Mapping[str, Any]) -> str:
    """Return the report as an HTML file without scripts or outside assets."""
    return rendered("rollout.html.j2", report=report)


def _time(moment: datetime) -> str:
    return f"{date_time(moment)} UTC"
