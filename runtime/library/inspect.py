"""Reads an adapter's files without torch: configuration, header, values.

The safetensors format: eight bytes little-endian length of a JSON header, the header
(tensor name to dtype, shape and data offsets), then the data.
Source: the format section of the safetensors documentation.
"""

import json
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fleet.codec import decode_json
from fleet.errors import Diagnostic, LibraryError, problem
from fleet.hardware import BaseShape
from fleet.spec import AdapterFacts
from fleet.vllm import DTYPES, Tensor, adapted_modules, check_config, check_tensors, served_rank
from runtime.files import open_plain, read_plain, unlinked
from runtime.library.layout import CONFIG, WEIGHTS, folder_digest

MAX_HEADER = 100_000_000
"""Bytes; the format's own limit on the header."""

CHUNK = 1 << 24
"""Values checked at a time; bounds the memory of a check."""

_PREFIX = 8


@dataclass(frozen=True, slots=True)
class AdapterWeights:
    """A parsed safetensors file."""

    tensors: Mapping[str, Tensor]
    data_begin: int
    data_size: int


Scan = Callable[[Path, AdapterWeights], Iterable[Diagnostic]]
"""Checks the values of a file's tensors."""


def inspect(
    folder: Path, base: BaseShape, *base_names: str, digest: str = "", scan: Scan | None = None
) -> tuple[AdapterFacts, tuple[Diagnostic, ...]]:
    """Return the facts to lock, and warnings.

    `base_names` are the base's id, and other names of the base, such as its path. `digest`: that
    of the folder, where it was just hashed. `scan`: checks the values; None: `check_values`.

    Raises:
        LibraryError: with every reason why the adapter must not be served.
    """
    try:
        return _inspect(folder, base, base_names, digest, scan or check_values)
    except OSError as error:
        detail = f"`{error.filename or folder}`: {error.strerror or error}."
        hint = "Let your user read the folder and its files, then run the command again."
        raise LibraryError.of("FC3118", "Adapter cannot be read", detail, hint=hint) from error


def _inspect(
    folder: Path, base: BaseShape, base_names: tuple[str, ...], digest: str, scan: Scan
) -> tuple[AdapterFacts, tuple[Diagnostic, ...]]:
    require_folder(folder)
    config = read_config(folder)
    diagnostics = list(check_config(config, *base_names))
    try:
        weights = read_header(folder / WEIGHTS)
    except LibraryError as error:
        raise LibraryError(*_errors(diagnostics), *error.diagnostics) from None
    diagnostics += check_tensors(config, weights.tensors, weights.data_size, base)
    if not _errors(diagnostics):
        diagnostics += scan(folder / WEIGHTS, weights)
    if _errors(diagnostics):
        raise LibraryError(*_errors(diagnostics))
    facts = AdapterFacts(
        digest=digest or folder_digest(folder),
        rank=served_rank(config),
        bytes=(folder / WEIGHTS).stat().st_size,
        modules=adapted_modules(weights.tensors),
    )
    return facts, tuple(diagnostics)


def _errors(diagnostics: list[Diagnostic]) -> list[Diagnostic]:
    return [diagnostic for diagnostic in diagnostics if diagnostic.severity == "error"]


def require_folder(folder: Path) -> None:
    """Refuse a path that is no folder.

    Raises:
        LibraryError: FC3111, with a hint.
    """
    if not folder.is_dir():
        state = "is a file" if folder.exists() else "does not exist"
        hint = "Name the folder that holds the adapter's two files."
        detail = f"`{folder}` {state}."
        raise LibraryError.of("FC3111", "No adapter here", detail, hint=hint)


def read_config(folder: Path) -> dict[str, Any]:
    """Return `adapter_config.json`.

    Raises:
        LibraryError: the file is missing or no JSON object.
    """
    path = folder / CONFIG
    if not path.is_file():
        detail = f"`{folder}` holds no `{CONFIG}`."
        hint = "Name the folder to which PEFT saved the adapter: it has that file and the weights."
        if (folder / "config.json").is_file():
            detail = f"`{folder}` holds no `{CONFIG}` but a `config.json`: a full model."
            hint = (
                "Servers load LoRA adapters onto a base. Name the adapter's own folder; a full "
                f"model is a base: `bases: {{NAME: {{model: {folder}}}}}`."
            )
        raise LibraryError.of("FC3111", "No adapter here", detail, hint=hint)
    try:
        config = decode_json(read_plain(unlinked(path)))
    except (ValueError, RecursionError) as error:
        raise LibraryError.of("FC3112", "Not JSON", f"`{path}`: {error}.") from error
    if not isinstance(config, dict):
        raise LibraryError.of("FC3112", "Not JSON", f"`{path}` is not a JSON object.")
    return config


def read_header(path: Path) -> AdapterWeights:
    """Return the tensors in the header of a safetensors file.

    Raises:
        LibraryError: the file is missing, empty, truncated, or has another format.
    """
    if not path.is_file():
        raise _missing(path)
    size = path.stat().st_size
    with open_plain(unlinked(path)) as stream:
        prefix = stream.read(_PREFIX)
        length = int.from_bytes(prefix, "little")
        if len(prefix) < _PREFIX or length > min(MAX_HEADER, size - _PREFIX):
            claim = f" and a header length of {length}" if len(prefix) == _PREFIX else ""
            detail = f"`{path}` has {size} bytes{claim}."
            raise LibraryError.of("FC3114", "Not a safetensors file, or truncated", detail)
        raw = stream.read(length)
    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
        tensors = dict(_entries(header))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        detail = f"`{path}`: the header is no list of tensors."
        raise LibraryError.of("FC3115", "Header not readable", detail) from None
    return AdapterWeights(tensors, _PREFIX + length, size - _PREFIX - length)


def _missing(path: Path) -> LibraryError:
    pickled = [file for kind in ("*.bin", "*.pt") for file in sorted(path.parent.glob(kind))]
    also = f" `{pickled[0].name}` is a pickle, which can run code when read." if pickled else ""
    detail = f"`{path.parent}` holds no `{path.name}`.{also}"
    hint = "Save the adapter with `safe_serialization=True`."
    return LibraryError.of("FC3113", "No safetensors file", detail, hint=hint)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the pairs as a map; refuse a repeated name, which would hide bytes from the checks."""
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError("a name is given twice")
    return unique


def _entries(header: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = entry["data_offsets"]
        shape = tuple(entry["shape"])
        if not all(type(number) is int and number >= 0 for number in (begin, end, *shape)):
            raise ValueError(name)
        yield name, Tensor(str(entry["dtype"]), shape, begin, end)


def check_values(path: Path, weights: AdapterWeights) -> Iterator[Diagnostic]:
    """Yield tensors with NaN or infinity, and an adapter that answers as its base."""
    silent = True
    with (
        open_plain(unlinked(path)) as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
    ):
        for name, tensor in sorted(weights.tensors.items()):
            finite, zero = _check_tensor(mapped, weights.data_begin + tensor.begin, tensor)
            if not finite:
                detail = (
                    f"`{name}` holds NaN or infinity. One request to it can spoil the answers of "
                    "other clients through the shared cache."
                )
                yield problem("FC3132", "Values that are not numbers", detail)
            silent = silent and (zero or ".lora_B." not in name)
    if silent:
        yield does_nothing()


def does_nothing() -> Diagnostic:
    """Return the warning of an adapter that answers as its base."""
    detail = "Every lora_B is zero: it answers as the base does."
    return Diagnostic("FC3133", "Adapter does nothing", detail, severity="warning")


def _check_tensor(mapped: mmap.mmap, begin: int, tensor: Tensor) -> tuple[bool, bool]:
    """Return whether all values are finite, and whether all are zero.

    A value is not finite exactly if all its exponent bits are set; also in bfloat16, which numpy
    lacks: the upper half of a float32.
    """
    width = DTYPES[tensor.dtype]
    kind = np.dtype(f"<u{width}")
    exponent = {"F16": 0x7C00, "BF16": 0x7F80, "F32": 0x7F800000}[tensor.dtype]
    magnitude = (1 << (8 * width - 1)) - 1
    finite = zero = True
    for start in range(begin, begin + tensor.end - tensor.begin, CHUNK * width):
        count = min(CHUNK, (begin + tensor.end - tensor.begin - start) // width)
        # a copy: a view would keep the map from being closed
        bits = np.frombuffer(mapped[start : start + count * width], dtype=kind)
        finite = finite and not bool(np.any((bits & exponent) == exponent))
        zero = zero and not bool(np.any(bits & magnitude))
    return finite, zero
