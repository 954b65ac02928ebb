"""Reads a project: files, environment and secrets in, the declared fleet out.

`fleet.yaml` and every other YAML file of the folder are merged, save for overlays (`env/`),
golden sets, the model library, hidden folders and what `compile` wrote.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fleet import __version__
from fleet.codes import Sources, diagnostic
from fleet.config import (
    KEY,
    Declarations,
    Parsed,
    Tree,
    aliases_of,
    check_project,
    check_shape,
    diagnostics,
    merge_files,
    overlay,
    parse,
    refusal,
    resolve_fleet,
    substitute,
)
from fleet.errors import ConfigError, Diagnostic, Position, did_you_mean
from fleet.spec import FleetSpec
from runtime.files import read_plain
from runtime.project.addresses import UNREAD, env_in_addresses
from runtime.project.declaration_files import declaration_files
from runtime.project.facts import collected, decode, read_facts

MAIN = "fleet.yaml"
FORMAT = "fleetctl-parsed-1"
"""Format of the cache; changes with the values of `fleet.config.parse`."""
_WORTHWHILE = 64 << 10
"""Lower bound of the characters of text for which a cache is kept."""


@dataclass(frozen=True, slots=True)
class Project:
    """A project as read: declarations, their places, and the declared fleet."""

    declarations: Declarations
    tree: Tree
    fleet: FleetSpec
    files: tuple[str, ...]
    warnings: tuple[Diagnostic, ...]


def load_project(
    root: Path,
    environment: str | None,
    variables: Mapping[str, str],
    state_dir: Path | None = None,
    without: frozenset[str] = frozenset(),
    secrets: Mapping[str, str] | None = os.environ,
) -> Project:
    """Read and check a project.

    `root`: the folder that holds `fleet.yaml`. `environment`: overlay to lay over the rest,
    `env/NAME.yaml`; None: none. `variables`: values of `${var.NAME}`. `state_dir`: folder of the
    cache of parsed files; None: `.fleetctl` in the project. `without`: files to leave out.
    `secrets`: values of `${env:NAME}`; None: these stay unread, and so do keys of clients.

    Raises:
        ConfigError: with every problem found, sorted by place.
    """
    texts = read_files(root, environment, without)
    cache = ParseCache((state_dir or root / ".fleetctl") / "cache")
    tree = read_tree(texts, environment, variables, cache, UNREAD if secrets is None else secrets)
    given, findings = check_shape(tree.value)
    problems: list[Diagnostic] = []
    if given is None:
        raise ConfigError(*diagnostics(findings, tree))
    facts = read_facts(root, given, problems, secrets=secrets is not None)
    fleet, more = resolve_fleet(given, tree, facts)
    shown = diagnostics([*findings, *more], tree)
    problems += [finding for finding in shown if finding.severity == "error"]
    if problems:
        raise ConfigError(*problems)
    cache.save(texts)
    warnings = tuple(finding for finding in shown if finding.severity == "warning")
    return Project(given, tree, fleet, tuple(sorted(texts)), warnings)


def declared_aliases(
    root: Path, environment: str | None, variables: Mapping[str, str]
) -> frozenset[str]:
    """Return the aliases that the files declare, whatever else may be wrong with them.

    Raises:
        ConfigError: the files cannot be read as YAML.
    """
    tree = read_tree(read_files(root, environment), environment, variables)
    return frozenset(aliases_of(tree.value.get("clients")))


def read_tree(
    texts: Mapping[str, str],
    environment: str | None,
    variables: Mapping[str, str],
    cache: "ParseCache | None" = None,
    values: Mapping[str, str] = os.environ,
) -> Tree:
    """Parse, fill placeholders, merge and lay the overlay over the rest.

    `fleet.yaml` is asked first which releases of fleetctl may read the others.

    Raises:
        ConfigError: with every problem of all files; FC1016 alone, for another release.
    """
    sources = Sources(texts)
    check_project(texts)
    above = overlay_file(environment)
    read = cache.parse if cache else parse
    parsed: dict[str, Parsed] = {}
    problems: list[Diagnostic] = []
    if KEY in texts.get(MAIN, ""):
        main: dict[str, Parsed] = {}
        with suppress(ConfigError):  # said below with the problems of the other files
            main[MAIN] = parse(texts[MAIN], MAIN)
        _require_this_release(merge_files(main, sources))
    for file, text in texts.items():
        with collected(problems):
            content = read(text, file)
            if "${" in text:
                filled = substitute(content, file, variables, values, sources)
                if values is not UNREAD:
                    problems += env_in_addresses(content, filled, file)
                content = filled
            parsed[file] = content
    if problems:
        raise ConfigError(*sorted(problems, key=lambda found: found.place or Position("", 0, 0)))
    tree = merge_files({file: parsed[file] for file in parsed if file != above}, sources)
    tree = overlay(tree, parsed[above], above) if above in parsed else tree
    _require_this_release(tree)
    return tree


def _require_this_release(tree: Tree) -> None:
    """Refuse a fleet that asks for another release of fleetctl.

    Raises:
        ConfigError: FC1016.
    """
    if detail := refusal(tree.value.get(KEY), __version__):
        hint = f"Install a fleetctl of that version here, or change `{KEY}`."
        raise ConfigError(tree.diagnostic("FC1016", (KEY,), detail, hint=hint))


def overlay_file(environment: str | None) -> str:
    """Return the name of an environment's overlay, relative to the project; empty for none."""
    return f"env/{environment}.yaml" if environment else ""


def library_folder(root: Path) -> Path:
    """Return the library's folder: `library` of fleet.yaml, else `models`."""
    path = root / MAIN
    try:
        named = parse(decode(read_plain(path), MAIN), MAIN).value.get("library")
    except (OSError, ConfigError):
        named = None
    return root / (named if isinstance(named, str) else "models")


def read_files(
    root: Path, environment: str | None, without: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return the text of every declaration but those left out, by its path in the project.

    Raises:
        ConfigError: no fleet.yaml, no such overlay, or a file that is not UTF-8.
    """
    _require_project(root)
    names = sorted(declaration_files(root))
    if environment is not None:
        above = overlay_file(environment)
        choices = sorted(path.stem for path in (root / "env").glob("*.yaml"))
        if environment not in choices:
            hint = did_you_mean(environment, choices)
            hint = hint or (f"There are: {', '.join(choices)}." if choices else "")
            detail = f"There is no `{above}`."
            raise ConfigError(diagnostic("FC1011", detail, hint=hint))
        names.append(above)
    problems: list[Diagnostic] = []
    texts: dict[str, str] = {}
    for name in (path for path in names if path not in without):
        try:
            with collected(problems):
                texts[name] = decode(read_plain(root / name), name)
        except OSError as error:
            detail, place = f"`{name}`: {error.strerror}.", Position(name, 1, 1)
            problems.append(diagnostic("FC1009", detail, place))
    if problems:
        raise ConfigError(*problems)
    return texts


def every_file(root: Path) -> list[str]:
    """Return every YAML file of the project, overlays included, relative to the project.

    Raises:
        ConfigError: no fleet.yaml: the folder is no project, and its files are not fleetctl's.
    """
    _require_project(root)
    overlays = (f"env/{path.name}" for path in (root / "env").glob("*.yaml"))
    return sorted([*declaration_files(root), *overlays])


def _require_project(root: Path) -> None:
    if (root / MAIN).is_file():
        return
    hint = "Name the project's folder with `-C DIR`, or begin one:"
    command = "fleetctl scaffold fleet DIR"
    detail = f"`{root}` holds no `{MAIN}`."
    raise ConfigError(diagnostic("FC1010", detail, hint=hint, command=command))


class ParseCache:
    """A JSON file with the last run's parsed files by the hash of their text.

    A cache that is missing, damaged or of another format is ignored; a cache that cannot be
    written is no error. `save` writes the cache, once everything proved valid.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`, which need not exist."""
        self._path = folder / "parsed.json"
        self._known: dict[str, Any] | None = None
        self._used: dict[str, Any] = {}
        self._misses = 0

    def parse(self, text: str, file: str) -> Parsed:
        """Parse a file as `fleet.config.parse`, or take the result from the cache."""
        if self._known is None:
            self._known = self._read()
        key = hashlib.sha256(text.encode()).hexdigest()
        entry = self._known.get(key)
        if entry is None:
            parsed = parse(text, file)
            self._misses += 1
            entry = [parsed.value, parsed.marks]
        self._used[key] = entry
        return Parsed(*entry)

    def save(self, texts: Mapping[str, str]) -> None:
        """Write the files that this run used, where some are new and a cache is worth a file."""
        if not self._misses or sum(map(len, texts.values())) < _WORTHWHILE:
            return
        body = json.dumps(self._used, separators=(",", ":"))
        scratch = self._path.with_suffix(f".{hashlib.sha256(body.encode()).hexdigest()[:8]}")
        with suppress(OSError):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_text(f"{_seal(body)}\n{body}", encoding="utf-8")
            scratch.replace(self._path)

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, body = self._path.read_text(encoding="utf-8").partition("\n")
        except (OSError, ValueError):
            return {}
        found: dict[str, Any] = json.loads(body) if seal == _seal(body) else {}
        return found


def _seal(body: str) -> str:
    return f"{FORMAT} {hashlib.sha256(body.encode()).hexdigest()}"
