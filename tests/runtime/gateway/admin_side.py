"""The answers of a gateway's admin side in a test."""

from pathlib import Path
from typing import Any

from fleet.spec import GatewaySpec
from runtime.gateway.admin.admin_socket import short_path, socket_path
from runtime.json_client import JsonClient


def admin_of(state: Path) -> JsonClient:
    """Return a client of the admin side of the gateway `main`."""
    return JsonClient(
        "http://gateway", socket=short_path(socket_path(state, GatewaySpec("main", "", "")))
    )


async def ask_admin(state: Path, path: str) -> Any:
    """Return the admin side's answer, from JSON."""
    async with admin_of(state) as client:
        return await client.get(path)


async def metrics_of(state: Path) -> str:
    """Return the gateway's metrics for Prometheus."""
    async with admin_of(state) as client:
        return await client.get_text("/metrics")
