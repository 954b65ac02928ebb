"""Rules, alerts and dashboards, read by the programs that they are for."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fleet.alerting import OF_TRAFFIC
from fleet.spec import MailSpec
from plans.compile import grafana, prometheus
from runtime.gateway.traffic import accounting
from runtime.web import scraped

BOARDS = {name: json.loads(text) for name, text in grafana.dashboards().items()}
EXPRESSIONS = [
    target["expr"] for board in BOARDS.values() for p in board["panels"] for target in p["targets"]
]
RULES = [
    rule for group in json.loads(prometheus.rules("demo"))["groups"] for rule in group["rules"]
]


def checked(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def exposed() -> set[str]:
    names = set(scraped.HELP) | {rule["record"] for rule in RULES if "record" in rule}
    for name, (kind, _) in accounting.FAMILIES.items():
        ends = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
        names |= {f"{name}{end}" for end in ends}
    return names


def test_no_query_names_a_series_that_nothing_exposes() -> None:
    asked = [*EXPRESSIONS, *(rule["expr"] for rule in RULES)]
    asked += [v["query"] for b in BOARDS.values() for v in b["templating"]["list"]]
    used = {
        name for text in asked for name in re.findall(r"\b(?:fleetctl|slo:|sloth_slo)[\w:]+", text)
    }
    assert used - {"sloth_slo", "sloth_slo_info"} - exposed() == set()


def test_dashboards_are_of_a_form_that_grafana_reads() -> None:
    assert sorted(BOARDS) == [f"grafana-{n}.json" for n in ("client", "cost", "fleet", "server")]
    assert {board["schemaVersion"] for board in BOARDS.values()} == {39}
    for board in BOARDS.values():
        places = [(p["gridPos"]["x"], p["gridPos"]["y"], p["id"]) for p in board["panels"]]
        assert len(set(places)) == len(places)
        variables = {variable["name"] for variable in board["templating"]["list"]}
        used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"])))
        assert used <= variables | {"__rate_interval"}


@pytest.mark.prometheus
def test_prometheus_takes_configuration_and_rules(tmp_path: Path) -> None:
    text = prometheus.config("https://fleet.example.com", "https://alerts.example.com/main")
    (tmp_path / prometheus.CONFIG_FILE).write_text(text)
    (tmp_path / prometheus.RULES_FILE).write_text(prometheus.rules('de"mo'))
    (tmp_path / prometheus.TOKEN_FILE).touch()
    assert "SUCCESS" in checked("promtool", "check", "config", tmp_path / prometheus.CONFIG_FILE)


def growing(labels: str, buckets: int, count: int, status: str = "200") -> list[Any]:
    """Return the counters of an alias; so many requests a minute, so many of these within 2 s."""
    its, all_of_them = f'{labels},version="v1"', f"0+{count}x140"
    values = {
        f'fleetctl_request_seconds_bucket{{{its},le="2.0"}}': f"0+{buckets}x140",
        f"fleetctl_request_seconds_count{{{its}}}": all_of_them,
        f'fleetctl_requests_total{{{its},status="{status}"}}': all_of_them,
        f'fleetctl_promise_seconds{{{labels},le="2.0"}}': "2x140",
    }
    return [{"series": series, "values": its} for series, its in values.items()]


def of(alias: str) -> str:
    return f'client="acme",alias="{alias}"'


def young(bucket: str, others: str) -> list[Any]:
    """Return an alias that keeps a promise whose bucket began with its 60th minute."""
    its = f'{of("young")},version="v1"'
    values = {
        f'fleetctl_request_seconds_bucket{{{its},le="12.0"}}': bucket,
        f"fleetctl_request_seconds_count{{{its}}}": others,
        f'fleetctl_promise_seconds{{{of("young")},le="12.0"}}': "12x140",
    }
    return [{"series": series, "values": its} for series, its in values.items()]


SERIES = [
    *young("_x59 0+10x80", "0+10x59 0+10x80"),
    *growing(of("well"), 10, 10),
    *growing(of("late"), 1, 10),
    *growing(of("fails"), 10, 10, "503"),
    # A single request, late and failed: surely nothing.
    {"series": f'fleetctl_requests_total{{{of("quiet")},version="v1",status="500"}}',
     "values": "0x100 1x40"},
    {"series": f'fleetctl_request_seconds_count{{{of("quiet")},version="v1"}}',
     "values": "0x100 1x40"},
    {"series": f'fleetctl_request_seconds_bucket{{{of("quiet")},version="v1",le="2.0"}}',
     "values": "0x140"},
    {"series": f'fleetctl_promise_seconds{{{of("quiet")},le="2.0"}}', "values": "2x140"},
    {"series": f'fleetctl_alias_state{{{of("late")},state="kept",server="s1"}}', "values": "1x140"},
    {"series": f'fleetctl_alias_state{{{of("well")},state="kept"}}', "values": "1x140"},
    {"series": 'fleetctl_alert{rule="slow",subject="well",severity="page",server="s1"}',
     "values": "1x140"},
    {"series": 'fleetctl_reading_timestamp_seconds{reading="fleet"}',
     "values": "0+60x110 6600x30"},
]  # fmt: skip


def burning(alias: str, slo: str, severity: str, value: str, **at: str) -> dict[str, Any]:
    names = {"client": "acme", "alias": alias, "subject": alias, "fleet": "demo"}
    names |= {"sloth_service": alias, "sloth_slo": slo, "sloth_id": f"{alias}-{slo}"}
    name = slo if severity == "page" else f"{slo}_budget"
    return {
        "exp_labels": names | at | {"severity": severity, "sloth_severity": severity},
        "exp_annotations": {
            "summary": f"{alias}: {name}, {value}",
            "command": f"fleetctl why {alias}",
            "runbook": "docs/alerts.md",
        },
    }


@pytest.mark.prometheus
def test_the_sick_ring_and_an_alias_whose_only_request_failed_does_not(tmp_path: Path) -> None:
    (tmp_path / "rules.json").write_text(prometheus.rules("demo"))
    alerts = {
        "promise": [burning("late", "promise", "page", "90%", server="s1")],
        "promise_budget": [burning("late", "promise", "ticket", "90%", server="s1")],
        "errors": [burning("fails", "errors", "page", "100%")],
        "errors_budget": [burning("fails", "errors", "ticket", "100%")],
        "slow": [
            {
                "exp_labels": {
                    "subject": "well", "severity": "page", "server": "s1", "fleet": "demo",
                },
                "exp_annotations": {
                    "summary": "well: slow",
                    "command": "fleetctl why well",
                    "runbook": "docs/alerts.md",
                },
            }
        ],
        "unread": [],
        "outage": [],
    }  # fmt: skip
    # A promise is judged in windows that its bucket covers.
    judged = [
        {
            "expr": f'slo:sli_error:ratio_rate{window}{{sloth_id="young-promise"}}',
            "eval_time": time,
            "exp_samples": [
                {
                    "labels": f'slo:sli_error:ratio_rate{window}{{client="acme",alias="young",'
                    f'sloth_id="young-promise",sloth_service="young",sloth_slo="promise",'
                    f'sloth_window="{window}"}}',
                    "value": 0,
                }
            ]
            * is_judged,
        }
        for window, time, is_judged in (
            ("5m", "1h3m", False), ("5m", "1h7m", True), ("1h", "1h50m", False),
            ("1h", "2h2m", True),
        )
    ]  # fmt: skip
    left = {
        "expr": 'slo:period_error_budget_remaining:ratio{sloth_id="well-promise"}',
        "eval_time": "2h",
        "exp_samples": [
            {
                "labels": 'slo:period_error_budget_remaining:ratio{client="acme",alias="well",'
                'sloth_id="well-promise",sloth_service="well",sloth_slo="promise"}',
                "value": 1,
            }
        ],
    }
    unread = {
        "eval_time": "2h20m",
        "alertname": "unread",
        "exp_alerts": [
            {
                "exp_labels": {
                    "reading": "fleet", "subject": "fleetctl", "severity": "page", "fleet": "demo",
                },
                "exp_annotations": {
                    "summary": "the fleet or its alerts were not read for a quarter of an hour",
                    "command": "fleetctl status",
                    "runbook": "docs/alerts.md",
                },
            }
        ],
    }  # fmt: skip
    tests = {
        "rule_files": ["rules.json"],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": SERIES,
                "alert_rule_test": [
                    unread,
                    *(
                        {"eval_time": "1h50m", "alertname": name, "exp_alerts": expected}
                        for name, expected in alerts.items()
                    ),
                ],
                "promql_expr_test": [left, *judged],
            }
        ],
    }
    (tmp_path / "tests.json").write_text(json.dumps(tests))
    checked("promtool", "test", "rules", tmp_path / "tests.json")


@pytest.mark.prometheus
@pytest.mark.parametrize("login", ["", "ops:pass{{word"])
def test_alertmanager_takes_receivers_and_sends_all_alerts_to_operators(
    tmp_path: Path, login: str
) -> None:
    mail = MailSpec("mail.example.com:465", "fleet@example.com", ("a@example.com", "b@example.com"))
    file = tmp_path / prometheus.CONFIG_FILE
    file.write_text(prometheus.alertmanager_config("https://chat.example.com/x", mail, login))
    assert "2 inhibit rules" in checked("amtool", "check-config", file)
    for severity in ("page", "ticket"):
        found = checked(
            "amtool", "config", "routes", "test", "--config.file", file,
            "alertname=slow", f"severity={severity}",
        )  # fmt: skip
        assert found.strip() == "operators"
    matchers = json.loads(file.read_text())["inhibit_rules"][0]["target_matchers"][0]
    assert {*re.findall(r"\w+", matchers)} == {"alertname", *OF_TRAFFIC}


def test_without_receivers_alerts_are_routed_to_nothing() -> None:
    (receiver,) = json.loads(prometheus.alertmanager_config("", None, ""))["receivers"]
    assert receiver == {"name": "operators"}
