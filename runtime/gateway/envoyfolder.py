"""An Envoy's folder: what is in it, and how a new revision gets there."""

import hashlib
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from fleet.errors import EngineRejectedError, problem
from runtime.files import replace_file
from runtime.gateway.table import KeyEntry, RoutingTable

CLUSTERS: Final = "clusters.json"
ROUTES: Final = "routes.json"
TABLE: Final = "table.json"
"""The routing table that the folder was written from; it holds no key, only hashes."""
_PRIVATE: Final = 0o700

Secret = Callable[[str], str | None]
"""Gives the secret behind a reference, None where it cannot be read here."""


def credentials(table: RoutingTable, secret: Secret, folder: Path) -> list[tuple[str, str]]:
    """Return each key's client and secret, in the order of the keys' names.

    A secret that cannot be read here is taken from the routes that are in the folder, if it
    is there: a rollback depends on no secret store.

    Raises:
        EngineRejectedError: secrets are neither here nor there, or are not those of the table.
    """
    known: Mapping[str, str] | None = None  # the file is large, and seldom needed
    found: list[tuple[str, str]] = []
    lost: list[str] = []
    for name, key in sorted(table.keys.items()):
        read = secret(key.reference)
        value = read if read is not None and _digest(read) == key.sha256 else None
        if value is None:
            known = _served_secrets(folder) if known is None else known
            value = known.get(key.sha256)
        if value is None:
            lost.append(_said(name, key, read))
        else:
            found.append((key.client, value))
    if lost:
        raise EngineRejectedError(
            HTTPStatus.FORBIDDEN,
            problem(
                "FC6051",
                "An Envoy needs the keys themselves",
                "Its configuration holds API keys in clear, and not all can be read here: "
                f"{'; '.join(lost)}.",
                hint="Set them where this runs. Where a secret was changed, apply it first, so "
                "that the routing table has it.",
                command="fleetctl apply --auto",
            ),
        )
    return found


def _said(name: str, key: KeyEntry, read: str | None) -> str:
    why = "cannot be read" if read is None else "is not the secret in the routing table"
    return f"`{key.reference}` of key `{name}` {why}"


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def write(folder: Path, documents: Mapping[str, str]) -> None:
    """Write files for their owner only, each whole, in the order given."""
    folder.mkdir(mode=_PRIVATE, parents=True, exist_ok=True)
    for name, text in documents.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            replace_file(path, text.encode())


def served_clusters(folder: Path) -> list[dict[str, Any]]:
    """Return the clusters that the routes in a folder name, as they are defined there."""
    try:
        routes = (folder / ROUTES).read_text(encoding="utf-8")
    except OSError:
        return []
    clusters = _resources(folder / CLUSTERS)
    return [each for each in clusters if json.dumps(each["name"]) in routes]


def written_table(folder: Path) -> RoutingTable | None:
    """Return the table that the folder was last written from; None if there is none."""
    try:
        return RoutingTable.model_validate_json((folder / TABLE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None


def _served_secrets(folder: Path) -> dict[str, str]:
    """Return the secrets in a folder's routes, by their SHA-256."""
    found = {}
    for routes in _resources(folder / ROUTES):
        for host in routes["virtual_hosts"]:
            for filters in host["typed_per_filter_config"].values():
                for each in filters.get("credentials", ()):
                    found[_digest(each["key"])] = each["key"]
    return found


def _resources(path: Path) -> list[dict[str, Any]]:
    """Return the resources of a file; none where it is not there or is damaged."""
    try:
        return list(json.loads(path.read_bytes())["resources"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
