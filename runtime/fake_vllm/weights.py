"""Reads an adapter as far as needed for the refusals of vLLM."""

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fleet.errors import LibraryError
from runtime.library.layout import folder_digest

_HEADER_LENGTH_BYTES = 8


class MissingAdapterError(Exception):
    """The folder holds no adapter."""


class UnloadableAdapterError(Exception):
    """The server cannot load the adapter in the folder."""


@dataclass(frozen=True, slots=True)
class FakeWeights:
    """An adapter in memory."""

    path: str
    digest: str
    """SHA-256 over configuration and weights: other bytes, other answers."""


@cache
def lacks_chat_template(model: str) -> bool:
    """Say whether the files of a base's tokenizer hold no chat template; no such files: it has."""
    try:
        settings = json.loads((Path(model) / "tokenizer_config.json").read_bytes())
    except OSError:
        return False
    return not ("chat_template" in settings or (Path(model) / "chat_template.jinja").exists())


def trusted_folder(file: str, name: str) -> str | None:
    """Return the folder that a file of adapters records for a name; None: vLLM answers with 404.

    None too if the bytes in the folder are not those of the recorded digest.
    """
    try:
        entry = json.loads(Path(file).read_bytes())[name]
        folder = str(entry["path"])
        return folder if folder_digest(Path(folder)) == entry["digest"] else None
    except (OSError, ValueError, KeyError, TypeError, LibraryError):
        return None


def read_weights(path: str, max_lora_rank: int) -> FakeWeights:
    """Read an adapter from disk.

    Raises:
        MissingAdapterError: no folder, or no `adapter_config.json` in it.
        UnloadableAdapterError: rank above `max_lora_rank`, or an unsupported or broken adapter.
    """
    folder = Path(path)
    try:
        raw = (folder / "adapter_config.json").read_bytes()
    except OSError:
        raise MissingAdapterError(path) from None
    _check_config(raw, max_lora_rank)
    try:
        tensors = (folder / "adapter_model.safetensors").read_bytes()
    except OSError:
        raise UnloadableAdapterError("<path> doesn't contain tensors") from None
    _check_header(tensors)
    return FakeWeights(path, hashlib.sha256(raw + tensors).hexdigest())


def _check_config(raw: bytes, max_lora_rank: int) -> None:
    try:
        config: dict[str, Any] = json.loads(raw)
        ranks = [config["r"], *(config.get("rank_pattern") or {}).values()]
        rank = max(int(number) for number in ranks)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnloadableAdapterError(f"{type(error).__name__}: {error}") from None
    faults = {
        f"`r` should be a positive integer value but the value passed is {rank}": rank < 1,
        f"LoRA rank {rank} is greater than max_lora_rank {max_lora_rank}.": rank > max_lora_rank,
        "vLLM does not yet support DoRA.": config.get("use_dora"),
        "Adapter bias is not supported.": config.get("bias", "none") != "none",
        "vLLM only supports modules_to_save being None.":
            {*(config.get("modules_to_save") or ())} - {"score"},
    }  # fmt: skip
    for fault, holds in faults.items():
        if holds:
            raise UnloadableAdapterError(fault)


def _check_header(tensors: bytes) -> None:
    length = int.from_bytes(tensors[:_HEADER_LENGTH_BYTES], "little")
    body = len(tensors) - _HEADER_LENGTH_BYTES - length
    if len(tensors) < _HEADER_LENGTH_BYTES or body < 0:
        raise UnloadableAdapterError("Error while deserializing header: invalid header length")
    try:
        header = json.loads(tensors[_HEADER_LENGTH_BYTES : _HEADER_LENGTH_BYTES + length])
        ends = [
            tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnloadableAdapterError("Error while deserializing header: invalid JSON") from None
    if not ends:
        raise UnloadableAdapterError("")
    if max(ends) != body:
        raise UnloadableAdapterError("Error while deserializing header: incomplete metadata")
