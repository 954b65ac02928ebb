"""Compile routes for the Gateway API of Kubernetes with its inference extension.

An alias is an HTTPRoute by the header that a body-based router sets from the request's `model`.
Each server is an InferencePool of its own, since it holds versions that others do not hold. The
InferenceModelRewrite of its pool puts a version in the alias's place, by the stage of the rollout.
Objects keep their names from stage to stage, so that a stage is an update in place.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import gcd, lcm
from typing import Any

from fleet.names import dns_label
from fleet.resources import Route
from fleet.vllm import POD_PORT
from plans.compile.kubernetes import SERVER_LABEL, Document, metadata

MODEL_HEADER = "X-Gateway-Model-Name"
"""Header that a body-based router of the inference extension sets."""
POOL_GROUP = "inference.networking.k8s.io"
PICKER_PORT = 9002
"""TCP port of the endpoint picker of a pool."""


def objects(fleet: str, routes: Mapping[str, Route], servers: Sequence[str]) -> list[Document]:
    """Return pools, rewrites and routes; versions without a share are left out.

    `servers`: names of the servers that there are. Shares are spread evenly over a version's
    servers: a server of a route gets its part, and its rewrite divides the part among the versions
    that the server holds.
    """
    parts = {alias: _parts(route, servers) for alias, route in sorted(routes.items())}
    used = sorted({server for part in parts.values() for server in part})
    found: list[Document] = []
    for server in used:
        found += [_pool(fleet, server), _rewrite(fleet, server, routes, parts)]
    return found + [_route(fleet, routes[alias], part) for alias, part in parts.items() if part]


def _parts(route: Route, servers: Sequence[str]) -> dict[str, dict[str, Fraction]]:
    """Return the percentage of a route's requests by server and version."""
    parts: dict[str, dict[str, Fraction]] = defaultdict(dict)
    for share in route.shares:
        held = sorted(server for server in share.servers if server in servers)
        for server in held if share.percent else ():
            parts[server][share.adapter] = Fraction(share.percent, len(held))
    return parts


def _weights(parts: Mapping[str, Fraction]) -> dict[str, int]:
    """Return the least whole numbers in the ratio of the parts."""
    times = lcm(*(part.denominator for part in parts.values()))
    whole = {name: int(part * times) for name, part in parts.items()}
    common = gcd(*whole.values())
    return {name: number // common for name, number in whole.items()}


def _pool(fleet: str, server: str) -> Document:
    label = dns_label(server)
    return {
        "apiVersion": f"{POOL_GROUP}/v1",
        "kind": "InferencePool",
        "metadata": metadata(fleet, label, server=server),
        "spec": {
            "selector": {"matchLabels": {"fleetctl.dev/fleet": fleet, SERVER_LABEL: server}},
            "targetPorts": [{"number": POD_PORT}],
            "endpointPickerRef": {"name": f"{label}-epp", "port": {"number": PICKER_PORT}},
        },
    }


def _rewrite(
    fleet: str,
    server: str,
    routes: Mapping[str, Route],
    parts: Mapping[str, Mapping[str, Mapping[str, Fraction]]],
) -> Document:
    rules = [
        {
            "matches": [
                {"model": {"type": "Exact", "value": name}} for name in _asked(routes[alias])
            ],
            "targets": [
                {"modelRewrite": adapter, "weight": weight}
                for adapter, weight in _weights(part[server]).items()
            ],
        }
        for alias, part in parts.items()
        if server in part
    ]
    return {
        "apiVersion": "llm-d.ai/v1alpha2",
        "kind": "InferenceModelRewrite",
        "metadata": metadata(fleet, dns_label(server), server=server),
        "spec": {
            "poolRef": {"group": POOL_GROUP, "kind": "InferencePool", "name": dns_label(server)},
            "rules": rules,
        },
    }


def _route(fleet: str, route: Route, part: Mapping[str, Mapping[str, Fraction]]) -> Document:
    weights = _weights(
        {server: sum(shares.values(), Fraction(0)) for server, shares in part.items()}
    )
    backends: list[Mapping[str, Any]] = [
        {"group": POOL_GROUP, "kind": "InferencePool", "name": dns_label(server), "weight": weight}
        for server, weight in sorted(weights.items())
    ]
    matches = [
        {"headers": [{"type": "Exact", "name": MODEL_HEADER, "value": name}]}
        for name in _asked(route)
    ]
    return {
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "HTTPRoute",
        "metadata": metadata(fleet, dns_label(route.alias), alias=route.alias, client=route.client),
        "spec": {
            "parentRefs": [{"name": dns_label(fleet)}],
            "rules": [{"matches": matches, "backendRefs": backends}],
        },
    }


def _asked(route: Route) -> list[str]:
    """Return the names that clients ask for."""
    other = route.policy.alias_for if route.policy else ""
    return list(dict.fromkeys((route.alias, other or route.alias)))
