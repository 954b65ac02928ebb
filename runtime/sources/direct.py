"""Finds where other machines read versions at their sources."""

from collections.abc import Mapping, Sequence

from fleet.errors import FleetError
from runtime.engines.protocol import Direct, DirectFile
from runtime.library.layout import SERVED_FILES
from runtime.sources.download import listed
from runtime.sources.opening import contacted, open_source
from runtime.sources.reference import NO_PACKAGES, SourceReference
from runtime.sources.remote import Source, TransientError
from runtime.trust import require_contact


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
