"""Lists every value in force, with the file that the value comes from."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from fleet.config.files.merge import Path, Tree, value_at
from fleet.config.schema.clients import Tier
from fleet.config.schema.fleet import Declarations


@dataclass(frozen=True, slots=True)
class Setting:
    """A value in force."""

    path: str
    """Dotted, such as `clients.acme.tier`."""
    value: Any
    """The value as in YAML: a number, text, truth value, list or None."""
    origin: str
    """`file:line:col`; `built in`; or the path that the value is inherited from, with its place."""


def effective_settings(given: Declarations, tree: Tree) -> tuple[Setting, ...]:
    """Return all values in force, in the order of the sections."""
    return tuple(_walk(given, tree, given, ()))


def _walk(node: Any, tree: Tree, given: Declarations, path: Path) -> Iterator[Setting]:
    if isinstance(node, BaseModel):
        children = {name: getattr(node, name) for name in type(node).model_fields}
        inner = {name for name, child in children.items() if isinstance(child, BaseModel | dict)}
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
    raw = value_at(tree.value, path)
    dotted = ".".join(map(str, path))
    if raw is not None:
        place = tree.place(path)
        return Setting(dotted, _written(raw, tree), str(place) if place else "")
    inherited = _inherited(path, given) if value is None else None
    if inherited:
        source, usual = inherited
        return Setting(dotted, _written(usual, tree), f"{source}, {tree.get(source) or 'built in'}")
    return Setting(dotted, value, "built in")


def _written(value: Any, tree: Tree) -> Any:
    """Return a value as in the files, with placeholders for values from the environment."""
    match value:
        case str():
            return tree.sources.unfilled(value)
        case list():
            return [_written(item, tree) for item in value]
        case dict():
            return {name: _written(item, tree) for name, item in value.items()}
        case _:
            return value


def _inherited(path: Path, given: Declarations) -> tuple[str, Any] | None:
    """Return the path that a value left out is taken from, and the value there."""
    if path[0] != "clients":
        return None
    _, client, *rest = path
    key, name = str(path[-1]), given.clients[str(client)].tier or given.defaults.tier
    tier = given.tiers.get(name) or Tier()
    match rest:
        case ["tier"] | ["adapters", _, "rollout" | "latency"]:
            return f"defaults.{key}", getattr(given.defaults, key)
        case ["limits", _]:
            return f"tiers.{name}.limits.{key}", getattr(tier.limits, key)
        case ["bill_evals" | "staff_hours" | "staff_rate"] | [
            "adapters",
            _,
            "replicas" | "spread" | "isolation" | "residency",
        ]:
            return f"tiers.{name}.{key}", getattr(tier, key)
        case _:
            return None
