"""Compile Envoy's configuration for the routes of fleetctl's gateway, with Envoy's filters only.

No Lua and no external process: `api_key_auth` finds the client, `transform` reads and rewrites
the body, weighted clusters with a hash policy choose the version, `json_to_metadata` and
`sse_to_metadata` count tokens. Two files change with a revision; Envoy follows them, and its
admin side shows their revision as served.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Final

from plans.compile.envoy import filters
from plans.compile.envoy.clusters import clusters
from plans.compile.envoy.logs import STATS_CONFIG, access_logs
from plans.compile.envoy.messages import (
    Credential,
    Json,
    RoutePlace,
    Routing,
    address,
    extension,
    local_replies,
    seconds,
)
from plans.compile.envoy.routes import route_configuration

__all__ = [
    "ADMIN_SOCKET",
    "BOOTSTRAP_FILE",
    "CLUSTERS_FILE",
    "ROUTES_FILE",
    "Credential",
    "RoutePlace",
    "Routing",
    "files",
    "whole",
]

BOOTSTRAP_FILE: Final = "envoy.json"
CLUSTERS_FILE: Final = "clusters.json"
ROUTES_FILE: Final = "routes.json"
ADMIN_SOCKET: Final = "admin.sock"
MAX_BODY: Final = 16 * 2**20
"""Upper bound of a request body, as in fleetctl's gateway. Unit: bytes."""
_MAX_HEAD_KIB: Final = 32
"""Upper bound of a request's headers. Unit: KiB."""
_CLIENT_IDLE_S: Final = 75.0
"""Upper bound of a client connection's idle time. Unit: seconds."""
_READ_S: Final = 300.0
"""Upper bound of the time to read a request. Unit: seconds."""
_PRIVATE: Final = 0o600
_LIMITS: Final = {"re2.max_program_size.error_level": 4096, "re2.max_program_size.warn_level": 4096}
"""Upper bound of a regular expression's size: the expression of headers to remove is long."""


def files(routing: Routing, place: RoutePlace, *, served: Sequence[Json] = ()) -> Mapping[str, str]:
    """Return the files of an Envoy that follows the routing table, in the order of writing.

    Servers come before the routes that name them, so that no request meets a route whose cluster is
    not there yet. Clusters that the routes `served` until now name stay for a revision more, so
    that no request in flight is cut.

    Raises:
        ConfigError: the servers of a version cannot be replicas in Envoy.
    """
    resources, routes = clusters(routing), route_configuration(routing)
    names = {cluster["name"] for cluster in resources}
    resources += [cluster for cluster in served if cluster["name"] not in names]
    return {
        CLUSTERS_FILE: _text({"version_info": routing.version, "resources": resources}),
        ROUTES_FILE: _text({"version_info": routing.version, "resources": [routes]}),
        BOOTSTRAP_FILE: _text(_bootstrap(place), indent=1),
    }


def whole(routing: Routing, place: RoutePlace) -> str:
    """Return a single document with bootstrap, routes and clusters, for reading and comparing.

    Raises:
        ConfigError: as `files`.
    """
    return _text(_bootstrap(place, routing), indent=1)


def _text(document: Json, indent: int | None = None) -> str:
    """Return a document as JSON, which is YAML too; without `indent` in the fewest bytes."""
    separators = (",", ":") if indent is None else None
    return json.dumps(document, indent=indent, separators=separators) + "\n"


def _bootstrap(place: RoutePlace, routing: Routing | None = None) -> Json:
    """Return the document to start Envoy with; without `routing`, Envoy follows the files."""
    followed = {"route_config_name": "fleetctl", "config_source": _file(place, ROUTES_FILE)}
    served: Json = {"rds": followed}
    if routing is not None:
        served = {"route_config": _bare(route_configuration(routing))}
    document: Json = {
        "node": {"id": place.name, "cluster": "fleetctl"},
        "admin": {"address": {"pipe": {"path": place.admin, "mode": _PRIVATE}}},
        "stats_config": STATS_CONFIG,
        "layered_runtime": {"layers": [{"name": "fleetctl", "static_layer": _LIMITS}]},
        "static_resources": {"listeners": [_listener(place, served)]},
    }
    if routing is None:
        document["dynamic_resources"] = {"cds_config": _file(place, CLUSTERS_FILE)}
    else:
        document["static_resources"]["clusters"] = [*map(_bare, clusters(routing))]
    return document


def _bare(message: Json) -> Json:
    """Return a message without its type, for a field that takes a single type."""
    return {name: value for name, value in message.items() if name != "@type"}


def _file(place: RoutePlace, name: str) -> Json:
    """Return a file as a source; Envoy reads it again when a file is renamed onto it.

    Envoy does not watch the folder: any other write there would make it read again.
    """
    return {"path_config_source": {"path": f"{place.folder}/{name}"}, "resource_api_version": "V3"}


def _listener(place: RoutePlace, routes: Json) -> Json:
    host, _, port = place.listen.rpartition(":")
    connection = extension(
        "envoy.filters.network.http_connection_manager",
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="clients",
        **routes,
        http_filters=filters.filters(),
        early_header_mutation_extensions=filters.early_mutations(),
        access_log=access_logs(place.folder),
        local_reply_config=local_replies(),
        server_name="fleetctl",
        use_remote_address=True,
        skip_xff_append=True,
        always_set_request_id_in_response=True,
        max_request_headers_kb=_MAX_HEAD_KIB,
        request_headers_timeout=seconds(_READ_S),
        request_timeout=seconds(_READ_S),
        stream_idle_timeout=seconds(_READ_S),
        common_http_protocol_options={"idle_timeout": seconds(_CLIENT_IDLE_S)},
    )
    return {
        "name": "clients",
        "address": address(host.strip("[]"), int(port)),
        "per_connection_buffer_limit_bytes": MAX_BODY,
        "filter_chains": [{"filters": [connection]}],
    }
