"""What tests of backups look into: state folders, members of a backup, backups made by hand."""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tests.fleetctl.project_on_disk import Project

RESTORED = ("ledger.jsonl", "ledger-as-last-read.jsonl", "routes.json", "lease.json")


def state(project: Project) -> Path:
    return Path(project.options[-1])


def content(folder: Path) -> dict[str, bytes]:
    """Return the files that a restore puts in place, without the entry that it adds."""
    files = {name: folder / name for name in RESTORED if (folder / name).exists()}
    return {name: path.read_bytes() for name, path in files.items()}


def members(file: Path) -> dict[str, bytes]:
    with tarfile.open(file) as archive:
        return {
            member.name: stream.read()
            for member in archive
            if (stream := archive.extractfile(member)) is not None
        }


def rewritten(
    file: Path,
    target: Path,
    edit: Callable[[dict[str, Any]], object] = lambda _: None,
    extra: Callable[[tarfile.TarFile], object] = lambda _: None,
    contents: Mapping[str, bytes] = MappingProxyType({}),
) -> Path:
    """Write a backup anew with a manifest that fits, after an edit of it."""
    found = {**members(file), **{f"state/{name}": value for name, value in contents.items()}}
    manifest = json.loads(found.pop("manifest.json"))
    manifest["files"] = {
        name.removeprefix("state/"): hashlib.sha256(value).hexdigest()
        for name, value in found.items()
    }
    edit(manifest)
    with tarfile.open(target, "w:gz") as archive:
        for name, value in {"manifest.json": json.dumps(manifest).encode(), **found}.items():
            member = tarfile.TarInfo(name)
            member.size = len(value)
            archive.addfile(member, io.BytesIO(value))
        extra(archive)
    return target
