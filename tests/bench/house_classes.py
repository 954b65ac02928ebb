"""Finds classes that mirror each other: pairs that share most of their fields.

A field is an annotated name in the body of a class or of a class that it is built on, or an
attribute that `__init__` annotates. What both have of one class that both are built on is not
mirrored.
"""

import ast
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from itertools import combinations
from typing import Final, NamedTuple

from tests.bench.house_modules import Module

LEAST_SHARED: Final = 5
"""Fields that any two classes share before the pair is printed."""
MIRRORED: Final = (
    ("GateJudged", "GateEvidence"),
    ("UpgradeJudged", "Evidence"),
    ("Adapter", "AdapterSpec"),
    ("Host", "HostSpec"),
    ("Base", "BaseSpec"),
    ("Tier", "TierSpec"),
    ("Client", "ClientSpec"),
    ("Rollout", "RolloutPolicy"),
    ("Gate", "GateSpec"),
    ("Override", "OverrideSpec"),
    ("Evals", "EvalPolicy"),
    ("EvalPolicy", "EvalSpec"),
    ("Evals", "EvalSpec"),
    ("Demand", "DemandSpec"),
    ("PlanRule", "PlanRuleSpec"),
    ("AttachedServer", "AttachedServerSpec"),
    ("Gateway", "GatewaySpec"),
    ("Limits", "LimitPolicy"),
    ("LockedBase", "BaseShape"),
    ("IngestRow", "UsageRow"),
    ("State", "StateBuilder"),
    ("_Past", "History"),
    ("ServerAccount", "DeviceUse"),
    ("RolledBack", "RollbackRequest"),
    ("RollbackRequest", "RollbackResult"),
    ("RolledBack", "RollbackResult"),
    ("Drilled", "DrillResult"),
    ("RollbackResult", "DrillResult"),
)
"""Pairs of which a single class is to be left, by name: a class name has one home."""


@dataclass(frozen=True)
class Class:
    """The fields of a class."""

    origins: Mapping[str, frozenset[str]]
    """By the class that declares them."""

    @property
    def fields(self) -> frozenset[str]:
        """All names."""
        return frozenset().union(*self.origins.values())

    def without(self, origins: AbstractSet[str]) -> frozenset[str]:
        """Return the names that other classes than these declare."""
        kept = [fields for origin, fields in self.origins.items() if origin not in origins]
        return frozenset().union(*kept)


class Pair(NamedTuple):
    """Two classes and what they share."""

    first: str
    second: str
    shared: int
    """Fields of one name."""
    smaller: int
    """Fields of the class that has fewer."""

    @property
    def is_mirrored(self) -> bool:
        """Whether more than half of the smaller class's fields are also the other's."""
        return 2 * self.shared > self.smaller


def mirrored(modules: Mapping[str, Module]) -> dict[str, str]:
    """Return the pairs of `MIRRORED` that exist and share most fields, with how many."""
    return _texts(_pairs(classes_of(modules), MIRRORED))


def alike(modules: Mapping[str, Module]) -> dict[str, str]:
    """Return all pairs of classes that share most fields and at least `LEAST_SHARED`."""
    classes = classes_of(modules)
    large = sorted(name for name, found in classes.items() if len(found.fields) >= LEAST_SHARED)
    pairs = [
        pair for pair in _pairs(classes, combinations(large, 2)) if pair.shared >= LEAST_SHARED
    ]
    return _texts(sorted(pairs, key=lambda pair: (-pair.shared, pair)))


def classes_of(modules: Mapping[str, Module]) -> dict[str, Class]:
    """Return the classes of the product by name."""
    nodes = {
        node.name: node
        for module in modules.values()
        for node in module.tree.body
        if isinstance(node, ast.ClassDef)
    }
    return {name: Class(_by_origin(node, nodes)) for name, node in nodes.items()}


def _by_origin(node: ast.ClassDef, nodes: Mapping[str, ast.ClassDef]) -> dict[str, frozenset[str]]:
    """Return the fields by the class that declares them: this one and those that it is built on."""
    origins = {node.name: frozenset(_own_fields(node))}
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in nodes and base.id != node.name:
            origins |= _by_origin(nodes[base.id], nodes)
    return origins


def _own_fields(node: ast.ClassDef) -> Iterator[str]:
    for statement in node.body:
        match statement:
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.FunctionDef(name="__init__"):
                for inner in ast.walk(statement):
                    match inner:
                        case ast.AnnAssign(
                            target=ast.Attribute(value=ast.Name(id="self"), attr=name)
                        ):
                            yield name
                        case _:
                            pass
            case _:
                pass


def _pairs(classes: Mapping[str, Class], names: Iterable[tuple[str, str]]) -> Iterator[Pair]:
    """Yield the pairs of classes that exist and are mirrored."""
    for first, second in names:
        if first not in classes or second not in classes:
            continue
        one, other = classes[first], classes[second]
        common = one.origins.keys() & other.origins.keys()
        if common & {first, second}:
            continue  # one is built on the other
        fields = one.without(common), other.without(common)
        pair = Pair(first, second, len(fields[0] & fields[1]), min(map(len, fields)))
        if pair.is_mirrored:
            yield pair


def _texts(pairs: Iterable[Pair]) -> dict[str, str]:
    return {
        f"{pair.first} / {pair.second}": f"{pair.shared} of {pair.smaller} fields" for pair in pairs
    }
