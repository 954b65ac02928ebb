"""A routing table as JSON, read and written in small pieces: an event loop waits beside it."""

from collections.abc import Iterator
from typing import Final

import msgspec
from pydantic import ValidationError

from runtime.gateway.breathing import Breathe, hurry
from runtime.gateway.table import AliasEntry, KeyEntry, RoutingTable

_MEMBERS: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(raw: bytes, breathe: Breathe = hurry) -> RoutingTable:
    """Return the table that `raw` holds.

    Raises:
        ValidationError: it holds none.
    """
    try:
        members = _MEMBERS.decode(raw)
        aliases, keys = (_MEMBERS.decode(members.pop(n, b"{}")) for n in ("aliases", "keys"))
        table = RoutingTable.model_validate_json(msgspec.json.encode(members))
        read_aliases = {}
        for name, entry in aliases.items():
            read_aliases[name] = AliasEntry.model_validate_json(bytes(entry))
            breathe()
        read_keys = {}
        for name, entry in keys.items():
            read_keys[name] = KeyEntry.model_validate_json(bytes(entry))
            breathe()
    except (ValidationError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return RoutingTable.model_validate_json(raw)  # says where it is wrong
    return table.model_copy(update={"aliases": read_aliases, "keys": read_keys})


def written(table: RoutingTable, breathe: Breathe = hurry) -> str:
    """Return the canonical document."""
    return "".join(_breathed(table, breathe))


def _breathed(table: RoutingTable, breathe: Breathe) -> Iterator[str]:
    for part in table.canonical_parts():
        yield part
        breathe()
