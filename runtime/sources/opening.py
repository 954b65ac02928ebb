"""Opens the source of a reference, with the logins of this machine."""

import os
from pathlib import Path
from typing import Final

from runtime.extensions import make
from runtime.sources.http import base_url
from runtime.sources.hub import ENDPOINT, HubRepository
from runtime.sources.reference import SourceReference
from runtime.sources.registry import Registry
from runtime.sources.registry_login import login_of
from runtime.sources.remote import Source

NEEDED: Final = ("listing", "reading", "direct", "close")
"""Methods of a source."""


def open_source(reference: SourceReference) -> Source:
    """Return a source; nothing is asked yet.

    Logins: `docker login` (its file, or in DOCKER_CONFIG), HF_TOKEN, ~/.netrc, the AWS variables.

    Raises:
        LibraryError: FC3055, a package is missing.
        FleetError: FC1340, FC1342, FC1343, an extension cannot be used.
    """
    name, package = reference.kind, reference.package
    source: Source = make("sources", name, package, NEEDED, lambda kind: kind(reference))
    return source


def open_hub(reference: SourceReference) -> HubRepository:
    """Return a repository of the Hub."""
    return HubRepository(reference, hub_endpoint(), os.environ.get("HF_TOKEN", ""))


def open_registry(reference: SourceReference, *, writes: bool = False) -> Registry:
    """Return a repository of a registry."""
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    return Registry(reference, login_of(reference.place, folder / "config.json"), writes=writes)


def hub_endpoint() -> str:
    """Return the URL of the Hub, or of the mirror that HF_ENDPOINT names."""
    return os.environ.get("HF_ENDPOINT") or ENDPOINT


def contacted(reference: SourceReference) -> str:
    """Return the URL of the host that a source contacts; empty: the source alone knows."""
    if reference.kind == "s3" or reference.package:
        return ""
    return hub_endpoint() if reference.kind == "hf" else base_url(reference.place)
