"""Reads the file of adapters that a server may load by itself. Needs Python alone."""

import hashlib
import json
from pathlib import Path

SERVED_FILES = ("adapter_config.json", "adapter_model.safetensors")
"""The files that vLLM reads of an adapter and the digest covers, sorted."""

LARGEST = 64 * 2**20
"""Upper bound of the file of adapters; a larger one is malformed. Bytes."""


class UntrustedAdapterError(Exception):
    """The file names the adapter, and its bytes or its entry are not to be trusted."""


def trusted_folder(file: Path, name: str) -> str | None:
    """Return the recorded folder of an adapter once its bytes are checked; None: no such name.

    `file` is JSON, `{name: {"path": folder, "digest": 64 hex digits}}`. The name is looked up as
    it is and never becomes part of a path.

    Raises:
        UntrustedAdapterError: the file or the entry is malformed, or the bytes are others.
    """
    try:
        with file.open("rb") as stream:
            text = stream.read(LARGEST + 1)
        entries = json.loads(text if len(text) <= LARGEST else b"")
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise UntrustedAdapterError(f"{file} cannot be read: {error}") from None
    if not isinstance(entries, dict):
        raise UntrustedAdapterError(f"{file} is not a map of adapters")
    match entries.get(name):
        case None:
            return None
        case {"path": str(path), "digest": str(digest)} if Path(path).is_absolute():
            pass
        case _:
            raise UntrustedAdapterError(f"its entry in {file} is malformed")
    try:
        found = folder_digest(Path(path))
    except (OSError, ValueError) as error:
        raise UntrustedAdapterError(f"{path} cannot be read: {error}") from None
    if found != digest:
        raise UntrustedAdapterError(f"{path} has digest {found[:12]}, recorded is {digest[:12]}")
    return path


def folder_digest(folder: Path) -> str:
    """Return the digest that fleetctl's library gives the same folder: 64 hex digits."""
    lines = []
    for name in SERVED_FILES:
        with (folder / name).open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {name}\n")
    return hashlib.sha256("".join(lines).encode()).hexdigest()
