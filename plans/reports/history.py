"""Report the ledger: a line for every entry."""

import json
from collections.abc import Iterable
from typing import assert_never

from fleet import history
from fleet.history import Entry
from plans.tables import counted, date_time, iso_millis, listed
from plans.visible import one_line

STEPS = (history.StepStarted, history.StepFinished, history.StepFailed)
"""Events that are left out unless `steps` asks for them."""
_NAMED = ("alias", "plan_id", "adapter", "address")


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
        if (steps or not isinstance(entry.event, STEPS)) and (not about or _is_about(entry, about))
    ]
    return tuple(found if limit is None else found[-limit:] if limit else ())


def _is_about(entry: Entry, about: str) -> bool:
    event = entry.event
    known = event.data if isinstance(event, history.UnknownEvent) else {}
    *named, address = (str(known.get(name, getattr(event, name, ""))) for name in _NAMED)
    return about in (entry.run, *named) or about in address


def render_text(entries: Iterable[Entry], about: str = "") -> str:
    """Return a line for every entry, or a message with `about` where no entry names that."""
    lines = [
        f"{entry.seq:6}  {date_time(entry.time)}  "
        + one_line(f"{entry.by}  {entry.run}  {sentence(entry)}")
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
                "kind": entry.event.kind,
                "run": entry.run,
                "by": entry.by,
                "token": entry.token,
                "data": entry.document(),
                "hash": entry.hash,
            },
            sort_keys=True,
            ensure_ascii=False,
        )
        + "\n"
        for entry in entries
    )


def sentence(entry: Entry) -> str:  # noqa: C901, PLR0911, PLR0912, PLR0915 (a case a kind)
    """Return an entry as a sentence without its subject."""
    match entry.event:
        case history.ApplyStarted() as event:
            commit = f", commit {event.commit}" if event.commit else ""
            steps = counted(event.steps, "step")
            settings = f", {counted(event.settings, 'setting')}" if event.settings else ""
            return f"{event.trigger} of plan {event.plan_id}, {steps}{settings}{commit}"
        case history.ApplyFinished() as event:
            shown = ", ".join(f"{count} {name}" for name, count in event.counts.items() if count)
            return f"ended {event.plan_id}: {event.result}" + (f" ({shown})" if shown else "")
        case history.StepStarted(step=step):
            return f"  begins  {step}"
        case history.StepFinished(how=how, step=step):
            return f"  {how}  {step}"
        case history.StepFailed(step=step, detail=detail):
            return f"  FAILED  {step}: {detail}"
        case history.RolledBack() as event:
            held = f", {event.adapter} held" if event.adapter else ""
            which = "forward" if event.forward else "back"
            return f"rolled {event.alias} {which} to {event.to}{held}{_because(event.reason)}"
        case history.RollbackChecked() as event:
            return _checked(event)
        case history.Released() as event:
            name = event.adapter or "all versions"
            return f"released {name} of {event.alias}{_because(event.reason)}"
        case history.CostTermsChanged(changed=changed):
            return f"terms of costs changed: {listed(changed, 3)}"
        case history.StaffHoursImported(month=month, hours=hours):
            return f"staff hours of {month} imported for {counted(len(hours), 'client')}"
        case history.MonthClosed(month=month, sha256=digest):
            return f"bill of {month} closed, sha256 {digest[:12]}"
        case history.Adopted(address=address):
            return f"adopted {address}"
        case history.EvalFinished(adapter=adapter, purpose=purpose, summary=summary):
            valid, accuracy = summary.get("valid"), summary.get("accuracy")
            shown = f"accuracy {accuracy:.1%}" if valid else "does not count"
            return f"evaluated {adapter} ({purpose}): {shown}"
        case history.JudgeCompared() as event:
            may = event.objection or "it may decide"
            return f"compared the judge {event.model} with labels of {event.client}: {may}"
        case history.RetrainClaimed(alias=alias, reason=reason):
            return f"claimed {alias} for retraining{_because(reason)}"
        case history.RetrainReleased(alias=alias, reason=reason):
            return f"released the claim on {alias}{_because(reason)}"
        case history.RetrainStarted(adapter=adapter):
            return f"began to train {adapter}"
        case history.CaptureForgotten() as event:
            whose = " that name a user" if event.of_user else ""
            return f"deleted {counted(event.items, 'captured request')} of {event.client}{whose}"
        case history.DashboardRevoked(client=client):
            return f"revoked the dashboard links of {client or 'operators'}"
        case history.RetrainFinished(adapter=adapter):
            return f"trained {adapter}"
        case history.GateJudged(finding=finding) as event:
            where = f"{event.adapter} at {event.percent} %"
            verdict = f"{finding.get('verdict')} {event.gate}"
            return f"{verdict} of {where}: {finding.get('reason')}"
        case history.UpgradeJudged(finding=finding) as event:
            verdict = f"{finding.get('verdict')} {event.gate} of {event.adapter}"
            return f"upgrade of {event.base} on {event.canary}: {verdict}: {finding.get('reason')}"
        case history.UpgradeDecided() as event:
            return f"{event.mark} upgrade of {event.base}{_because(event.reason)}"
        case history.RolloutMarked() as event:
            until = f" until {event.until.isoformat()}" if event.until else ""
            return f"{event.mark} {event.adapter}{until}{_because(event.reason)}"
        case history.Notified() as event:
            how = "told" if event.delivered else f"NOT told ({event.detail})"
            occasion = event.event.replace("_", " ")
            return f"{event.to} {how}: {event.alias or 'the fleet'}, {occasion}"
        case history.DrillStarted(alias=alias):
            return f"begins a live drill of {alias}"
        case history.Drilled() as event:
            drill = "live drill" if event.live else "drill"
            how = f"{event.seconds} s" if event.complete else "FAILED"
            return f"{drill} of {event.alias} to {event.target}: {how}"
        case history.DrillRefused(alias=alias):
            return f"drill of {alias} to : FAILED"
        case history.DrillUndone(alias=alias):
            return f"undid a killed drill of {alias}"
        case history.Collected() as event:
            answers = len(event.evaluations)
            also = f" and the answers of {counted(answers, 'evaluation')}" if answers else ""
            copies = f"{len(event.copies)} served copies"
            return f"deletes {counted(len(event.versions), 'version')} and {copies}{also}"
        case history.Frozen(reason=reason):
            return f"froze the fleet{_because(reason)}"
        case history.Thawed(reason=reason):
            return f"thawed the fleet{_because(reason)}"
        case history.PlanApproved() as event:
            out = event.accept_outage
            what = f" with an outage of {counted(out, 'client')}" if out else ""
            return f"approved plan {event.plan_id}{what}{_because(event.reason)}"
        case history.CopyDamaged(path=path, fault=fault, boots=boots):
            return f"the served copy {path} {fault}; may have been read by {', '.join(boots)}"
        case history.BackedUp() | history.BackupDrilled() | history.Restored() as event:
            return _kept(event)
        case history.KeyAccepted(key=key, lost=lost):
            anew = f" after the loss of all others{_because(lost)}" if lost is not None else ""
            return f"accepted key {history.shown_key(key)} for evidence{anew}"
        case history.Noted(text=text):
            return f"note: {text}"
        case history.UnknownEvent(kind=kind):
            return kind
        case event:
            assert_never(event)


def _because(reason: str) -> str:
    return f": {reason}" if reason else ""


def _kept(event: history.BackedUp | history.BackupDrilled | history.Restored) -> str:
    match event:
        case history.BackedUp(file=file, seq=seq, with_keys=with_keys):
            return f"backed up entries 1 to {seq} to {file}{', with keys' if with_keys else ''}"
        case history.BackupDrilled(file=file, complete=complete, aliases=count, failures=failures):
            how = f"aliases served: {count}" if complete else f"FAILED: {'; '.join(failures)}"
            return f"drill of the backup {file}: {how}"
        case history.Restored(file=file, lost=lost):
            aside = f", later entries set aside: {lost}" if lost else ""
            return f"restored from {file}{aside}"


def _checked(event: history.RollbackChecked) -> str:
    smoke, seconds, missed = event.smoke, event.smoke_ok_s, len(event.failures)
    after = f"after {seconds} s" if seconds is not None else "NOT passed"
    which = (
        f"{counted(missed, 'gateway')} did NOT take it, the others" if missed else "all gateways"
    )
    return (
        f"{event.alias}: {which} after {event.all_gateways_s} s, smoke test {after} "
        f"({smoke.passed} of {smoke.total})"
    )
