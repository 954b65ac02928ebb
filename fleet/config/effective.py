"""Lists every value in force, with the file that the value comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fleet.config.merge import Tree
from fleet.config.schema.clients import Tier
from fleet.config.schema.fleet import Declarations

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """One value in force."""

    path: str
    """Dotted, such as `clients.acme.tier`."""
    value: Any
    """As YAML shows it: a number, text, truth value, list or None."""
    origin: str
    """`file:line:col`; `built in`; or what it is inherited from, with its place."""


def effective_settings(given: Declarations, tree: Tree) -> tuple[Setting, ...]:
    """Return all values in force, in the order of the sections."""
    return tuple(_walk(given, tree, given, ()))


def _walk(node: Any, tree: Tree, given: Declarations, path: Path) -> Iterator[Setting]:
    if isinstance(node, BaseModel):
        children = {name: getattr(node, name) for name in type(node).model_fields}
        inner = {name for name, each in children.items() if isinstance(each, BaseModel | dict)}
        document = node.model_dump(mode="json", exclude=inner)
        for name, child in children.items():
            if name in inner:
                yield from _walk(child, tree, given, (*path, name))
            else:
                yield _setting((*path, name), document[name], tree, given)
    elif isinstance(node, dict):
        for name, child in node.items():
            yield from _walk(child, tree, given, (*path, name))
    else:
        yield _setting(path, node, tree, given)


def _setting(path: Path, value: Any, tree: Tree, given: Declarations) -> Setting:
    raw: Any = tree.value
    for step in path:
        raw = raw.get(step) if isinstance(raw, dict) else None
    dotted = ".".join(map(str, path))
    if raw is not None:
        place = tree.place(path)
        return Setting(dotted, raw, str(place) if place else "")
    inherited = _inherited(path, given)
    if value is None and inherited is not None:
        source, found = inherited
        exact = tree.get(source)
        return Setting(dotted, found, f"{source}, {exact or 'built in'}")
    return Setting(dotted, value, "built in")


def _inherited(path: Path, given: Declarations) -> tuple[str, Any] | None:
    """Return where a value left out is taken from, and the value."""
    defaults = given.defaults
    match path:
        case ("clients", _, "tier"):
            return "defaults.tier", defaults.tier
        case ("clients", _, "adapters", _, "rollout"):
            return "defaults.rollout", defaults.rollout
        case ("clients", _, "adapters", _, "latency"):
            return "defaults.latency", defaults.latency
        case ("clients", client, "limits", limit):
            name = given.clients[str(client)].tier or defaults.tier
            usual = (given.tiers.get(name) or Tier()).limits
            return f"tiers.{name}.limits.{limit}", getattr(usual, str(limit))
        case (
            "clients",
            client,
            "adapters",
            _,
            "replicas" | "spread" | "isolation" | "residency",
        ) | ("clients", client, "bill_evals"):
            name = given.clients[str(client)].tier or defaults.tier
            tier = given.tiers.get(name) or Tier()
            return f"tiers.{name}.{path[-1]}", getattr(tier, str(path[-1]))
        case _:
            return None
