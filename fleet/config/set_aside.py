"""Tells which clients broken files hold, and puts clients back as they were last applied.

A record of an apply holds every value that is not the default (`declared_settings`): enough to
declare a client anew while its file is broken.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from fleet.codec import decode_json
from fleet.config.files.merge import Tree, value_at
from fleet.config.files.settings import CALLED
from fleet.config.files.validate import model_at
from fleet.config.schema.clients import Client
from fleet.config.schema.fleet import Declarations
from fleet.errors import Diagnostic
from fleet.names import AdapterName
from fleet.resources import Key, LoadedAdapter, Resource, Route, Share

_SECTION = re.compile(r"^([A-Za-z_][\w-]*)[ \t]*:", re.MULTILINE)
_CLIENTS = re.compile(r"^clients[ \t]*:[ \t]*(?:\{[ \t]*([\w-]+)|(?:#.*)?$)", re.MULTILINE)
_NAME = re.compile(r"^([ \t]+)([\w-]+)[ \t]*:", re.MULTILINE)
_ELSEWHERE: Final = frozenset({"FC1201", "FC1202", "FC1203", "FC1204", "FC1205"})
"""Codes of references: of a client as last applied, what was referred to is at fault."""
_OF_CHECKS: Final = "FC12"
"""Beginning of the codes of checks against other declarations, the lock and files."""


@dataclass(frozen=True, slots=True)
class BrokenFile:
    """A file in which a client is broken."""

    name: str
    text: str
    """The part that can be read; empty: none can."""
    client: str
    """The client in the file."""
    is_left_out: bool
    """Whether the file is not read, such as a file that is no YAML."""

    def may_hold(self, missing: Collection[str], applied: Collection[str]) -> Collection[str]:
        """Return the clients, of those declared nowhere any more, that the file may hold.

        It may name them in any place. If nothing of it is known, each may be there; so may each be
        a client that was never applied, under a wrong name.
        """
        text = f"{self.name}\n{self.text}"
        named = [name for name in missing if re.search(rf"(?<![\w-]){name}(?![\w-])", text)]
        is_known = self.text and (named or self.client in applied)
        return named if is_known else missing


@dataclass(frozen=True, slots=True)
class SetAside:
    """Clients that stay as last applied, and the files in which clients are broken."""

    applied: Mapping[str, Mapping[str, Any]]
    """Declarations by client, as last applied."""
    called: Mapping[str, str] = field(default_factory=dict)
    """Name in the files by dotted path, as last applied."""
    clients: Mapping[str, str] = field(default_factory=dict)
    """By client: why it is set aside."""
    files: tuple[BrokenFile, ...] = ()

    @classmethod
    def of(
        cls, settings: Mapping[str, str], resources: Iterable[Resource], clients: Mapping[str, str]
    ) -> "SetAside":
        """Return the clients of an apply, some of them set aside already.

        Settings have all but what `resources` show: versions with their bases, and keys.
        """
        called, values = {}, dict[tuple[str, ...], Any]()
        for path, text in settings.items():
            steps = tuple(path.split("."))
            if steps[0] == "clients" and steps[-1] == CALLED:
                called[path.removesuffix(f".{CALLED}")] = text
            elif steps[0] == "clients":
                values[steps[1:]] = _value(steps, text)
        for resource in sorted(resources, key=_last):
            match resource:
                case Route(shares=[Share(adapter=name), *_]) | LoadedAdapter(adapter=name):
                    values |= _version(name)
                case Key():
                    values[resource.client, "keys", resource.name] = resource.reference
                case _:
                    pass
        applied: dict[str, dict[str, Any]] = {}
        for steps, value in values.items():
            if steps[1:2] != ("adapters",) or (*steps[:3], "base") in values:
                _put(applied, steps, value)
        return cls(applied, called, clients)

    @property
    def left_out(self) -> frozenset[str]:
        """Names of the files of which nothing is read."""
        return frozenset(file.name for file in self.files if file.is_left_out)

    def tree(self, tree: Tree) -> tuple[Tree, Mapping[str, str]]:
        """Return declarations with clients as last applied, and the reasons by client.

        A client that was applied and may be in a broken file is not removed, but set aside.
        """
        declared = dict(tree.value.get("clients") or {})
        why = dict(self.clients)
        missing = sorted(self.applied.keys() - declared.keys() - why.keys())
        for file in self.files:
            for name in file.may_hold(missing, self.applied):
                why.setdefault(name, f"no file declares it any more, and {file.name} is broken")
        for name in why:
            declared.pop(name, None)
        declared |= {name: self.applied[name] for name in why if name in self.applied}
        called = {path: name for path, name in self.called.items() if path.split(".")[1] in why}
        value = {**tree.value, "clients": declared}
        return replace(tree, value=value, called={**tree.called, **called}), why

    def judged(
        self, problem: Diagnostic, given: Declarations, why: Mapping[str, str]
    ) -> Diagnostic | None:
        """Return a problem with the clients at fault; None: a client that is set aside has it.

        Of several clients, those are at fault that are declared otherwise than last applied.
        """
        at_fault = [path for path in problem.subjects if path.partition(".")[0] not in why]
        of_check = problem.code.startswith(_OF_CHECKS) and problem.code not in _ELSEWHERE
        if not at_fault and problem.subjects and of_check:
            return None
        changed = [path for path in at_fault if self._is_changed(given, path)]
        return replace(problem, subjects=tuple(changed or at_fault))

    def _is_changed(self, given: Declarations, path: str) -> bool:
        client, *steps = path.split(".")
        try:
            applied = Client.model_validate(self.applied.get(client)).model_dump()
        except ValidationError:
            return True
        now = given.clients[client].model_dump() if client in given.clients else None
        return bool(value_at(now, tuple(steps)) != value_at(applied, tuple(steps)))


def client_in_text(file: str, text: str, applied: Mapping[str, Any]) -> str:
    """Return the only client of a file that may be no YAML; empty: not sure.

    A file that cannot be read at all (no `text`) holds the client that it is named after.
    """
    stem = PurePosixPath(file).stem
    if not text:
        return stem if stem in applied else ""
    if (Declarations.model_fields.keys() - {"clients"}).intersection(_SECTION.findall(text)):
        return ""
    begins = _CLIENTS.search(text)
    if begins and begins[1]:
        return begins[1]
    rest = _NAME.findall(text, begins.end()) if begins else []
    names = {name for indent, name in rest if indent == rest[0][0]}
    if not names:
        return stem if stem in applied else ""
    return names.pop() if len(names) == 1 else ""


def _last(resource: Resource) -> tuple[bool, str]:
    """Sort routes last: of versions that are loaded, the first of the route is the declared one."""
    return isinstance(resource, Route), resource.address


def _version(name: str) -> dict[tuple[str, ...], Any]:
    """Return the declared version and base behind a full name; none of a name of others."""
    try:
        parsed = AdapterName.parse(name)
    except ValueError:
        return {}
    path = (parsed.client, "adapters", parsed.task)
    return {(*path, "base"): parsed.base, (*path, "version"): str(parsed.version)}


def _put(node: dict[str, Any], steps: tuple[str, ...], value: Any) -> None:
    for step in steps[:-1]:
        node = node.setdefault(step, {})
    node.setdefault(steps[-1], value)


def _value(path: tuple[str, ...], text: str) -> Any:
    """Return the declared value behind a recorded text."""
    model = model_at(path[:-1])
    known = model.model_fields.get(path[-1]) if model else None
    try:
        if known is not None:
            TypeAdapter(known.rebuild_annotation()).validate_python(text)
    except ValidationError:
        return decode_json(text)
    return text if known is not None or not text.startswith(("[", "{")) else decode_json(text)
