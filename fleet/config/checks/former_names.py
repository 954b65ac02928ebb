"""Reads renamed hosts, bases and clients (`formerly`) as the resources that they are.

The first name is in servers, units, adapter versions, aliases, keys, routes, usage rows and the
ledger. It stays the name in all of these, and the name in the files is another word for it: so a
rename moves nothing.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from fleet.config.files.merge import Path, Tree, value_at
from fleet.config.files.validate import Problem
from fleet.config.schema.fleet import Declarations

_SECTIONS: Final = ("bases", "hosts", "clients")
_REFERENCES: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("bases", ("clients", "*", "adapters", "*", "base")),
    ("bases", ("hosts", "*", "servers", "*", "base")),
    ("hosts", ("clients", "*", "adapters", "*", "pin")),
    ("hosts", ("clients", "*", "adapters", "*", "avoid")),
    ("hosts", ("gateways", "*", "host")),
    ("clients", ("clients", "*", "adapters", "*", "apart")),
    ("clients", ("hosts", "*", "reserved_for")),
    ("clients", ("overrides", "*", "alias")),
    ("clients", ("plan_rules", "*", "exceptions", "*", "client")),
    ("clients", ("plan_rules", "*", "exceptions", "*", "adapter")),
)
"""Places that name a base, a host, or a client or alias; a star stands for any name."""


def with_former_names(tree: Tree) -> Tree:
    """Return the declarations with renamed resources under their first names, at their places.

    A `formerly` that names a declared resource, or that is given twice, is left for
    `check_former_names`.
    """
    value, marks, called = dict(tree.value), dict(tree.marks), dict(tree.called)
    for section in _SECTIONS:
        firsts = dict(_renamed(value.get(section)))
        if not firsts:
            continue
        value[section] = {firsts.get(name, name): its for name, its in value[section].items()}
        if section in marks:
            at, inner, *file = marks[section]
            inner = {firsts.get(name, name): place for name, place in inner.items()}
            marks[section] = [at, inner, *file]
        called |= {f"{section}.{first}": name for name, first in firsts.items()}
        for kind, path in _REFERENCES:
            if kind == section and path[0] in value:
                value[path[0]] = _replaced(value[path[0]], path[1:], firsts)
    return replace(tree, value=value, marks=marks, called=called) if called else tree


def _renamed(declared: Any) -> Iterator[tuple[str, str]]:
    """Yield the names of a section in the files with the first names that hold for them."""
    if not isinstance(declared, dict):
        return
    firsts = {name: value_at(declared, (name, "formerly")) for name in declared}
    claims = Counter(first for first in firsts.values() if isinstance(first, str))
    for name, first in firsts.items():
        if isinstance(first, str) and first not in declared and claims[first] == 1:
            yield name, first


def _replaced(value: Any, path: tuple[str, ...], firsts: Mapping[str, str]) -> Any:
    """Return a copy of a value in which the names at a path are first names."""
    match value:
        case dict() if path:
            return {
                name: _replaced(its, path[1:], firsts) if path[0] in ("*", name) else its
                for name, its in value.items()
            }
        case list() if not path:
            return [_replaced(item, (), firsts) for item in value]
        case str() if not path:  # of an alias, the client's part
            name, dash, task = value.partition("-")
            return f"{firsts[name]}{dash}{task}" if name in firsts else value
        case _:
            return value


def check_former_names(given: Declarations) -> Iterator[Problem]:
    """Yield the problems of `formerly`: of a declared resource, or given twice."""
    for section in _SECTIONS:
        first: dict[str, Path] = {}
        declared = getattr(given, section)
        for name, its in declared.items():
            if its.formerly in (None, name):
                continue
            path = (section, name, "formerly")
            if its.formerly in declared:
                detail = f"`{its.formerly}` is still declared, so nothing was renamed."
                yield Problem("FC1212", path, detail, hint="Delete `formerly`, or the old one.")
            elif its.formerly in first:
                detail = f"Two {section} claim to be the former `{its.formerly}`."
                also = (("first given at", first[its.formerly]),)
                hint = "Only one can take its place."
                yield Problem("FC1212", path, detail, hint=hint, also=also)
            first.setdefault(its.formerly, path)
