"""Compile LiteLLM's configuration for the aliases and shares of the routing table."""

import json
from collections.abc import Mapping
from typing import Any

from fleet.resources import Route


def config(routes: Mapping[str, Route], servers: Mapping[str, str]) -> str:
    """Return LiteLLM's `config.yaml`, written as JSON, which is YAML too.

    A version's share is spread evenly over the servers of the version. Versions without a share
    are left out. `servers` are base URLs by server.
    """
    document = {
        "model_list": [
            deployment
            for alias in sorted(routes)
            for deployment in _deployments(routes[alias], servers)
        ],
        "router_settings": {"routing_strategy": "simple-shuffle", "num_retries": 0},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }
    return json.dumps(document, indent=1) + "\n"


def _deployments(route: Route, servers: Mapping[str, str]) -> list[dict[str, Any]]:
    deployments = []
    names = dict.fromkeys((route.alias, (route.policy and route.policy.alias_for) or route.alias))
    for share in route.shares:
        held = sorted(server for server in share.servers if server in servers)
        for server in held if share.percent else ():
            parameters = {
                "model": f"hosted_vllm/{share.adapter}",
                "api_base": f"{servers[server].rstrip('/')}/v1",
                "api_key": "none",
                "weight": round(share.percent / len(held), 6),
            }
            name = {"id": f"{share.adapter}@{server}"}
            deployments += [
                {"model_name": asked, "litellm_params": parameters, "model_info": name}
                for asked in names
            ]
    return deployments
