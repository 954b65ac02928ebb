"""What is declared about traffic, from the files to the policy of a route."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from fleet.codec import plain, resource_of_plain
from fleet.history.values import History
from fleet.planning.pipeline import make_plan
from fleet.resources import Route, State
from fleet.response_format import FormatKind, ResponseFormat
from fleet.traffic import LimitPolicy, ShadowPolicy, Sticky, TimeoutPolicy, TrafficPolicy
from runtime.project.load import load_project
from tests.broken.project import valid, write

A, F = "clients/acme.yaml", "fleet.yaml"
SUPPORT, SHADOW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v9.0.0"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def route(root: Path, edits: dict[str, tuple[str, str]], **more: str) -> Route:
    """Return the route of acme-support that the edited project asks for."""
    files = valid() | {name.replace("_", "."): text for name, text in more.items()}
    for file, (old, new) in edits.items():
        assert old in files[file]
        files[file] = files[file].replace(old, new, 1)
    write(root, files)
    fleet = load_project(root, None, {}).fleet
    plan = make_plan(fleet, State(), History(), NOON)
    made = next(each.after for each in plan.changes if each.address == "route/acme-support")
    assert isinstance(made, Route)
    assert resource_of_plain(plain(made)) == made  # as the ledger gives it back
    return made


def test_what_declares_nothing_leaves_no_trace(tmp_path: Path) -> None:
    made = route(tmp_path, {})
    assert made.policy is None
    assert "policy" not in plain(made)


def test_a_shadow_is_loaded_gets_no_traffic_and_goes_when_it_is_no_longer_declared(
    tmp_path: Path,
) -> None:
    wide = {F: ("max_lora_rank: 16", "max_lora_rank: 64")}
    declared = 'shadow: {version: "9.0.0", percent: 25%, concurrency: 3}'
    edits = wide | {A: ("        latency:", f"        {declared}\n        latency:")}
    made = route(tmp_path, edits)
    shares = {each.adapter: (each.percent, bool(each.servers)) for each in made.shares}
    assert shares == {SUPPORT: (100, True), SHADOW: (0, True)}
    servers = {each.adapter: each.servers for each in made.shares}[SHADOW]
    assert made.policy == TrafficPolicy(shadow=ShadowPolicy(SHADOW, servers, 25, 3))
    live = State(resources={made.address: made})
    write(tmp_path, {name: valid()[name].replace(*wide.get(name, ("", ""))) for name in valid()})
    plan = make_plan(load_project(tmp_path, None, {}).fleet, live, History(), NOON)
    after = next(each.after for each in plan.changes if each.address == made.address)
    assert isinstance(after, Route)
    assert [each.adapter for each in after.shares] == [SUPPORT]
    assert after.policy is None


@pytest.mark.parametrize(
    ("edits", "policy"),
    [
        (
            {A: ("        latency:", "        format: {labels: [b, a]}\n        latency:")},
            TrafficPolicy(format=ResponseFormat(FormatKind.LABELS, labels=("a", "b"))),
        ),
        (
            {A: ("        latency:", "        format: {json_schema: x.json}\n        latency:")},
            TrafficPolicy(format=ResponseFormat(FormatKind.SCHEMA, '{"type": "object"}')),
        ),
        (
            {A: ("        latency:", "        sticky: key\n        choices: 2\n        latency:")},
            TrafficPolicy(sticky=Sticky.KEY, choices=2),
        ),
        (  # what the client does not say, its tier does
            {
                A: ("    tier: premium", "    tier: premium\n    limits: {concurrency: 3}"),
                F: ("retrain_every: 30d", "limits: {concurrency: 9, tokens_per_minute: 500}"),
            },
            TrafficPolicy(client_limits=LimitPolicy(concurrency=3, tokens_per_minute=500)),
        ),
        (
            {
                A: (
                    "        latency:",
                    "        limits: {requests_per_minute: 60, queue: 200ms}\n        latency:",
                ),
                F: ("gateways:", 'gateways:\n  more: {listen: "127.0.0.1:8081"}'),
            },
            TrafficPolicy(limits=LimitPolicy(requests_per_minute=60, queue_s=0.2), gateways=2),
        ),
        (
            {F: ("retrain_every: 30d", "timeouts: {first_byte: 5s, idle: 2s, total: 90s}")},
            TrafficPolicy(timeouts=TimeoutPolicy(5, 2, 90)),
        ),
        (
            {
                F: ("    dtype: bfloat16", "    dtype: bfloat16\n    max_in_flight: 8"),
                A: ("latency: short_generation", "latency: classification"),
            },
            TrafficPolicy(server_in_flight=8, turns=4),
        ),
        ({A: ("latency: short_generation", "latency: long_generation")}, TrafficPolicy(turns=1)),
        ({F: ("retrain_every: 30d", "weight: 5")}, TrafficPolicy(turns=10)),
        ({F: ("    dtype: bfloat16", "    dtype: bfloat16\n    min_kv_tokens: 4096")}, None),
        (
            {F: ("enable-prefix-caching: true", "scheduling-policy: priority")},
            TrafficPolicy(turns=2, prioritized=True),
        ),
    ],
)
def test_a_declaration_becomes_a_routes_policy(
    tmp_path: Path, edits: dict[str, tuple[str, str]], policy: Any
) -> None:
    assert route(tmp_path, edits, x_json='{"type": "object"}').policy == policy
