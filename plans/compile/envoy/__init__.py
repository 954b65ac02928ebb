"""Compile Envoy's configuration for the routes of fleetctl's gateway, with Envoy's filters only.

No Lua and no external process: `api_key_auth` finds the client, `transform` reads and rewrites
the body, weighted clusters with a hash policy choose the version, `json_to_metadata` and
`sse_to_metadata` count tokens. Two files change with a revision; Envoy follows them, and its
admin side shows their revision as served.
"""

import json
from collections.abc import Mapping, Sequence

from plans.compile.envoy.bootstrap import (
    ADMIN_SOCKET,
    BOOTSTRAP_FILE,
    CLUSTERS_FILE,
    ROUTES_FILE,
    bootstrap,
)
from plans.compile.envoy.clusters import clusters
from plans.compile.envoy.messages import Credential, Json, RoutePlace, Routing
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


def files(routing: Routing, place: RoutePlace, *, served: Sequence[Json] = ()) -> Mapping[str, str]:
    """Return the files of an Envoy that follows the routing table, in the order of writing.

    Servers come before the routes that name them, so that no request meets a route whose
    cluster is not there yet.

    Clusters that the routes `served` until now name stay for a revision more, so that no request in
    flight is cut.

    Raises:
        ConfigError: the servers of a version cannot be replicas in Envoy.
    """
    resources = clusters(routing)
    names = {cluster["name"] for cluster in resources}
    resources += [cluster for cluster in served if cluster["name"] not in names]
    return {
        CLUSTERS_FILE: _text({"version_info": routing.version, "resources": resources}),
        ROUTES_FILE: _text(
            {"version_info": routing.version, "resources": [route_configuration(routing)]}
        ),
        BOOTSTRAP_FILE: _text(bootstrap(place), indent=1),
    }


def whole(routing: Routing, place: RoutePlace) -> str:
    """Return a single document with bootstrap, routes and clusters, for reading and comparing.

    Raises:
        ConfigError: as `files`.
    """
    document = bootstrap(place, route_configuration(routing), clusters(routing))
    return _text(document, indent=1)


def _text(document: Json, indent: int | None = None) -> str:
    """Return a document as JSON, which is YAML too; without `indent` in the fewest bytes."""
    separators = (",", ":") if indent is None else None
    return json.dumps(document, indent=indent, separators=separators) + "\n"
