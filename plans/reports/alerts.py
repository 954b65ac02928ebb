"""Words alerts, and why an alias became worse."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.alerting import Alert, AlertPhase, AlertRule, ChangeKind, Measure, WhyWorse
from fleet.codec import plain
from fleet.usage import UsageFigures
from plans.tables import aligned

_LIMITED = "limit {limit:.1%}"
_SENTENCES: Mapping[AlertRule, str] = {
    AlertRule.OUTAGE: "{subject}: {detail}",
    AlertRule.ERRORS: f"{{subject}} fails: {{value:.1%}} of its requests, {_LIMITED}",
    AlertRule.SLOW: "{subject} is slow: p95 {value:.3g} s, limit {limit:.3g} s",
    AlertRule.STARVED: "{subject} waits for its turn: p95 {value:.3g} s, limit {limit:.3g} s; "
    "{detail}",
    AlertRule.PROMISE: f"{{subject}} answers late: {{value:.1%}} of its requests, {_LIMITED}",
    AlertRule.ERRORS_BUDGET: f"{{subject}} fails too often for days: {{value:.1%}}, {_LIMITED}",
    AlertRule.PROMISE_BUDGET: f"{{subject}} is late too often for days: {{value:.1%}}, {_LIMITED}",
    AlertRule.COST: "{subject} will cost {value:.0%} of its fee, limit {limit:.0%}",
    AlertRule.COST_WARNING: "{subject} will cost {value:.0%} of its fee, warned at {limit:.0%}",
    AlertRule.BUDGET_USED_UP: "{subject} has used up its budget of the month: {detail}",
    AlertRule.BUDGET: "{subject} has used {value:.0%} of its budget of the month: {detail}",
    AlertRule.CAPACITY: "servers of {subject} will be {value:.0%} busy in two weeks, "
    "limit {limit:.0%}, {detail}",
    AlertRule.DATA: "figures of {subject} are in doubt: {detail}",
    AlertRule.EVENT: "{subject}: {detail}",
}
_CAUSES: Mapping[ChangeKind, str] = {
    ChangeKind.VERSION: "{subject} got traffic, {before} -> {after}",
    ChangeKind.WEIGHTS: "the share of {subject} rose, {before} -> {after}",
    ChangeKind.LOAD: "the load of its neighbour {subject} rose, {before} -> {after} requests/min",
    ChangeKind.OWN_LOAD: "its own load rose, {before} -> {after} requests/min",
    ChangeKind.RESTART: "{subject} was started or stopped",
    ChangeKind.MOVE: "{subject} was loaded or unloaded",
    ChangeKind.LIMIT: "{subject} was set, {before} -> {after}",
    ChangeKind.ENGINE: "{subject} of its servers was set, {before} -> {after}",
    ChangeKind.EVAL: "an evaluation of {subject} ran, purpose {after}",
}


def alert_sentence(alert: Mapping[str, Any]) -> str:
    """Return an alert in its plain form as a sentence, with its cause, without a full stop."""
    rule = AlertRule(alert["rule"])
    text = _SENTENCES[rule].format(**{**alert, "value": alert["value"] or 0.0})
    if rule is AlertRule.SLOW and alert["detail"]:
        text += f" ({alert['detail']})"
    if cause := alert["cause"]:
        text += f". Likely cause: {_cause_sentence(cause)}, {_minute(cause['at'])}"
    return text


def _cause_sentence(cause: Mapping[str, Any]) -> str:
    return _CAUSES[ChangeKind(cause["kind"])].format(**cause)


def _minute(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"


def alerts_document(alerts: Sequence[Alert]) -> list[dict[str, Any]]:
    """Return the alerts that are open in plain form: firing, then pending; urgent first."""
    shown = [alert for alert in alerts if alert.phase is not AlertPhase.RESOLVED]
    shown.sort(key=lambda alert: (not alert.stands, not alert.urgent, bool(alert.silenced_by)))
    return [{**plain(alert), "text": alert_sentence(plain(alert))} for alert in shown]


def render_alerts(document: Sequence[Mapping[str, Any]]) -> str:
    """Return the open alerts as text, with the command to go to."""
    lines = list[str]()
    for alert in document:
        is_firing = alert["phase"] == AlertPhase.FIRING
        mark = ("URGENT" if alert["urgent"] else "alert") if is_firing else "pending"
        notice = f", in the notice of {alert['silenced_by']}" if alert["silenced_by"] else ""
        lines.append(f"{mark:7}  {alert['text']}")
        lines.append(f"         since {_minute(alert['since'])}{notice}; {alert['command']}")
    return "".join(f"{line}\n" for line in lines) or "No alert stands.\n"


def render_change(alert: Alert, form: str) -> str:
    """Return an alert that began or ended as a line of text or JSON."""
    document = {**plain(alert), "text": alert_sentence(plain(alert))}
    if form == "json":
        return json.dumps(document)
    return f"{alert.phase.value}: {document['text']}; {alert.command}"


def why_document(why: WhyWorse) -> dict[str, Any]:
    """Return why an alias became worse in plain form, with figures instead of sketches."""
    return {
        "alias": why.alias,
        "measure": why.measure.value,
        "onset": None if why.onset is None else why.onset.isoformat(),
        "before": _figures(why.before),
        "after": _figures(why.after),
        "causes": [_ranked(plain(cause.change), cause.score) for cause in why.causes],
    }


def _ranked(change: Mapping[str, Any], score: float) -> dict[str, Any]:
    return {**change, "text": _cause_sentence(change), "score": round(score, 3)}


def _figures(figures: UsageFigures) -> dict[str, float | int | None]:
    p50, p95 = (figures.latency.quantile(share) for share in (0.5, 0.95))
    return {
        "requests": figures.requests,
        "p50_s": p50 and round(p50, 4),
        "p95_s": p95 and round(p95, 4),
        "errors": figures.errors,
        "refused": figures.refused,
    }


def render_why(document: Mapping[str, Any]) -> str:
    """Return onset, figures before and after, and the ranked changes as text."""
    onset, causes = document["onset"], document["causes"]
    if onset:
        name = Measure(document["measure"]).value
        lines = [f"{document['alias']}: worse {name} from {_minute(onset)} on"]
    else:
        lines = [f"{document['alias']}: no change for the worse is sure in this time"]
    names = ("requests", "p50_s", "p95_s", "errors", "refused")
    labels = ("before", "after") if onset else ("first half", "second half")
    rows = [["", "requests", "p50 s", "p95 s", "errors", "refused"]]
    for label, key in zip(labels, ("before", "after"), strict=True):
        rows.append([label, *(_shown(document[key][name]) for name in names)])
    lines += aligned(rows, right=range(1, 6), indent="  ")
    if causes:
        lines += ["", "Changes, the best fit first:" if onset else "Changes, the newest first:"]
        cells = [
            [f"{cause['score']:.2f}" if onset else "", _minute(cause["at"]), cause["text"]]
            for cause in causes
        ]
        lines += aligned(cells, indent="  ")
    else:
        lines += ["", "Nothing that fleetctl sees changed around that time."]
    return "".join(f"{line}\n" for line in lines)


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value % 1 else f"{value:.0f}"
