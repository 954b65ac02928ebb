"""Word the progress of an apply: lines for people, JSON lines for programs."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from fleet.codec import canonical_json
from fleet.names import adapter_of_address, address_parts, server_of_address, step_parts
from fleet.resources import OutageKind
from fleet.steps import VERSION, ApplyEvent
from plans.reports.drift import impact_of, outage_lines
from plans.tables import counted, iso_millis, size

Data = Mapping[str, Any]


def record(event: ApplyEvent, seq: int, time: datetime, run: str, plan_id: str) -> str:
    """Return an event as a JSON line, without newline.

    Every line has `v`, `seq` (from 1, without gaps), `ts`, `run`, `plan_id` and `type`, and the
    fields that `fleet.steps` lists.
    """
    head = {"v": VERSION, "seq": seq, "ts": iso_millis(time), "run": run, "plan_id": plan_id}
    return canonical_json({**event.data, **head, "type": event.type})


def line(event: ApplyEvent) -> str:
    """Return an event as a line for people, without newline; empty: no line."""
    data = event.data
    if event.type == "outage":
        impact = impact_of(OutageKind(data["outage"]))
        return "\n".join(outage_lines([{**data, "impact": impact}])[:-1])
    if "of" in data:
        what = _STEP_WORDS[event.type](data)
        return f"[{data['n']}/{data['of']}] {_words(data['step'])}{what}" if what else ""
    shown = _WORDS.get(event.type)
    return shown(data) if shown else ""


def _begun(data: Data) -> str:
    return " …" if step_parts(data["step"])[0] in ("start", "stop", "drain") else ""


def _done(data: Data) -> str:
    how = " (was there already)" if data["how"] == "adopted" else ""
    return f": done in {data['seconds']:.1f} s{how}"


def _checking(data: Data) -> str:
    what = [counted(data["adapters"], "adapter"), counted(data["starts"], "port")]
    return f"Checks {' and '.join(text for text in what if text[:2] != '0 ')} before the first step"


def _transfer(data: Data) -> str:
    return f"{data['what']}: {100 * data['bytes'] // data['size']} % of {size(data['size'])}"


def _recovered(data: Data) -> str:
    how = "had done it" if data["how"] == "done" else "had begun it without effect"
    return f"{_words(data['step'])}: an earlier run {how}"


def _stopping(data: Data) -> str:
    running = data["running"]
    wait = f"finishing {', '.join(running)}" if running else "nothing is under way"
    return f"Stopping: {wait}. Again to stop at once; the next apply finds out."


def _frozen(data: Data) -> str:
    running = data["running"]
    wait = f"finishes {', '.join(running)} and begins" if running else "begins"
    return f"FROZEN by {data['by']}: {data['reason']}. This apply {wait} no further step."


_VERBS = {
    "divert": "take traffic off", "restore": "put traffic back on", "smoke": "smoke-test"
}  # fmt: skip


def _words(step: str) -> str:
    verb, address = step_parts(step)
    kind, name = address_parts(address)
    server = server_of_address(address)
    where = f"{adapter_of_address(address)} on {server}" if server else name
    return f"{_VERBS.get(verb, verb)} {kind} {where}"


def _summary(data: Data) -> str:
    parts = [f"{data['done']} done"]
    parts += [f"{data[name]} {label}" for name, label in _COUNTS.items() if data[name]]
    unseen = f" Not seen: {', '.join(data['unseen'])}." if data["unseen"] else ""
    done = f"{', '.join(parts)} in {data['seconds']:.1f} s"
    if len(parts) == 1 and not data["done"]:
        done = "Nothing to do"
    return f"{done}. {_ENDINGS[data['result']]}{unseen}"


_COUNTS = {
    "adopted": "were there already",
    "failed": "failed",
    "stale": "stale",
    "blocked": "blocked",
    "not_run": "not run",
}
_ENDINGS = {
    "converged": "The fleet is as planned.",
    "half_way": "Stopped half-way. Running apply again is safe and goes on from here.",
    "stale": "What the plan was made from has changed. Plan again.",
    "lease_lost": "Stopped half-way.",
    "frozen": "Stopped by a freeze. After `fleetctl thaw`, running apply again goes on from here.",
    "interrupted": "Interrupted; the ledger is consistent. Running apply again goes on.",
}
_STEP_WORDS: Mapping[str, Callable[[Data], str]] = {
    "step_begin": _begun,
    "step_done": _done,
    "step_failed": lambda data: f": FAILED. {data['summary']}. {data['detail']}",
    "step_stale": lambda data: f": STALE. {data['detail']}",
    "step_blocked": lambda data: f": not done, it needs {_words(data['by'])}",
}
_WORDS: Mapping[str, Callable[[Data], str]] = {
    "checking": _checking,
    "step_progress": lambda data: f"{_words(data['step'])}: {data['seconds']:.0f} s so far",
    "transfer": _transfer,
    "recovered": _recovered,
    "frozen": _frozen,
    "interrupted": _stopping,
    "lock_lost": lambda _: "Another run holds the lease now, so no further step begins here.",
    "run_complete": _summary,
}
