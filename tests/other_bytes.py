"""Versions with other bytes: values of a safetensors file written anew, and pins by hand."""

import json
import math
import shutil
import struct
from dataclasses import asdict
from pathlib import Path

from fleet.config import LOCK_FILE, LockedAdapter, lock_text, parse_lock
from fleet.names import AdapterName
from runtime.library.inspect import read_config, read_header
from runtime.library.layout import WEIGHTS, folder_digest, version_folder

_NUMBERS = {"F32": "<f", "F16": "<e"}


def first_value(weights: Path, value: float) -> None:
    """Set the first value of the first tensor; the file and its folder may be read-only."""
    weights.parent.chmod(0o755)
    weights.chmod(0o644)
    header = read_header(weights)
    tensor = min(header.tensors.values(), key=lambda tensor: tensor.begin)
    if tensor.dtype == "BF16":
        raw = struct.pack("<f", value)[2:]
    else:
        raw = struct.pack(_NUMBERS[tensor.dtype], value)
    content = bytearray(weights.read_bytes())
    begin = header.data_begin + tensor.begin
    content[begin : begin + len(raw)] = raw
    weights.write_bytes(content)


def other(source: Path, folder: Path, value: float = 0.0625) -> Path:
    """Copy an adapter into a folder with another first value; return the folder."""
    shutil.copytree(source, folder)
    first_value(folder / WEIGHTS, value)
    return folder


def pinned_by_hand(
    root: Path, like: str, name: str, value: float = math.nan, **lies: object
) -> str:
    """Put a version with another first value into library and lock, past `adapter add`.

    `lies`: facts that the lock gets wrong. Returns the digest.
    """
    was, new = AdapterName.parse(like), AdapterName.parse(name)
    library = root / "models"
    folder = other(version_folder(library, was), version_folder(library, new), value)
    lock = parse_lock((root / LOCK_FILE).read_text(encoding="utf-8"))
    digest = folder_digest(folder)
    facts = {**asdict(lock.adapters[like].facts), "digest": digest, **lies}
    entry = LockedAdapter(**{**facts, "base": new.base})
    (root / LOCK_FILE).write_text(lock_text(lock.with_adapter(new, entry)), encoding="utf-8")
    return digest


def change_config(folder: Path, **values: object) -> None:
    """Change values of `adapter_config.json`."""
    path = folder / "adapter_config.json"
    folder.chmod(0o755)
    path.chmod(0o644)
    path.write_text(json.dumps({**read_config(folder), **values}), encoding="utf-8")
