"""Build Envoy's clusters: a cluster for every set of servers that hold a version."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final, Self

from fleet.errors import ConfigError
from plans.compile.envoy.messages import (
    NAMESPACE,
    Json,
    Routing,
    address,
    extension,
    seconds,
    typed,
)

CONNECT_S: Final = 2.0
"""Upper bound of the time to connect to a server. Unit: seconds."""
KEEP_ALIVE_S: Final = 3.0
"""Upper bound of an idle connection to a server; below the 5 s after which vLLM closes. Unit:
seconds."""
HEALTH_S: Final = 2.0
"""Interval and upper bound of a health check. Unit: seconds."""
EMPTY: Final = "no-server"
"""Name of the cluster of versions that no reachable server holds: 503."""

_HTTP: Final = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
_LEAST: Final = "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest"
_TLS: Final = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
_URL: Final = re.compile(r"(https?)://(?:\[([^]]+)\]|([^\s/?#:]+))(?::([0-9]+))?((?:/[^\s?#]*)?)")


@dataclass(frozen=True, slots=True)
class _Url:
    """A base URL, in parts."""

    scheme: str
    host: str
    port: int
    path: str

    @classmethod
    def of(cls, text: str) -> Self:
        """Return the parts of a URL of the routing table, which holds valid URLs only."""
        found = _URL.fullmatch(text)
        assert found is not None, text
        scheme, bracketed, name, port, path = found.groups()
        usual = 443 if scheme == "https" else 80
        return cls(scheme, bracketed or name, int(port or usual), path.rstrip("/"))


def cluster_name(servers: Sequence[str]) -> str:
    """Return the name of the cluster of a set of servers."""
    return "+".join(servers) or EMPTY


def path_of(routing: Routing, servers: Sequence[str]) -> str:
    """Return the path under which the servers serve the API; empty for none.

    Raises:
        ConfigError: the servers differ in path or scheme.
    """
    return _common(routing, servers).path if servers else ""


def clusters(routing: Routing) -> list[Json]:
    """Return the clusters that the routes name, sorted.

    Raises:
        ConfigError: the servers of a version differ in scheme or path.
    """
    sets = {
        routing.reachable(share.servers)
        for route in routing.routes.values()
        for share in route.shares
    }
    return [_cluster(routing, servers) for servers in sorted(sets)]


def _cluster(routing: Routing, servers: Sequence[str]) -> Json:
    urls = [_Url.of(routing.servers[server]) for server in servers]
    endpoints = [
        {
            "endpoint": {"address": address(url.host, url.port), "hostname": url.host},
            "metadata": {"filter_metadata": {NAMESPACE: {"server": server}}},
        }
        for server, url in zip(servers, urls, strict=True)
    ]
    cluster: Json = typed(
        "envoy.config.cluster.v3.Cluster",
        name=cluster_name(servers),
        type="STATIC" if all(_is_address(url.host) for url in urls) else "STRICT_DNS",
        connect_timeout=seconds(CONNECT_S),
        per_connection_buffer_limit_bytes=256 * 1024,
        common_lb_config={"healthy_panic_threshold": {"value": 0}},
        load_balancing_policy={
            "policies": [{"typed_extension_config": extension("least", _LEAST)}]
        },
        circuit_breakers={"thresholds": [_UNLIMITED]},
        typed_extension_protocol_options={
            _HTTP: typed(
                _HTTP,
                explicit_http_config={"http_protocol_options": {}},
                common_http_protocol_options={"idle_timeout": seconds(KEEP_ALIVE_S)},
            )
        },
        load_assignment={
            "cluster_name": cluster_name(servers),
            "endpoints": [{"lb_endpoints": endpoints}],
        },
    )
    if not servers:
        return cluster
    common = _common(routing, servers)
    cluster["health_checks"] = [
        {
            "timeout": seconds(HEALTH_S),
            "interval": seconds(HEALTH_S),
            "interval_jitter_percent": 20,
            "no_traffic_interval": seconds(HEALTH_S),
            "unhealthy_threshold": 2,
            "healthy_threshold": 1,
            "http_health_check": {"path": f"{common.path}/health"},
        }
    ]
    cluster["outlier_detection"] = _EJECTED
    if common.scheme == "https":
        cluster["transport_socket"] = extension(
            "envoy.transport_sockets.tls",
            _TLS,
            auto_host_sni=True,
            common_tls_context={"validation_context": {"system_root_certs": {}}},
        )
    return cluster


_UNLIMITED: Final[Json] = {
    "max_connections": 100_000,
    "max_pending_requests": 100_000,
    "max_requests": 100_000,
    "retry_budget": {"budget_percent": {"value": 10}, "min_retry_concurrency": 10},
}
"""Upper bounds above any load: Envoy's default is 1024 requests, and servers queue requests."""
_EJECTED: Final[Json] = {
    "split_external_local_origin_errors": True,
    "consecutive_local_origin_failure": 2,
    "consecutive_5xx": 20,
    "enforcing_success_rate": 0,
    "interval": "1s",
    "base_ejection_time": "2s",
    "max_ejection_percent": 100,
}


def _common(routing: Routing, servers: Sequence[str]) -> _Url:
    urls = {server: _Url.of(routing.servers[server]) for server in servers}
    if len({(url.scheme, url.path) for url in urls.values()}) > 1:
        raise ConfigError.of(
            "FC6050",
            "Envoy cannot serve these servers as replicas",
            "One alias is answered by servers whose URLs differ in scheme or path: "
            f"{', '.join(f'`{server}` {routing.servers[server]}' for server in servers)}.",
            hint="Give them URLs that differ in host and port only, or use fleetctl's own "
            "gateway, which can serve them.",
        )
    return next(iter(urls.values()))


def _is_address(host: str) -> bool:
    try:
        return bool(ip_address(host))
    except ValueError:
        return False
