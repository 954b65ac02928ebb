"""Build the bootstrap document: the address that Envoy listens on, and the files to follow."""

from collections.abc import Sequence
from typing import Final

from plans.compile.envoy.filters import early_mutations, filters
from plans.compile.envoy.logs import access_logs
from plans.compile.envoy.messages import Json, RoutePlace, address, extension, seconds
from plans.compile.envoy.refusals import local_replies

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


def bootstrap(
    place: RoutePlace, routes: Json | None = None, clusters: Sequence[Json] | None = None
) -> Json:
    """Return the document to start Envoy with; Envoy follows files for missing parts."""
    served: Json = (
        {"route_config": _bare(routes)}
        if routes is not None
        else {"rds": {"route_config_name": "fleetctl", "config_source": _file(place, ROUTES_FILE)}}
    )
    document: Json = {
        "node": {"id": place.name, "cluster": "fleetctl"},
        "admin": {"address": {"pipe": {"path": place.admin, "mode": _PRIVATE}}},
        "layered_runtime": {"layers": [{"name": "fleetctl", "static_layer": _LIMITS}]},
        "static_resources": {"listeners": [_listener(place, served)]},
    }
    if clusters is None:
        document["dynamic_resources"] = {"cds_config": _file(place, CLUSTERS_FILE)}
    else:
        document["static_resources"]["clusters"] = [_bare(cluster) for cluster in clusters]
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
        http_filters=filters(),
        early_header_mutation_extensions=early_mutations(),
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
