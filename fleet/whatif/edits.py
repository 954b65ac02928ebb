"""Small edits that several changes make."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import TypeVar

from fleet.declared import Fleet

T = TypeVar("T")
LARGEST_RANK = 512
"""The largest rank that vLLM serves."""


def by_name(items: Mapping[str, T]) -> Mapping[str, T]:
    """Return the items sorted by name, as a fleet holds them."""
    return MappingProxyType(dict(sorted(items.items(), key=lambda item: item[0])))


def without(items: Mapping[str, T], name: str) -> Mapping[str, T]:
    """Return the items less one."""
    return MappingProxyType({key: each for key, each in items.items() if key != name})


def told(fleet: Fleet, *lines: str) -> Fleet:
    """Return the fleet with what a change took along among its warnings."""
    return replace(fleet, warnings=(*fleet.warnings, *(f"what if: {each}" for each in lines)))


def names(first: str) -> Iterator[str]:
    """Yield a name and its numbered variants, without end."""
    yield first
    number = 2
    while True:
        yield f"{first}_{number}"
        number += 1
