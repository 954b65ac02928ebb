"""Compile dashboards for Grafana, for operators: a variable of a dashboard isolates no client."""

import json
from collections.abc import Mapping
from typing import Any, Final

_SCHEMA: Final = 39
_DATASOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}
_WIDTH, _HEIGHT = 12, 8
"""Size of a panel on Grafana's grid of 24 columns."""
_OF: Final = 'client=~"$client",alias=~"$alias"'
_AT: Final = 'server=~"$server"'
_PAID: Final = 'client=~"$client"'


def _rate(counter: str, labels: str, by: str) -> str:
    return f"sum by ({by}) (rate({counter}{{{labels}}}[$__rate_interval]))"


def _quantile(part: float, histogram: str, labels: str, by: str) -> str:
    return f"histogram_quantile({part}, {_rate(f'{histogram}_bucket', labels, f'{by}, le')})"


_LATENCY: Final = "fleetctl_request_seconds"
_HITS = _rate("vllm:prefix_cache_hits_total", _AT, "server")
_LOOKUPS = _rate("vllm:prefix_cache_queries_total", _AT, "server")
_Panel = tuple[str, ...]
"""Title, unit, and then queries, all behind their legends."""

_FLEET: Final[tuple[_Panel, ...]] = (
    ("Requests", "reqps", "{{client}}", _rate("fleetctl_requests_total", "", "client")),
    ("Requests that wait", "short", "{{gateway}}", "fleetctl_waiting"),
    ("Alerts that fire", "short", "{{rule}} {{subject}}", "fleetctl_alert"),
    ("Aliases", "short", "{{state}}", "count by (state) (fleetctl_alias_state)"),
    ("Budget left", "percentunit", "{{sloth_id}}", "slo:period_error_budget_remaining:ratio"),
    ("Budget use, 1: as allowed", "short", "{{sloth_id}}", "slo:current_burn_rate:ratio"),
    ("Rollouts", "percent", "{{alias}} {{version}}", "fleetctl_version_percent < 100"),
    ("Causes of drift", "short", "causes", "fleetctl_drift_causes"),
)
_CLIENT: Final[tuple[_Panel, ...]] = (
    ("Latency", "s", "p50 {{alias}}", _quantile(0.5, _LATENCY, _OF, "alias"),
     "p95 {{alias}}", _quantile(0.95, _LATENCY, _OF, "alias"),
     "promise {{alias}}", f"fleetctl_promise_seconds{{{_OF}}}"),
    ("p95 by version", "s", "{{version}}", _quantile(0.95, _LATENCY, _OF, "version")),
    ("First byte, p95", "s", "{{alias}}",
     _quantile(0.95, "fleetctl_first_byte_seconds", _OF, "alias")),
    ("Requests", "reqps", "{{alias}} {{status}}",
     _rate("fleetctl_requests_total", _OF, "alias, status")),
    ("Tokens", "short", "input {{alias}}", _rate("fleetctl_input_tokens_total", _OF, "alias"),
     "cached {{alias}}", _rate("fleetctl_cached_tokens_total", _OF, "alias"),
     "output {{alias}}", _rate("fleetctl_output_tokens_total", _OF, "alias")),
    ("Requests that wait, mean", "short", "{{alias}}",
     _rate("fleetctl_waited_seconds_total", _OF, "alias")),
    ("Shares of versions", "percent", "{{version}}", f"fleetctl_version_percent{{{_OF}}}"),
    ("Accuracy", "percentunit", "{{alias}}", f"fleetctl_eval_accuracy{{{_OF}}}"),
)  # fmt: skip
_SERVER: Final[tuple[_Panel, ...]] = (
    ("Requests", "short",
     "in flight {{server}}", f"sum by (server) (fleetctl_in_flight{{{_AT}}})",
     "running {{server}}", f"vllm:num_requests_running{{{_AT}}}",
     "waiting {{server}}", f"vllm:num_requests_waiting{{{_AT}}}"),
    ("KV cache", "percentunit", "{{server}}", f"vllm:kv_cache_usage_perc{{{_AT}}}"),
    ("Tokens", "short", "prompt {{server}}", _rate("vllm:prompt_tokens_total", _AT, "server"),
     "answer {{server}}", _rate("vllm:generation_tokens_total", _AT, "server")),
    ("Ends of requests", "reqps", "{{server}} {{finished_reason}}",
     _rate("vllm:request_success_total", _AT, "server, finished_reason")),
    ("Prompts in the cache", "percentunit", "{{server}}", f"{_HITS} / {_LOOKUPS}"),
    ("First token, p95", "s", "{{server}}",
     _quantile(0.95, "vllm:time_to_first_token_seconds", _AT, "server")),
    ("Preemptions", "short", "{{server}}", _rate("vllm:num_preemptions_total", _AT, "server")),
    ("Asked by gateways", "short", "{{gateway}} {{server}}", f"fleetctl_server_up{{{_AT}}}"),
    ("Slots", "short", "{{server}} {{state}}", f"fleetctl_slots{{{_AT}}}"),
    ("Memory", "bytes", "{{device}} {{server}} {{part}}", "fleetctl_device_bytes"),
)  # fmt: skip
_COST: Final[tuple[_Panel, ...]] = (
    ("Cost of the month so far", "short", "{{client}} {{currency}}",
     f"sum by (client, currency) (fleetctl_cost{{{_PAID}}})"),
    ("Cost by purpose", "short", "{{purpose}} {{currency}}",
     f"sum by (purpose, currency) (fleetctl_cost{{{_PAID}}})"),
    ("Part of the fee", "percentunit", "so far {{client}}",
     f"sum by (client) (fleetctl_cost{{{_PAID}}}) / sum by (client) (fleetctl_fee{{{_PAID}}})",
     "month {{client}}", f"fleetctl_projected_cost_share{{{_PAID}}}"),
    ("Price of an hour", "short", "{{device}}", "fleetctl_device_price_per_hour"),
)  # fmt: skip
_VARIABLES: Final[Mapping[str, str]] = {
    "client": "label_values(fleetctl_promise_seconds, client)",
    "alias": 'label_values(fleetctl_promise_seconds{client=~"$client"}, alias)',
    "server": "label_values(fleetctl_slots, server)",
}
_BOARDS: Final[Mapping[str, tuple[tuple[_Panel, ...], tuple[str, ...]]]] = {
    "fleet": (_FLEET, ()),
    "client": (_CLIENT, ("client", "alias")),
    "server": (_SERVER, ("server",)),
    "cost": (_COST, ("client",)),
}
"""Panels and variables of dashboards."""


def dashboards() -> Mapping[str, str]:
    """Return the dashboards as JSON by file name."""
    return {
        f"grafana-{name}.json": json.dumps(_board(name, panels, variables), indent=1) + "\n"
        for name, (panels, variables) in _BOARDS.items()
    }


def _board(name: str, panels: tuple[_Panel, ...], variables: tuple[str, ...]) -> dict[str, Any]:
    source = {"name": "datasource", "type": "datasource", "query": "prometheus"}
    asked = [
        {"name": variable, "type": "query", "datasource": _DATASOURCE, "allValue": ".*",
         "query": _VARIABLES[variable], "refresh": 2, "multi": True, "includeAll": True}
        for variable in variables
    ]  # fmt: skip
    return {
        "uid": f"fleetctl-{name}",
        "title": f"fleetctl: {name}",
        "tags": ["fleetctl"],
        "schemaVersion": _SCHEMA,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *asked]},
        "panels": [_panel(number, *panel) for number, panel in enumerate(panels)],
    }


def _panel(number: int, title: str, unit: str, *queries: str) -> dict[str, Any]:
    row, column = divmod(number, 2)
    place = {"x": column * _WIDTH, "y": row * _HEIGHT, "w": _WIDTH, "h": _HEIGHT}
    pairs = zip("ABC", queries[::2], queries[1::2], strict=False)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": _DATASOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": {"unit": unit}},
        "targets": [
            {"refId": name, "datasource": _DATASOURCE, "legendFormat": legend, "expr": query}
            for name, legend, query in pairs
        ],
    }
