"""What a gateway's admin side answers in a test."""

from pathlib import Path
from typing import Any

from fleet.spec import GatewaySpec
from runtime.gateway.admin_socket import short_path, socket_path
from runtime.json_client import JsonClient


def admin_of(state: Path) -> JsonClient:
    """Return a client of the admin side of the gateway `main`."""
    return JsonClient(
        "http://gateway", socket=short_path(socket_path(state, GatewaySpec("main", "", "")))
    )


async def ask_admin(state: Path, path: str) -> Any:
    """Return what the admin side answers, from JSON."""
    async with admin_of(state) as client:
        return await client.get(path)


async def metrics_of(state: Path) -> str:
    """Return what the gateway shows to Prometheus."""
    async with admin_of(state) as client:
        return await client.get_text("/metrics")
