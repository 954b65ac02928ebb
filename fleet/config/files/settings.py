"""Lists declared values by their paths: as texts, with their origin, and those that are paths."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from pydantic import BaseModel

from fleet.codec import canonical_json
from fleet.config.files.merge import Filled, Path, Tree, value_at
from fleet.config.schema.clients import Tier
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import Receivers
from fleet.response_format import FormatKind
from fleet.vllm import path_in

_ORDERED = frozenset({"command", "labels", "retrain", "smoke", "weights"})
"""Fields whose lists mean an order; every other list is a set of items."""

CALLED: Final = "called"
"""Last part of the path under which a renamed resource has its name in the files."""


def declared_settings(given: Declarations, tree: Tree) -> dict[str, str]:
    """Return every value that is not the default by its dotted path, sorted.

    Secrets are references, and values of the environment stand as `${env:NAME}`: no value of
    either is kept.
    """
    document = given.model_dump(mode="json", exclude_defaults=True)
    found = dict(_leaves(document, tree.value, ()))
    for path, name in tree.called.items():
        found[f"{path}.{CALLED}"] = name
        found.pop(f"{path}.formerly", None)
    return dict(sorted(found.items()))


def _leaves(value: Any, written: Any, path: Path) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict) and (value or len(path) == 1):
        for name, item in value.items():
            inner = written.get(name) if isinstance(written, dict) else None
            yield from _leaves(item, inner, (*path, name))
        return
    shown = _as_written(written) if _is_filled(written) else value
    if isinstance(shown, list) and path[-1] not in _ORDERED:
        shown = sorted(shown, key=_text)
    yield ".".join(map(str, path)), _text(shown)


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return canonical_json(value)
    except ValueError:  # a number that is not finite, which the checks refuse at its place
        return str(value)


def _is_filled(written: Any) -> bool:
    return isinstance(written, Filled) or (
        isinstance(written, list | dict)
        and any(map(_is_filled, written.values() if isinstance(written, dict) else written))
    )


def _as_written(written: Any) -> Any:
    match written:
        case Filled():
            return written.written
        case dict():
            return {name: _as_written(item) for name, item in written.items()}
        case list():
            return [_as_written(item) for item in written]
        case _:
            return written


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


_FILE = "file:"


@dataclass(frozen=True, slots=True)
class DeclaredPath:
    """A path, relative to the project or absolute."""

    at: Path
    """Keys that lead to the path in the declarations."""
    text: str
    is_optional: bool = False
    """Whether the path is only read where a file is there: a model as servers elsewhere see it."""
    is_socket: bool = False
    is_secret: bool = False
    is_client_key: bool = False
    """Whether this is an API key of a client, which only the gateway checks."""


def declared_paths(given: Declarations) -> Iterator[DeclaredPath]:
    """Yield every path that fleetctl would read; programs and folders of servers are no such."""
    yield DeclaredPath(("library",), given.library)
    yield from _named(("state", "file"), given.state.file)
    yield from _secret(("state", "postgresql"), given.state.postgresql)
    yield from _secret(("state", "evidence_key"), given.state.evidence_key)
    for name, base in given.bases.items():
        yield DeclaredPath(("bases", name, "model"), base.model, is_optional=True)
        for flag, value in base.flags.items():
            if path := path_in(flag, str(value)):
                yield DeclaredPath(("bases", name, "flags", flag), path, is_optional=True)
    for name, gate in given.gates.items():
        yield from _named(("gates", name, "golden"), gate.golden)
    for name, key in given.signatures.items():
        yield DeclaredPath(("signatures", name, "file"), key.file)
    yield from _of_hosts(given)
    yield from _of_gateways(given)
    yield from _secret(("servers_secret",), given.servers_secret)
    if given.evals.judge:
        yield from _secret(("evals", "judge", "key"), given.evals.judge.key)
    yield from _of_receivers(("notify",), given.notify)
    yield from _of_clients(given)


def _of_receivers(at: Path, notify: Receivers | None) -> Iterator[DeclaredPath]:
    if notify:
        yield from _named((*at, "template"), notify.template)
        yield from _secret((*at, "webhook"), notify.webhook)
        yield from _secret((*at, "mail", "login"), notify.mail.login if notify.mail else None)


def _of_hosts(given: Declarations) -> Iterator[DeclaredPath]:
    for name, host in given.hosts.items():
        yield from _secret(("hosts", name, "token"), host.token)
        if host.engine == "ray" and host.store:
            yield DeclaredPath(("hosts", name, "store"), host.store)
        for server, attached in host.servers.items():
            at = ("hosts", name, "servers", server)
            yield from _secret((*at, "api_key"), attached.api_key)
            files = attached.tls.model_dump(exclude={"name"}) if attached.tls else {}
            for key, path in files.items():
                if path:
                    yield DeclaredPath((*at, "tls", key), path, is_optional=True)


def _of_gateways(given: Declarations) -> Iterator[DeclaredPath]:
    for name, gateway in given.gateways.items():
        at = ("gateways", name)
        yield from _secret((*at, "secret"), gateway.secret)
        if gateway.admin and "://" not in gateway.admin:
            yield DeclaredPath((*at, "admin"), gateway.admin, is_socket=True)
        if gateway.certificate:
            yield DeclaredPath((*at, "certificate"), gateway.certificate, is_optional=True)


def _of_clients(given: Declarations) -> Iterator[DeclaredPath]:
    for name, client in given.clients.items():
        at = ("clients", name)
        for key, secret in client.keys.items():
            for path in _secret((*at, "keys", key), secret):
                yield replace(path, is_client_key=True)
        yield from _of_receivers((*at, "notify"), client.notify)
        for task, adapter in client.adapters.items():
            own = (*at, "adapters", task)
            yield from _named((*own, "golden"), adapter.golden)
            yield from _named((*own, "rolling"), adapter.rolling)
            if adapter.format and adapter.format.kind is FormatKind.SCHEMA:
                yield DeclaredPath((*own, "format", "json_schema"), adapter.format.text)


def _named(at: Path, text: str | None) -> Iterator[DeclaredPath]:
    if text:
        yield DeclaredPath(at, text)


def _secret(at: Path, reference: str | None) -> Iterator[DeclaredPath]:
    if reference and reference.startswith(_FILE):
        yield DeclaredPath(at, reference.removeprefix(_FILE), is_secret=True)
