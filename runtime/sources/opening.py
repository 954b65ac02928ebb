"""Opens the source of a reference, with the logins of this machine."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from fleet.errors import FleetError
from runtime.engines.protocol import Direct, DirectFile
from runtime.extensions import make
from runtime.library.layout import SERVED_FILES
from runtime.sources.download import listed
from runtime.sources.http import base_url
from runtime.sources.hub import ENDPOINT, HubRepository
from runtime.sources.reference import NO_PACKAGES, SourceReference
from runtime.sources.registry import Registry, login_of
from runtime.sources.remote import Source, TransientError
from runtime.trust import require_contact

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


def direct_from(sources: Mapping[str, str], packages: Mapping[str, str] = NO_PACKAGES) -> Direct:
    """Return a search for the files of a version by its digest; `sources` are by digest.

    `packages`: as for `SourceReference.parse`.

    No file is found where a source is not trusted or not reached, or asks for a lasting login.
    """

    async def direct(digest: str) -> Sequence[DirectFile]:
        reference = SourceReference.parse(sources.get(digest, ""), packages)
        if reference is None:
            return ()
        try:
            if url := contacted(reference):
                require_contact(url)
            source = open_source(reference)
            try:
                return await _files(source, str(reference))
            finally:
                await source.close()
        except (FleetError, TransientError):
            return ()

    return direct


async def _files(source: Source, place: str) -> Sequence[DirectFile]:
    listing = await listed(source, place, ())
    served = [file for file in listing.files if file.name in SERVED_FILES]
    found = [await source.direct(file) for file in served]
    return [file for file in found if file is not None] if None not in found else ()
