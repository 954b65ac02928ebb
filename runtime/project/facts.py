"""Reads facts from outside the declarations: lock, fingerprints, bases, time zones, commit."""

import hashlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from fleet.capacity import DEMAND_FILE, ObservedDemand, parse_profile, parse_recorded_demand
from fleet.codec import decode_json
from fleet.codes import diagnostic
from fleet.config import LOCK_FILE, Adapter, Declarations, Lock, Problem, ProjectFacts, parse_lock
from fleet.errors import ConfigError, Diagnostic, Position
from fleet.hardware import BaseShape, Profile
from fleet.policies import GoldenFacts
from fleet.response_format import FormatKind
from fleet.vllm import base_shape, dimensions
from runtime.confined import confined
from runtime.files import open_plain, plain_text, read_plain
from runtime.library.signatures import key_in
from runtime.secrets import LEAST_BITS, is_weak, read_secret
from runtime.trust import load_trust

PROFILES = "calibration"
"""Folder of the measured profiles, in the project."""
_MAX_HEADER = 100 << 20
_YEAR = 2026
"""The year whose clock changes count: a fixed year, so that a plan never depends on the date."""
_INDEX = "model.safetensors.index.json"


def read_lock(root: Path, without: Collection[str] = ()) -> Lock:
    """Return the lock, `without` malformed entries of these clients; empty where there is no file.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = confined(root, LOCK_FILE)
    if not path.is_file():
        return Lock()
    return parse_lock(decode(read_plain(path), LOCK_FILE), without=without)


@contextmanager
def collected(problems: list[Diagnostic]) -> Iterator[None]:
    """Add the errors that end the block to `problems`."""
    try:
        yield
    except ConfigError as error:
        problems += error.diagnostics


def decode(content: bytes, name: str) -> str:
    """Return a file's text without a byte order mark.

    Raises:
        ConfigError: the file is not UTF-8.
    """
    try:
        return content.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        column = len(before) - before.rfind(b"\n")
        place = Position(name, before.count(b"\n") + 1, column)
        detail = f"Byte {content[error.start]:#04x} of `{name}` is not UTF-8."
        hint = "Save the file as UTF-8."
        raise ConfigError(diagnostic("FC1009", detail, place, hint=hint)) from None


def read_facts(
    root: Path,
    given: Declarations,
    problems: list[Diagnostic],
    *,
    secrets: bool = True,
    aside: Collection[str] = (),
) -> ProjectFacts:
    """Gather the facts that these declarations call for; errors are added to `problems`.

    `secrets`: read keys of clients. `aside`: clients that are set aside.
    """
    lock, observed = Lock(), dict[str, ObservedDemand]()
    with collected(problems):
        lock = read_lock(root, aside)
    with collected(problems):
        observed = read_recording(root)
    clients = given.clients.values()
    adapters = [adapter for client in clients for adapter in client.adapters.values()]
    golden = {file for adapter in adapters for file in (adapter.golden, adapter.rolling) if file}
    golden |= {gate.golden for gate in given.gates.values() if gate.golden}
    zones = {adapter.demand.timezone for adapter in adapters if adapter.demand}
    zones |= {given.costs.timezone, *(rollout.timezone for rollout in given.rollouts.values())}
    zones |= {rule.timezone for rule in given.plan_rules.values()}
    references = sorted({secret for client in clients for secret in client.keys.values()})
    return ProjectFacts(
        lock=lock,
        zones=_zones(zones),
        fingerprints={
            name: secret_fingerprint(root, name) if secrets else None for name in references
        },
        weak=frozenset(name for name in references if secrets and is_weak(read_secret(root, name))),
        shapes=_shapes(root, given, problems),
        absent=frozenset(path for path in golden if not (root / path).is_file()),
        schemas=_schemas(root, adapters),
        observed=observed,
        profiles=read_profiles(root, problems),
        golden=_golden(root, golden),
        signing_keys={key.file: key_in(root, key.file) for key in given.signatures.values()},
        code=load_trust().code,
    )


def _golden(root: Path, paths: set[str]) -> dict[str, GoldenFacts]:
    """Return size and digest of the golden sets that exist; their lines are not checked."""
    found = {}
    for path in sorted(name for name in paths if (root / name).is_file()):
        content = read_plain(root / path)
        lines = [line for line in content.splitlines() if line.strip()]
        items = sum(not line.lstrip().startswith(b'{"defaults"') for line in lines)
        must_pass = sum(b'"must_pass"' in line for line in lines)
        groups = [*filter(None, map(_group, (line for line in lines if b'"group"' in line)))]
        repeated = len(groups) - len({*groups})
        found[path] = GoldenFacts(hashlib.sha256(content).hexdigest(), items, must_pass, repeated)
    return found


def _group(line: bytes) -> str:
    """Return the group of a golden item; empty: there is none, or the line is wrong."""
    with suppress(ValueError):
        found = decode_json(line)
        return str(found.get("group") or "") if isinstance(found, dict) else ""
    return ""


def _schemas(root: Path, adapters: Iterable[Adapter]) -> dict[str, str | None]:
    """Read the JSON Schemas of output formats, as they are written."""
    formats = (adapter.format for adapter in adapters)
    names = {form.text for form in formats if form and form.kind is FormatKind.SCHEMA}
    found: dict[str, str | None] = {}
    for name in sorted(names):
        try:
            found[name] = plain_text(root / name)
        except (OSError, ValueError):
            found[name] = None
    return found


def read_profiles(root: Path, problems: list[Diagnostic]) -> tuple[Profile, ...]:
    """Return the measured profiles of `fleetctl calibrate`, in order of the files' names."""
    found = []
    for path in sorted((root / PROFILES).glob("*.json")):
        name = f"{PROFILES}/{path.name}"
        try:
            with collected(problems):
                content = read_plain(confined(root, name))
                found.append(parse_profile(_json_object(decode(content, name))))
        except (ValueError, RecursionError) as error:
            detail, place = f"`{name}`: {str(error).removesuffix('.')}.", Position(name, 1, 1)
            hint, command = "Delete the file, or measure again.", "fleetctl calibrate SERVER"
            problems.append(diagnostic("FC1228", detail, place, hint=hint, command=command))
    return tuple(found)


def _json_object(text: str | bytes) -> dict[str, Any]:
    document = decode_json(text)
    if not isinstance(document, dict):
        raise ValueError("not a JSON object")  # noqa: TRY004 (one text for all)
    return document


def read_recording(root: Path) -> dict[str, ObservedDemand]:
    """Return the recorded demand by alias; none where nothing was recorded.

    Raises:
        ConfigError: the file cannot be read.
    """
    path = confined(root, DEMAND_FILE)
    if not path.is_file():
        return {}
    return dict(parse_recorded_demand(decode(read_plain(path), DEMAND_FILE)).adapters)


def _zones(used: set[str]) -> dict[str, tuple[int, ...]]:
    """Return the offsets of the time zones used; the names of all if one is not known."""
    months = [datetime(_YEAR, month, 1, tzinfo=UTC) for month in range(1, 13)]
    found: dict[str, tuple[int, ...]] = {"UTC": (0,)}
    try:
        for name in used - {"UTC"}:
            zone = ZoneInfo(name)
            offsets = (month.astimezone(zone).utcoffset() or timedelta() for month in months)
            found[name] = tuple(sorted({int(offset.total_seconds()) // 60 for offset in offsets}))
    except (KeyError, ValueError, OSError):
        return dict.fromkeys(available_timezones(), ()) | found
    return found


def secret_fingerprint(root: Path, reference: str) -> str | None:
    """Return the fingerprint of a secret, which plans may show; as in a routing table.

    Twelve hex digits of the SHA-256 of the secret's SHA-256 (as 64 hex digits).
    """
    secret = read_secret(root, reference)
    if secret is None:
        return None
    inner = hashlib.sha256(secret.encode()).hexdigest()
    return hashlib.sha256(inner.encode()).hexdigest()[:12]


def weak_secrets(root: Path, given: Declarations) -> Iterator[Problem]:
    """Yield a warning for every secret that is weak or lies in a file that others may read."""
    named: dict[tuple[str, ...], str] = {
        ("clients", client, "keys", key): reference
        for client, declared in given.clients.items()
        for key, reference in declared.keys.items()
    }
    gateways = given.gateways.items()
    named |= {("gateways", name, "secret"): own.secret for name, own in gateways if own.secret}
    for at, reference in named.items():
        secret = read_secret(root, reference)
        why = ""
        if is_weak(secret):
            why = f"is estimated below {LEAST_BITS} bits, and can be guessed"
        elif secret is not None and reference.startswith("file:"):
            mode = (root / reference.removeprefix("file:")).stat().st_mode
            why = "may be read by other users of this machine" if mode & 0o077 else ""
        if why:
            hint = "`fleetctl key create` makes keys of 256 bits, in files of mode 0600."
            yield Problem("FC1287", at, f"`{reference}` {why}.", hint=hint, severity="warning")


def missing_library(root: Path, given: Declarations, lock: Lock) -> Iterator[Problem]:
    """Yield a warning where versions are locked and the folder that holds them is not here."""
    if lock.adapters and not (root / given.library).exists():
        detail = f"`{given.library}` is not here, and fleet.lock has {len(lock.adapters)} versions "
        detail += "of it: an apply from this folder loads none but those in the store already."
        hint = "Bring the folder here, or name it in `library`. Planning needs the lock alone."
        yield Problem("FC1258", ("library",), detail, hint=hint, severity="warning")


def _shapes(root: Path, given: Declarations, problems: list[Diagnostic]) -> dict[str, BaseShape]:
    """Read the bases' dimensions, from where the library or the base's path has them."""
    shapes = {}
    for name, base in given.bases.items():
        for folder in (root / given.library / "base" / name, root / base.model):
            if (folder / "config.json").is_file():
                with collected(problems):
                    shapes[name] = read_shape(folder)
                break
    return shapes


def read_shape(folder: Path) -> BaseShape:
    """Return a base's dimensions from its config.json and safetensors headers.

    Raises:
        ConfigError: a file is malformed or lacks a dimension.
    """
    path = folder / "config.json"
    try:
        return base_shape(_json_object(read_plain(path)), weight_bytes(folder))
    except ConfigError as error:
        detail = error.diagnostics[0].detail
        raise ConfigError(diagnostic("FC1219", f"`{path}`: {detail}")) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        why = (isinstance(error, OSError) and error.strerror) or error
        raise ConfigError(diagnostic("FC1219", f"`{path}`: {why}.")) from None


def read_dimensions(folder: Path) -> dict[str, int]:
    """Return the numbers of a base's config.json that tell its shape; for one that was read."""
    return dimensions(_json_object(read_plain(folder / "config.json")))


def weight_bytes(folder: Path) -> int:
    """Return the bytes of a base's tensors: by its index where it has one, else by its files.

    The index names the files that count: some publishers ship the same weights twice. With an
    index the weights themselves need not be here.

    Raises:
        ValueError: the index is no index, or a file is shorter than its header says.
    """
    if (index := folder / _INDEX).is_file():
        metadata = decode_json(read_plain(index))["metadata"]
        if type(metadata.get("total_size")) is int:
            return int(metadata["total_size"])
    return sum(map(_tensor_bytes, folder.glob("*.safetensors")))


def _tensor_bytes(path: Path) -> int:
    """Return the bytes of all tensors of a safetensors file: its size less its header."""
    size = path.stat().st_size
    with open_plain(path) as stream:
        header = int.from_bytes(stream.read(8), "little")
    if header > min(_MAX_HEADER, size - 8):
        raise ValueError(f"{path.name} is not a whole safetensors file")
    return size - 8 - header
