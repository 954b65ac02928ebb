"""Pushes a version to an OCI registry, in the layout of ModelPack."""

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fleet.names import AdapterName
from fleet.spec import AdapterFacts
from runtime.library.layout import CONFIG, SERVED_FILES, WEIGHTS
from runtime.sources.download import PAUSES_S, Report, repeated
from runtime.sources.registry import ARTIFACT, FILE_PATH, MANIFEST, TITLE, Registry
from runtime.sources.remote import is_part_of_a_version

_CONFIG_TYPE: Final = "application/vnd.cncf.model.config.v1+json"
_LAYER_TYPES: Final = {
    WEIGHTS: "application/vnd.cncf.model.weight.v1.raw",
    CONFIG: "application/vnd.cncf.model.weight.config.v1.raw",
}
_RECORD_TYPE: Final = "application/vnd.cncf.model.doc.v1.raw"
_CHUNK: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that a manifest names by their digest."""

    digest: str
    size: int
    path: Path | None
    """File with the bytes; None: they are `content`."""
    content: bytes = b""


async def push(
    registry: Registry, folder: Path, name: AdapterName, facts: AdapterFacts, report: Report
) -> str:
    """Push a version of the library; return its reference by digest.

    Blobs that the registry has are not sent again, so that an interrupted push goes on.

    Raises:
        LibraryError: FC3051 to FC3053.
    """
    blobs = {path: _blob(folder / path) for path in _files(folder)}
    config = _config(name, [blob.digest for blob in blobs.values()])
    manifest = _manifest(name, facts, config, blobs)
    place, done = str(registry.reference), 0
    total = sum(blob.size for blob in blobs.values())
    for blob in (*blobs.values(), config):
        await repeated(lambda blob=blob: _push_blob(registry, blob), place, PAUSES_S)  # type: ignore[misc]
        done = min(done + blob.size, total)
        report(done, total)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    tag = registry.reference.version or digest

    async def publish() -> None:
        url = f"{registry.url}/manifests/{tag}"
        answer = await registry.http.asked("PUT", url, manifest, {"Content-Type": MANIFEST})
        registry.http.check(answer, url)

    await repeated(publish, place, PAUSES_S)
    return str(registry.reference.pinned(digest))


def _files(folder: Path) -> list[str]:
    records = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    kept = [name for name in records if is_part_of_a_version(name) and name not in SERVED_FILES]
    return [*SERVED_FILES, *kept]


def _blob(path: Path) -> Blob:
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Blob(f"sha256:{digest}", path.stat().st_size, path)


def _config(name: AdapterName, digests: list[str]) -> Blob:
    document = {
        "descriptor": {"name": name.alias, "version": str(name.version)},
        "config": {"format": "safetensors"},
        "modelfs": {"type": "layers", "diffIds": digests},
    }
    content = json.dumps(document, sort_keys=True).encode()
    return Blob(f"sha256:{hashlib.sha256(content).hexdigest()}", len(content), None, content)


def _manifest(
    name: AdapterName, facts: AdapterFacts, config: Blob, blobs: Mapping[str, Blob]
) -> bytes:
    layers = [
        {
            "mediaType": _LAYER_TYPES.get(path, _RECORD_TYPE),
            "digest": blob.digest,
            "size": blob.size,
            "annotations": {FILE_PATH: path, TITLE: path},
        }
        for path, blob in blobs.items()
    ]
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "artifactType": ARTIFACT,
        "config": {"mediaType": _CONFIG_TYPE, "digest": config.digest, "size": config.size},
        "layers": layers,
        "annotations": {
            "dev.fleetctl.version": str(name),
            "dev.fleetctl.digest": facts.digest,
            "dev.fleetctl.rank": str(facts.rank),
        },
    }
    return json.dumps(document, sort_keys=True).encode()


async def _push_blob(registry: Registry, blob: Blob) -> None:
    url = f"{registry.url}/blobs/{blob.digest}"
    if (await registry.http.asked("HEAD", url)).is_success:
        return
    begun = await registry.http.asked("POST", f"{registry.url}/blobs/uploads/")
    registry.http.check(begun, url)
    place = begun.url.join(begun.headers["location"])
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    content = blob.content if blob.path is None else _read(blob.path)
    at = place.copy_merge_params({"digest": blob.digest})
    registry.http.check(await registry.http.asked("PUT", str(at), content, headers), url)


async def _read(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            yield chunk
