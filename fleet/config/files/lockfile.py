"""Reads and writes the lock: the facts of every adapter version and base, pinned by digest.

Format 2 has the fields of mixtures of experts and MLA, and is written where a base has such.
Format 3 has the sources of versions, and is written where a version came from one.
Format 4 has the signatures of versions, and is written where a version has one.
Format 5 has the versions whose bytes others have on purpose, and is written where one has.

A lock without `format` is of format 1; format 1 is written as `1`. A reader refuses unknown fields,
so a further field needs the next format. A lock of a later format is refused.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import MISSING, fields, replace
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from fleet.codes import diagnostic
from fleet.errors import ConfigError, Position
from fleet.hardware import BaseShape
from fleet.names import AdapterName
from fleet.policies import SignedBytes, VersionSignature
from fleet.spec import AdapterFacts

LOCK_FILE = "fleet.lock"
FORMAT = 5
"""Newest format of a lock that this release reads and writes."""


_FullName = Annotated[str, PlainValidator(lambda value: str(AdapterName.parse(str(value))))]


class _Document(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class LockedSignature(_Document):
    """The signature of a version, checked when the version was added."""

    key: Annotated[str, Field(pattern="^([0-9a-f]{64})?$")] = ""
    """SHA-256 of the key in DER; empty: no key that was declared then made the signature."""
    matches: bool = False
    """Whether the key signed the bytes of the version."""

    @classmethod
    def of(cls, signed: SignedBytes, digest: str) -> Self:
        """Return the signature of a version with a digest."""
        return cls(key=signed.key, matches=bool(signed.key) and signed.digest == digest)

    @property
    def told(self) -> VersionSignature:
        """Return the value that planning needs."""
        return VersionSignature(self.key, self.matches)


class LockedAdapter(_Document):
    """An immutable adapter version."""

    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 over the served files, 64 hex digits."""
    rank: Annotated[int, Field(ge=1)]
    """Largest rank over all modules."""
    bytes: Annotated[int, Field(ge=0)]
    modules: tuple[str, ...]
    """Adapted modules, such as `q_proj`, sorted."""
    base: str
    """The base that the adapter was trained on."""
    source: str = ""
    """Where the bytes can be had again, such as `oci://…@sha256:…`; empty: not known."""
    signature: LockedSignature | None = None
    """None: there was none, or no key was declared."""
    same_as: str = ""
    """The version whose bytes these are on purpose; empty: none was declared.

    A record of what was reviewed: it holds whatever becomes of the other version.
    """

    @property
    def facts(self) -> AdapterFacts:
        """Return the facts that planning needs."""
        return AdapterFacts(self.digest, self.rank, self.bytes, self.modules, self.source)


class Lock(_Document):
    """The file `fleet.lock`: written by `fleetctl adapter add`, kept in version control."""

    format: Literal[1, 2, 3, 4, 5] = 1
    bases: dict[str, BaseShape] = {}
    """Dimensions by base, so that a plan can be made where its weights are not."""
    adapters: dict[_FullName, LockedAdapter] = {}
    """By full name, `{client}-{task}-{base}-v{version}`."""

    def with_adapter(self, name: AdapterName, entry: LockedAdapter) -> Self:
        """Return this lock with an adapter added or replaced."""
        adapters = {**self.adapters, str(name): entry}
        least = 4 if entry.signature else 3 if entry.source else 1
        return self.model_copy(update={"adapters": adapters, "format": max(least, self.format)})

    def with_same_bytes(self, declared: Mapping[str, str]) -> Self:
        """Return this lock with records of equal bytes, as declared by `same_as` of versions."""
        recorded: dict[str, LockedAdapter] = {}
        for name, other in declared.items():
            entry, its = self.adapters.get(name), self.adapters.get(other)
            if entry and its and name != other and entry.digest == its.digest:
                recorded[name] = entry.model_copy(update={"same_as": entry.same_as or other})
        if not recorded:
            return self
        return self.model_copy(update={"adapters": {**self.adapters, **recorded}, "format": 5})

    def without_adapter(self, name: AdapterName) -> Self:
        """Return this lock without an adapter."""
        rest = {key: adapter for key, adapter in self.adapters.items() if key != str(name)}
        return self.model_copy(update={"adapters": rest})

    def with_base(self, name: str, shape: BaseShape) -> Self:
        """Return this lock with a base added or replaced."""
        later = any(getattr(shape, field, None) for field in _LATER)
        bases = {**self.bases, name: shape}
        least = 2 if later else 1
        return self.model_copy(update={"bases": bases, "format": max(least, self.format)})


_LATER = frozenset(
    [name for name, its in LockedAdapter.model_fields.items() if not its.is_required()]
    + [its.name for its in fields(BaseShape) if its.default is not MISSING]
)
"""Fields since format 2."""


def parse_lock(text: str, file: str = LOCK_FILE, without: Collection[str] = ()) -> Lock:
    """Read a lock, `without` the malformed entries of some clients.

    Raises:
        ConfigError: not JSON, or an entry is malformed.
    """
    try:
        return Lock.model_validate_json(text)
    except ValidationError as error:
        errors = error.errors(include_url=False)
        faults = [fault for fault in errors if _client_at(fault["loc"]) not in without]
        if not faults:
            document = json.loads(text)
            for section, name in {fault["loc"][:2] for fault in errors}:
                document[section].pop(name)
            return parse_lock(json.dumps(document), file)
        first = faults[0]
        place, path, written = first["loc"], ".".join(map(str, first["loc"])), first["input"]
        detail = f"`{file}`{f' at `{path}`' if path else ''}: {first['msg']}."
        hint = "Restore it from version control; `fleetctl adapter add` writes it anew."
        if place == ("format",) and type(written) is int and written > FORMAT:
            detail = f"`{file}` has format {written}, and this fleetctl reads format {FORMAT}."
            hint = "Upgrade fleetctl here to the release that wrote the lock, or a later one."
        where = Position(file, _line_of(text, place), 1)
        made = diagnostic("FC1217", detail, where, hint=hint)
        client = _client_at(place)
        raise ConfigError(replace(made, subjects=(client,) if client else ())) from None


def _client_at(place: tuple[int | str, ...]) -> str:
    """Return the client of a version's entry in the lock; empty: another place."""
    section, name, *_ = (*place, "", "")
    try:
        return AdapterName.parse(str(name)).client if section == "adapters" else ""
    except ValueError:
        return ""


def _line_of(text: str, path: tuple[int | str, ...]) -> int:
    """Return the line, from 1, of the last key of `path` that the text holds."""
    for step in reversed(path):
        position = text.find(json.dumps(step)) if isinstance(step, str) else -1
        if position >= 0:
            return text.count("\n", 0, position) + 1
    return 1


def _told(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of an entry, without those since format 2 that say nothing."""
    return {name: value for name, value in entry.items() if value or name not in _LATER}


def lock_text(lock: Lock) -> str:
    """Return the lock as sorted JSON, a base or an adapter a line, so that git merges lines."""
    document = lock.model_dump(mode="json")
    sections = [f'  "format": {document["format"]}']
    for section in ("bases", "adapters"):
        entries = [
            f"    {json.dumps(name)}: {json.dumps(_told(entry), sort_keys=True)}"
            for name, entry in sorted(document[section].items())
        ]
        body = "{\n" + ",\n".join(entries) + "\n  }" if entries else "{}"
        sections.append(f'  "{section}": {body}')
    return "{\n" + ",\n".join(sections) + "\n}\n"
