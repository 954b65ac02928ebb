"""Speaks to an OCI registry: manifests, blobs, logins; versions in the layout of ModelPack.

Source: OCI distribution specification 1.1; ModelPack model specification 0.0.7 (CNCF).
"""

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from runtime.engines.protocol import DirectFile
from runtime.sources.http import HttpSource, base_url
from runtime.sources.reference import SourceReference
from runtime.sources.registry_login import RegistryAuth
from runtime.sources.remote import (
    Listing,
    Reading,
    RemoteFile,
    absent,
    differing,
    is_part_of_a_version,
)  # fmt: skip

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
ARTIFACT: Final = "application/vnd.cncf.model.manifest.v1+json"
FILE_PATH, TITLE = "org.cncf.model.filepath", "org.opencontainers.image.title"
"""Annotations of a layer with the name of its file: ModelPack's, and that of `oras`."""
_LOGIN: Final = "Log in: docker login REGISTRY, or oras login REGISTRY."
_PACKED: Final = ("+gzip", "+zstd", ".tar", "+tar")


class Registry:
    """A repository of a registry."""

    def __init__(
        self, reference: SourceReference, login: str = "", *, writes: bool = False
    ) -> None:
        self.reference = reference
        rights = "pull,push" if writes else "pull"
        auth = RegistryAuth(login, f"repository:{reference.path}:{rights}")
        self.http = HttpSource(str(reference), _LOGIN, auth)
        self.url = f"{base_url(reference.place)}/v2/{reference.path}"

    async def listing(self) -> Listing:
        """Return the files of the manifest, whose bytes are checked by their digest."""
        reference = self.reference
        name = reference.digest or reference.version or "latest"
        answer = await self.http.document(f"{self.url}/manifests/{name}", {"Accept": MANIFEST})
        digest = f"sha256:{hashlib.sha256(answer.content).hexdigest()}"
        if reference.digest and digest != reference.digest:
            raise differing(str(reference), f"its manifest has digest {digest}")
        pinned = str(reference.pinned(digest))
        manifest = self.http.decoded(answer)
        layers = manifest.get("layers") if isinstance(manifest, dict) else None
        if not isinstance(layers, list):
            raise absent(
                pinned, "this is no manifest of a version, but perhaps an index of several"
            )
        files = tuple(file for layer in layers if (file := layer_file(layer, pinned)) is not None)
        return Listing(pinned, files)

    def reading(self, file: RemoteFile, start: int) -> AbstractAsyncContextManager[Reading]:
        """Read a file from byte `start` on."""
        return self.http.reading(f"{self.url}/blobs/{file.at}", start)

    async def direct(self, file: RemoteFile) -> DirectFile | None:
        """Return where another machine reads a blob, with a token that reads this repository."""
        return await self.http.direct(file.name, f"{self.url}/blobs/{file.at}", ends=True)

    async def close(self) -> None:
        """Close connections."""
        await self.http.close()


def layer_file(layer: Mapping[str, Any], place: str) -> RemoteFile | None:
    """Return the file of a layer; None: it is not part of a version."""
    match layer:
        case {"digest": str(digest), "size": int(size), "annotations": dict(annotations)}:
            name = annotations.get(FILE_PATH) or annotations.get(TITLE) or ""
        case _:
            return None
    if not isinstance(name, str) or name.startswith("/") or ".." in name.split("/"):
        raise differing(place, f"a layer is called `{name!s:.80}`, which leads out of its folder")
    if not is_part_of_a_version(name):
        return None
    if re.fullmatch(r"sha256:[0-9a-f]{64}", digest) is None or size < 0:
        raise differing(place, f"the layer of `{name}` has no sha256 digest")
    if str(layer.get("mediaType", "")).endswith(_PACKED):
        raise differing(place, f"the layer of `{name}` is packed; push it as it is (`.raw`)")
    return RemoteFile(name, digest, size, digest.removeprefix("sha256:"))
