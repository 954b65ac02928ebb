"""Report the ledger: a line for every entry."""

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fleet.history import Entry
from plans.amounts import counted, date_time, iso_millis

STEPS = frozenset({"step_started", "step_finished", "step_failed"})
"""Kinds of entries that are left out unless `steps` asks for them."""


def chosen(
    entries: Iterable[Entry], *, limit: int | None, steps: bool, about: str = ""
) -> tuple[Entry, ...]:
    """Return the last `limit` entries, oldest first.

    Args:
        entries: Oldest first.
        limit: None: all.
        steps: Single steps too.
        about: Only entries that name this run, alias, address or part of an address.
    """
    found = [
        entry
        for entry in entries
        if (steps or entry.kind not in STEPS) and (not about or _is_about(entry, about))
    ]
    return tuple(found if limit is None else found[-limit:] if limit else ())


def _is_about(entry: Entry, about: str) -> bool:
    named = (entry.run, *(str(entry.data.get(key, "")) for key in ("alias", "plan_id", "adapter")))
    return about in named or about in str(entry.data.get("address", ""))


def render_text(entries: Iterable[Entry], about: str = "") -> str:
    """Return a line for every entry, or a message with `about` where no entry names that."""
    lines = [
        f"{entry.seq:6}  {date_time(entry.time)}  {entry.by}  {entry.run}  {_say(entry)}"
        for entry in entries
    ]
    if not lines:
        return f"No entry names `{about}`.\n" if about else "Nothing has been done yet.\n"
    return "\n".join(lines) + "\n"


def render_json(entries: Iterable[Entry]) -> str:
    """Return a line of JSON for every entry, as in the ledger."""
    return "".join(
        json.dumps(
            {
                "seq": entry.seq,
                "time": iso_millis(entry.time),
                "kind": entry.kind,
                "run": entry.run,
                "by": entry.by,
                "token": entry.token,
                "data": entry.data,
                "hash": entry.hash,
            },
            sort_keys=True,
            ensure_ascii=False,
        )
        + "\n"
        for entry in entries
    )


def _say(entry: Entry) -> str:
    say = _SAYINGS.get(entry.kind)
    return say(entry.data) if say else entry.kind


def _finished(data: Mapping[str, Any]) -> str:
    counts = data.get("counts", {})
    shown = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"ended {data.get('plan_id')}: {data.get('result')}" + (f" ({shown})" if shown else "")


def _started(data: Mapping[str, Any]) -> str:
    commit = f", commit {data['commit']}" if data.get("commit") else ""
    steps = counted(int(data.get("steps", 0)), "step")
    return f"{data.get('trigger')} of plan {data.get('plan_id')}, {steps}{commit}"


def _rolled_back(data: Mapping[str, Any]) -> str:
    held = f", {data['adapter']} held" if data.get("adapter") else ""
    which = "forward" if data.get("forward") else "back"
    return f"rolled {data.get('alias')} {which} to {data.get('to')}{held}{_why(data)}"


def _released(data: Mapping[str, Any]) -> str:
    return f"released {data.get('adapter') or 'all versions'} of {data.get('alias')}{_why(data)}"


def _evaluated(data: Mapping[str, Any]) -> str:
    summary = data.get("summary", {})
    accuracy = summary.get("accuracy")
    shown = "does not count" if not summary.get("valid") else f"accuracy {accuracy:.1%}"
    return f"evaluated {data.get('adapter')} ({data.get('purpose')}): {shown}"


def _why(data: Mapping[str, Any]) -> str:
    return f": {data['reason']}" if data.get("reason") else ""


def _marked(data: Mapping[str, Any]) -> str:
    until = f" until {data['until']}" if data.get("until") else ""
    return f"{data.get('mark')} {data.get('adapter')}{until}{_why(data)}"


def _judged(data: Mapping[str, Any]) -> str:
    finding = data.get("finding", {})
    where = f"{data.get('adapter')} at {data.get('percent')} %"
    return f"{finding.get('verdict')} {data.get('gate')} of {where}: {finding.get('reason')}"


def _checked(data: Mapping[str, Any]) -> str:
    smoke, seconds = data.get("smoke", {}), data.get("smoke_ok_s")
    tested = f"{smoke.get('passed')} of {smoke.get('total')}"
    after = f"after {seconds} s" if seconds is not None else "NOT passed"
    missed = len(data.get("failures", ()))
    which = (
        f"{counted(missed, 'gateway')} did NOT take it, the others" if missed else "all gateways"
    )
    return (
        f"{data.get('alias')}: {which} after {data.get('all_gateways_s')} s, smoke test "
        f"{after} ({tested})"
    )


def _notified(data: Mapping[str, Any]) -> str:
    how = "told" if data.get("delivered") else f"NOT told ({data.get('detail')})"
    event = str(data.get("event", "")).replace("_", " ")
    return f"{data.get('to')} {how}: {data.get('alias') or 'the fleet'}, {event}"


def _drilled(data: Mapping[str, Any]) -> str:
    kind = "live drill" if data.get("live") else "drill"
    how = f"{data.get('seconds')} s" if data.get("complete") else "FAILED"
    return f"{kind} of {data.get('alias')} to {data.get('target')}: {how}"


def _collected(data: Mapping[str, Any]) -> str:
    versions, copies = len(data.get("versions", ())), len(data.get("copies", ()))
    answers = len(data.get("evaluations", ()))
    also = f" and the answers of {counted(answers, 'evaluation')}" if answers else ""
    return f"deletes {counted(versions, 'version')} and {copies} served copies{also}"


_SAYINGS: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "apply_started": _started,
    "apply_finished": _finished,
    "step_started": lambda data: f"  begins  {data.get('step')}",
    "step_finished": lambda data: f"  {data.get('how')}  {data.get('step')}",
    "step_failed": lambda data: f"  FAILED  {data.get('step')}: {data.get('detail')}",
    "rolled_back": _rolled_back,
    "released": _released,
    "adopted": lambda data: f"adopted {data.get('address')}",
    "eval_finished": _evaluated,
    "judge_compared": lambda data: (
        f"compared the judge {data.get('model')} with labels of {data.get('client')}: "
        + (str(data.get("objection")) or "it may decide")
    ),
    "retrain_claimed": lambda data: f"claimed {data.get('alias')} for retraining{_why(data)}",
    "retrain_released": lambda data: f"released the claim on {data.get('alias')}{_why(data)}",
    "retrain_started": lambda data: f"began to train {data.get('adapter')}",
    "retrain_finished": lambda data: f"trained {data.get('adapter')}",
    "gate_judged": _judged,
    "rollout_marked": _marked,
    "rollback_checked": _checked,
    "notified": _notified,
    "drill_started": lambda data: f"begins a live drill of {data.get('alias')}",
    "drilled": _drilled,
    "drill_undone": lambda data: f"undid a killed drill of {data.get('alias')}",
    "collected": _collected,
    "note": lambda data: f"note: {data.get('text')}",
}
