"""Compile Prometheus' configuration: scrapes, rules on promises and errors, and alerts.

The rules name no client: names come with the series, so that a new client needs no new rules.
Recorded series and groups have Sloth's names. JSON, which is YAML too.
"""

import json
from collections.abc import Iterator
from typing import Any, Final

from fleet.alerting import ERROR_SHARE, LEAST_REQUESTS, OF_TRAFFIC, SLOW_SHARE, AlertRule
from fleet.spec import MailSpec

CONFIG_FILE: Final = "prometheus.json"
RULES_FILE: Final = "rules.json"
TOKEN_FILE: Final = "fleetctl.token"  # noqa: S105 (a name)
"""File beside the configuration, with a bearer token for the dashboard."""
MOST_AGE_S: Final = 900
"""Age of a reading from which people are told. Seconds."""
_PERIOD_DAYS: Final = 30
_WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")
_BURNS: Final = {
    "page": ((14.4, "5m", "1h"), (6, "30m", "6h")),
    "ticket": ((3, "2h", "1d"), (1, "6h", "3d")),
}
"""Multiple of the budget's pace, short window and long window, by severity, as Sloth has them.
Source: Beyer et al. 2018, The Site Reliability Workbook, chapter 5."""
_BY: Final = "sum by (client, alias)"
_ALIAS: Final = "on (client, alias)"
_ANSWERED: Final = 'fleetctl_request_seconds_count{version!=""}'
_ASKED: Final = 'fleetctl_requests_total{alias!="",status!="429"}'
_LATE: Final = (
    f'1 - {_BY} (rate(fleetctl_request_seconds_bucket{{version!=""}}[WINDOW])'
    f" and on (alias, le) fleetctl_promise_seconds) / {_BY} (rate({_ANSWERED}[WINDOW]))"
    # A promise may be younger than the window: what was counted without its bucket is not late.
    f" unless {_BY} (count_over_time({_ANSWERED}[WINDOW])) > {_BY} (count_over_time("
    'fleetctl_request_seconds_bucket{version!=""}[WINDOW]) and on (alias, le)'
    " fleetctl_promise_seconds)"
)
_FAILED: Final = (
    f'({_BY} (rate(fleetctl_requests_total{{alias!="",status=~"5.."}}[WINDOW]))'
    f" or 0 * {_BY} (rate({_ASKED}[WINDOW]))) / {_BY} (rate({_ASKED}[WINDOW]))"
)
_OBJECTIVES: Final = (
    (AlertRule.PROMISE, AlertRule.PROMISE_BUDGET, SLOW_SHARE, _LATE, _ANSWERED),
    (AlertRule.ERRORS, AlertRule.ERRORS_BUDGET, ERROR_SHARE, _FAILED, _ASKED),
)
"""Urgent rule, rule of days, part of bad requests that is allowed, that part, all requests."""
_COMMANDS: Final = {
    AlertRule.SLOW: "fleetctl why {{ $labels.subject }}",
    AlertRule.STARVED: "fleetctl why {{ $labels.subject }}",
    AlertRule.COST: "fleetctl cost report --client {{ $labels.subject }}",
    AlertRule.COST_WARNING: "fleetctl cost report --client {{ $labels.subject }}",
    AlertRule.CAPACITY: "fleetctl diagnose",
}

_Rule = dict[str, Any]


def config(url: str, alertmanager: str) -> str:
    """Return the configuration: all is found and read through the dashboard at `url`.

    `alertmanager` is a URL; empty: none.
    """
    scheme, _, host = url.partition("://")
    access = {"authorization": {"credentials_file": TOKEN_FILE}}
    through, found = {"scheme": scheme, **access}, f"{url}/targets/"
    jobs: dict[str, _Rule] = {
        "fleetctl": {**through, "static_configs": [{"targets": [host]}]},
        "fleetctl-gateways": {
            **through, "http_sd_configs": [{"url": f"{found}gateways", **access}],
        },
        "vllm": {"http_sd_configs": [{"url": f"{found}servers", **access}]},
    }  # fmt: skip
    document: _Rule = {
        "global": {"scrape_interval": "15s", "evaluation_interval": "30s"},
        "rule_files": [RULES_FILE],
        "scrape_configs": [{"job_name": name, **job} for name, job in jobs.items()],
    }
    if alertmanager:
        scheme, _, host = alertmanager.rstrip("/").partition("://")
        host, _, prefix = host.partition("/")
        manager = {"scheme": scheme, "static_configs": [{"targets": [host]}]}
        manager |= {"path_prefix": f"/{prefix}"} if prefix else {}
        document["alerting"] = {"alertmanagers": [manager]}
    return json.dumps(document, indent=1) + "\n"


def rules(fleet: str) -> str:
    """Return recording rules and alerts; alerts have the labels that `watch` gives them."""
    groups = [
        {"name": f"sloth-slo-{kind}-{urgent}", "rules": list(made)}
        for urgent, slower, budget, bad, requests in _OBJECTIVES
        for kind, made in (
            ("sli-recordings", _shares(urgent, bad)),
            ("meta-recordings", _meta(urgent, budget)),
            ("alerts", _burning(fleet, (urgent, slower), budget, requests)),
        )
    ]
    groups.append({"name": "fleetctl", "rules": list(_stored(fleet))})
    return json.dumps({"groups": groups}, indent=1) + "\n"


def _share(slo: AlertRule, window: str) -> str:
    return f'slo:sli_error:ratio_rate{window}{{sloth_slo="{slo}"}}'


def _shares(slo: AlertRule, bad: str) -> Iterator[_Rule]:
    """Yield the part of bad requests by window; without a request there is no sample."""
    for window in _WINDOWS:
        ratio = f"({bad.replace('WINDOW', window)}) > -1"  # drops NaN, which would spoil sums
        named = f'label_replace({ratio}, "sloth_service", "$1", "alias", "(.+)")'
        yield {
            "record": f"slo:sli_error:ratio_rate{window}",
            "expr": f'label_replace({named}, "sloth_id", "$1-{slo}", "alias", "(.+)")',
            "labels": {"sloth_slo": slo.value, "sloth_window": window},
        }
    yield {
        "record": f"slo:sli_error:ratio_rate{_PERIOD_DAYS}d",
        "expr": f"avg_over_time({_share(slo, _WINDOWS[0])}[{_PERIOD_DAYS}d])",
        "labels": {"sloth_slo": slo.value, "sloth_window": f"{_PERIOD_DAYS}d"},
    }


def _meta(slo: AlertRule, budget: float) -> Iterator[_Rule]:
    now, period = (
        f"max without (sloth_window) ({_share(slo, window)}) / {budget}"
        for window in (_WINDOWS[0], f"{_PERIOD_DAYS}d")
    )
    has = f"group without (sloth_window) ({_share(slo, _WINDOWS[0])})"
    info = {"sloth_mode": "fleetctl", "sloth_objective": f"{100 - 100 * budget:g}"}
    for name, expression, labels in (
        ("slo:objective:ratio", f"{has} * {round(1 - budget, 6)}", {}),
        ("slo:error_budget:ratio", f"{has} * {budget}", {}),
        ("slo:time_period:days", f"{has} * {_PERIOD_DAYS}", {}),
        ("slo:current_burn_rate:ratio", now, {}),
        ("slo:period_burn_rate:ratio", period, {}),
        ("slo:period_error_budget_remaining:ratio", f"1 - {period}", {}),
        ("sloth_slo_info", has, info),
    ):
        yield {"record": name, "expr": expression, "labels": {"sloth_slo": slo.value, **labels}}


def _burning(
    fleet: str, names: tuple[AlertRule, AlertRule], budget: float, requests: str
) -> Iterator[_Rule]:
    """Yield the alerts of a budget: both windows burn, and the long has requests enough."""
    for name, (severity, pairs) in zip(names, _BURNS.items(), strict=True):
        burns = []
        for times, short, long in pairs:
            most, enough = round(times * budget, 6), f"{_BY} (increase({requests}[{long}]))"
            burns.append(
                f"({_share(names[0], short)} > {most} and ignoring (sloth_window)"
                f" {_share(names[0], long)} > {most}"
                f" and {_ALIAS} {enough} >= {LEAST_REQUESTS})"
            )
        burnt = f"max without (sloth_window) ({' or '.join(burns)})"
        # The label by which an outage of the server silences the alert, as in alerts of `watch`.
        # A group, as two dashboards may be scraped.
        at = f"{_ALIAS} group_left (server) group by (client, alias, server) (fleetctl_alias_state)"
        expression = f"{burnt} * {at} or {_ALIAS} {burnt}"
        summary = f"{{{{ $labels.alias }}}}: {name}, {{{{ $value | humanizePercentage }}}}"
        yield _alert(
            fleet, name, expression, summary, "fleetctl why {{ $labels.alias }}",
            subject="{{ $labels.alias }}", severity=severity, sloth_severity=severity,
        )  # fmt: skip


def _stored(fleet: str) -> Iterator[_Rule]:
    """Yield an alert for every rule that only `watch` can judge, and for readings that stop."""
    for rule in AlertRule:
        if not any(rule in objective[:2] for objective in _OBJECTIVES):
            fires = f'max by (subject, severity, server) (fleetctl_alert{{rule="{rule}"}}) == 1'
            command = _COMMANDS.get(rule, "fleetctl watch --once")
            yield _alert(fleet, rule, fires, f"{{{{ $labels.subject }}}}: {rule}", command)
    yield _alert(
        fleet, "unread", f"time() - fleetctl_reading_timestamp_seconds > {MOST_AGE_S}"
        " or absent(fleetctl_reading_timestamp_seconds)",
        "the fleet or its alerts were not read for a quarter of an hour", "fleetctl status",
        subject="fleetctl", severity="page",
    )  # fmt: skip


def _alert(
    fleet: str, name: str, expression: str, summary: str, command: str, **labels: str
) -> _Rule:
    told = {"summary": summary, "command": command, "runbook": "docs/alerts.md"}
    labels = {"fleet": fleet, **labels}
    return {"alert": str(name), "expr": expression, "labels": labels, "annotations": told}


ALERTMANAGER_FILE: Final = "alertmanager.json"
_TEXT: Final = (
    "{{ range .Alerts }}{{ .Annotations.summary }} ({{ .Status }}): {{ .Annotations.command }}\n"
    "{{ end }}"
)


def alertmanager_config(webhook: str, mail: MailSpec | None, login: str) -> str:
    """Return the configuration; `webhook` is a URL, `login` is `user:password`, empty: none.

    JSON, which is YAML too. An outage of a server speaks for the traffic of its aliases, and an
    urgent alert for others of the same subject, as in `fleet.alerting`.
    """
    receiver: dict[str, Any] = {"name": "operators"}
    if webhook:
        receiver["slack_configs"] = [{"api_url": webhook, "send_resolved": True, "text": _TEXT}]
    if mail:
        user, _, password = login.partition(":")
        sent: dict[str, Any] = {"to": ", ".join(mail.to), "from": mail.sender}
        sent |= {"smarthost": mail.server, "send_resolved": True}
        sent |= {"auth_username": user, "auth_password": password} if login else {}
        receiver["email_configs"] = [sent]
    outage, traffic = AlertRule.OUTAGE, "|".join(sorted(OF_TRAFFIC))
    ticket, to = ['severity="ticket"'], {"receiver": "operators"}
    document = {
        "route": {
            **to, "group_by": ["fleet", "subject"], "repeat_interval": "4h",
            "routes": [{**to, "matchers": ticket, "repeat_interval": "24h"}],
        },
        "inhibit_rules": [
            {"source_matchers": [f'alertname="{outage}"', 'server!=""'],
             "target_matchers": [f'alertname=~"{traffic}"'], "equal": ["fleet", "server"]},
            {"source_matchers": ['severity="page"'], "target_matchers": ticket,
             "equal": ["fleet", "subject"]},
        ],
        "receivers": [receiver],
    }  # fmt: skip
    return json.dumps(document, indent=1) + "\n"
