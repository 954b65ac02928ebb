"""Reading a routing table while requests are answered: in small pieces, in another thread.

A thread that is in one long call of a library keeps all others waiting. So each alias is read
by a call of its own, made ready and let go. In between it rests: the interpreter by itself would
hand over only every 5 ms.
"""

import gc
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final, TypeVar

import msgspec
from pydantic import BaseModel

from fleet.file_formats import require_known
from runtime.gateway.routing import Lookup
from runtime.gateway.table import FORMAT, AliasEntry, KeyEntry, RoutingTable

_WORK_S: Final = 0.0005
_REST_S: Final = 0.0003
_SENT: Final = "routing table"
Entry = TypeVar("Entry", bound=BaseModel)


class _Whole(msgspec.Struct, forbid_unknown_fields=True):
    revision: int
    format: int = 1
    token: int = 0
    servers: dict[str, str] = {}
    aliases: dict[str, msgspec.Raw] = {}
    keys: dict[str, msgspec.Raw] = {}


_WHOLE = msgspec.json.Decoder(_Whole)


class _Format(msgspec.Struct):
    format: int | None = None


_FORMAT = msgspec.json.Decoder(_Format)


def require_format(raw: bytes, file: str) -> None:
    """Refuse a document that says to be a table of a later format, whatever else is in it.

    Raises:
        NewerFormatError: FC5007.
    """
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        require_known(_FORMAT.decode(raw).format, FORMAT, file)


def read_lookup(raw: bytes) -> Lookup:
    """Prepare the routing table in a JSON document.

    Raises:
        ValidationError: it is none; says what is wrong with it.
        InvalidTableError: it must not be served.
        NewerFormatError: FC5007, it is of a later format.
    """
    gc.disable()  # what is built here stays, and looking for garbage in it stops everybody
    try:
        made = _read(raw)
        gc.freeze()
        return made
    finally:
        gc.enable()


def _read(raw: bytes) -> Lookup:
    try:
        whole = _WHOLE.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        require_format(raw, _SENT)
        return Lookup.of(RoutingTable.model_validate_json(raw))  # which says what is wrong
    require_known(whole.format, FORMAT, _SENT)
    head = (whole.revision, whole.token, whole.servers)
    return Lookup.made(head, _each(AliasEntry, whole.aliases), _each(KeyEntry, whole.keys))


def _each(model: type[Entry], raws: Mapping[str, msgspec.Raw]) -> Iterator[tuple[str, Entry]]:
    began = time.perf_counter()
    for name in sorted(raws):
        yield name, model.model_validate_json(bytes(raws[name]))
        if time.perf_counter() - began > _WORK_S:
            time.sleep(_REST_S)
            began = time.perf_counter()
