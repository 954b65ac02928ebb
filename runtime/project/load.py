"""Reads a project: files, environment and secrets in, the declared fleet out.

`fleet.yaml` and every other YAML file of the folder are merged, save for overlays (`env/`),
golden sets, the model library, hidden folders and what `compile` wrote.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from pydantic import ValidationError

from fleet import __version__
from fleet.codec import decode_json
from fleet.codes import Sources, diagnostic
from fleet.config import (
    KEY,
    Declarations,
    DeclaredPath,
    Parsed,
    SetAside,
    StateHome,
    Tree,
    aliases_of,
    check_project,
    check_shape,
    declared_paths,
    diagnostics,
    from_environment,
    merge_files,
    overlay,
    parse,
    refusal,
    resolve_fleet,
    substitute,
    unmark,
    with_former_names,
)
from fleet.errors import ConfigError, Diagnostic, Position, did_you_mean
from fleet.spec import FleetSpec
from runtime.confined import NamedPath, confined, links_in, problems_of
from runtime.files import make_private, plain_text, read_plain, replace_file
from runtime.gateway.admin.state_dir import SECRET_FILE
from runtime.ledger.file import LEDGER_FILE
from runtime.project.declaration_files import MAIN, declaration_files, require_project
from runtime.project.facts import collected, decode, missing_library, read_facts, weak_secrets
from runtime.secrets import FILLED
from runtime.state.home import HomeAddress
from runtime.trust import may_hold

FORMAT = "fleetctl-parsed-1"
"""Format of the cache; changes with the values of `fleet.config.parse`."""
_WORTHWHILE = 64 << 10
"""Lower bound of the characters of text for which a cache is kept."""


class ParseCache:
    """A JSON file with the last run's parsed files by the hash of their text.

    The file lies in the user's own cache, `${XDG_CACHE_HOME:-~/.cache}/fleetctl`, by the project's
    path: a file of the checkout could be forged to hold other declarations than the files.
    A cache that is missing, damaged or of another format is ignored; a cache that cannot be
    written is no error. `save` writes the cache, once everything proved valid.
    """

    def __init__(self, root: Path) -> None:
        """Use the file of the project at `root`, which need not exist."""
        home = Path(os.environ.get("XDG_CACHE_HOME", ""))
        if not home.is_absolute():
            try:
                home = Path.home() / ".cache"
            except RuntimeError:  # a user without a home has no cache
                home = Path(os.devnull)
        place = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
        self._path = home / "fleetctl" / f"parsed-{place}.json"
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
        with suppress(OSError):
            make_private(self._path.parent)
            replace_file(self._path, f"{_seal(body)}\n{body}".encode())

    def _read(self) -> dict[str, Any]:
        try:
            seal, _, body = plain_text(self._path).partition("\n")
            found: dict[str, Any] = decode_json(body) if seal == _seal(body) else {}
        except (OSError, ValueError):
            return {}
        return found


def _seal(body: str) -> str:
    return f"{FORMAT} {hashlib.sha256(body.encode()).hexdigest()}"


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
    secrets: Mapping[str, str] | None = os.environ,
    edited: Mapping[str, str] = MappingProxyType({}),
    state_dir: Path | None = None,
    aside: SetAside | None = None,
    without: frozenset[str] = frozenset(),
) -> Project:
    """Read and check a project.

    `root`: the folder that holds `fleet.yaml`. `environment`: overlay to lay over the rest,
    `env/NAME.yaml`; None: none. `variables`: values of `${var.NAME}`. `secrets`: values of
    `${env:NAME}`; None: these stay unread, and so do keys of clients. `edited`: texts by file
    that are taken in place of those on disk. `state_dir`: the state folder, into which no path may
    lead; None: `.fleetctl` of the project. `aside`: clients that stay as last applied; None: none.
    `without`: files to leave out.

    Raises:
        ConfigError: with every problem found, sorted by place.
    """
    left_out = without | (aside.left_out if aside else frozenset())
    texts = {**read_files(root, environment, left_out), **edited}
    cache = ParseCache(root)
    tree = read_tree(texts, environment, variables, cache, UNREAD if secrets is None else secrets)
    why: Mapping[str, str] = {}
    if aside is not None:
        tree, why = aside.tree(tree)
    given, findings = check_shape(tree.value)
    problems: list[Diagnostic] = []
    if given is None:
        raise ConfigError(*diagnostics(findings, tree))
    state = state_dir or root / ".fleetctl"
    if refused := refuse_paths(root, state, given, tree, secrets=secrets is not None):
        raise ConfigError(*(_unfilled(problem, tree) for problem in refused))
    facts = read_facts(root, given, problems, secrets=secrets is not None, aside=why)
    weak = () if secrets is None else weak_secrets(root, given)
    fleet, more = resolve_fleet(given, tree, facts)
    absent = missing_library(root, given, facts.lock)
    shown = diagnostics([*findings, *more, *weak, *absent], tree)
    problems = [_unfilled(problem, tree) for problem in problems]
    problems += [finding for finding in shown if finding.severity == "error"]
    if aside is not None:
        judged = (aside.judged(problem, given, why) for problem in problems)
        problems = [problem for problem in judged if problem is not None]
    if problems:
        raise ConfigError(*problems)
    cache.save(texts)
    fleet = replace(fleet, set_aside=dict(sorted(why.items())))
    warnings = tuple(finding for finding in shown if finding.severity == "warning")
    return Project(given, tree, fleet, tuple(sorted(texts)), warnings)


def _unfilled(problem: Diagnostic, tree: Tree) -> Diagnostic:
    detail, hint = map(tree.sources.unfilled, (problem.detail, problem.hint))
    return replace(problem, detail=detail, hint=hint)


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
    cache: ParseCache | None = None,
    values: Mapping[str, str] = os.environ,
) -> Tree:
    """Parse, fill placeholders, merge and lay the overlay over the rest.

    `fleet.yaml` is asked first which releases of fleetctl may read the others.

    Raises:
        ConfigError: with every problem of all files; FC1016 alone, for another release.
    """
    sources = Sources(texts, FILLED.filled)
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
            if file not in (above, MAIN) and not any(content.value.values()):
                detail = f"`{file}` declares nothing: no section has anything below it."
                hint = "Put back what the file declared. To remove a client, delete its file."
                problems.append(diagnostic("FC1005", detail, Position(file, 1, 1), hint=hint))
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
    return with_former_names(tree)


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
    """Return the library's folder: `library` of fleet.yaml, else `models`.

    Raises:
        ConfigError: FC1285, FC1286.
    """
    try:
        text = decode(read_plain(confined(root, MAIN)), MAIN)
        named = parse(text, MAIN).value.get("library")
    except (OSError, ConfigError):
        named = None
    library = named if isinstance(named, str) else "models"
    confined(root, library)
    return root / library


def read_files(
    root: Path, environment: str | None, without: frozenset[str] = frozenset()
) -> dict[str, str]:
    """Return the text of every declaration but those left out, by its path in the project.

    Raises:
        ConfigError: no fleet.yaml, no such overlay, or a file that is not UTF-8.
    """
    require_project(root)
    names = declaration_files(root)
    above = overlay_file(environment)
    if environment is not None:
        choices = sorted(path.stem for path in confined(root, "env").glob("*.yaml"))
        if environment not in choices:
            hint = did_you_mean(environment, choices)
            hint = hint or (f"There are: {', '.join(choices)}." if choices else "")
            detail = f"There is no `{above}`."
            raise ConfigError(diagnostic("FC1011", detail, hint=hint))
        names.append(above)
    problems: list[Diagnostic] = []
    texts: dict[str, str] = {}
    for name in (name for name in names if name not in without):
        try:
            with collected(problems):
                path = confined(root, name) if name == above else root / name
                texts[name] = decode(read_plain(path), name)
        except OSError as error:
            detail, place = f"`{name}`: {error.strerror}.", Position(name, 1, 1)
            problems.append(diagnostic("FC1009", detail, place))
    if problems:
        raise ConfigError(*problems)
    return texts


def state_folder_of(path: Path, state_dir: Path) -> Path | None:
    """Return the state folder that a resolved path leads into; None: into none.

    Not that of this run alone: a fleet may have several, and this one may be given by an option.
    A home has a ledger, too, and may lie anywhere, but has no secrets.
    """
    for folder in (path, *path.parents):
        holds = all((folder / name).is_file() for name in (LEDGER_FILE, SECRET_FILE))
        if holds or folder == state_dir or folder.name == ".fleetctl":
            return folder
    return None


def refuse_paths(
    root: Path, state_dir: Path, given: Declarations, tree: Tree, *, secrets: bool
) -> list[Diagnostic]:
    """Return the problems of declared paths: a single FC1285 for all that lead outside.

    A path into a state folder is FC1289: a declaration names a secret and its receiver, so that
    a branch could have the operator's secret sent to a listener of its own. The files of a model's
    folder count too, for publishers keep links there. `secrets`: whether paths of secrets are
    followed out of the project; a run that reads none needs no trust in their places.

    Raises:
        FleetError: as `load_trust`.
    """
    found: list[NamedPath] = []
    seen: set[DeclaredPath] = set()
    problems: list[Diagnostic] = []
    state = Path(os.path.realpath(state_dir))
    for path in declared_paths(given):
        like = replace(path, at=())
        if like in seen:
            continue
        seen.add(like)
        real = NamedPath.of(path.text, root).real
        named = f"`{path.text}` (`{'.'.join(map(str, path.at))}`)"
        closed = state_folder_of(real, state)
        is_key = path.is_client_key and closed and real.is_relative_to(closed / "keys")
        if closed and not is_key and not path.is_socket:
            detail = f"{named} is fleetctl's own, and would go to a receiver that a branch names."
            hint = "Keep the secret in a file or a variable of its own, and name that."
            problems.append(diagnostic("FC1289", detail, tree.place(path.at), hint=hint))
            continue
        is_absent = path.is_optional and not os.path.lexists(root / path.text)
        if is_absent or (path.is_secret and not secrets):
            continue
        is_socket = path.is_socket and os.path.lexists(real)
        found.append(NamedPath(named, real, tree.place(path.at), is_socket))
        if path.is_optional:
            found += links_in(real)
    for name in given.bases:
        found += links_in(root / given.library / "base" / name)
    return [*problems, *problems_of(root, found)]


_NAME: Final = re.compile(r"\$\{env:(\w+)\}")
_LONGEST: Final = 80
"""Upper bound of the characters of a quoted address."""


class _Unread(dict[str, str]):
    """Names in the place of values; every name is there."""

    def __contains__(self, name: object) -> bool:
        """Say that there is such a name."""
        return True

    def __missing__(self, name: str) -> str:
        """Return the name in the place of its value."""
        return f"env_{name}"


UNREAD: Final[Mapping[str, str]] = _Unread()
"""The environment of a run that reads none of its values."""


def env_in_addresses(written: Parsed, filled: Parsed, file: str) -> Iterator[Diagnostic]:
    """Yield FC1276 for addresses with values of the environment to hosts that are not trusted.

    A trusted host may be named by a variable. The value of a variable in a path or a query goes to
    a host alone that was confirmed for that variable. No text holds a value, which may be a secret.
    """
    for text, address, mark in from_environment(written, filled):
        if not address.lower().startswith(("http://", "https://")):
            continue
        names = _NAME.findall(text)
        in_path = "${env:" in text.partition("://")[2].partition("/")[2]
        if not may_hold(address, [f"env:{name}" for name in names] if in_path else ()):
            detail = (
                f"`{text[:_LONGEST]}` would send the value of `{names[0]}` to a host that the "
                "operator did not confirm."
            )
            hint = "Write the address itself, or confirm the host for the variable:"
            command = f"fleetctl trust add https://HOST:PORT --secret env:{names[0]}"
            place = unmark(mark, file)
            yield diagnostic("FC1276", detail, place, hint=hint, command=command)


def declared_home(
    root: Path,
    environment: str | None,
    variables: Mapping[str, str],
    values: Mapping[str, str] = os.environ,
) -> HomeAddress:
    """Return the declared home, from `fleet.yaml` and the overlay alone.

    `values`: values of `${env:NAME}`.

    Raises:
        ConfigError: these cannot be read, or declare no home that can be used.
        OSError: as above.
    """
    names = filter(None, (MAIN, overlay_file(environment)))
    texts = {name: decode(read_plain(confined(root, name)), name) for name in names}
    value = read_tree(texts, environment, variables, values=values).value
    try:
        declared = StateHome.model_validate(value.get("state") or {})
    except ValidationError:
        raise ConfigError(diagnostic("FC1235", "`state` is not one.")) from None
    folder = str(confined(root, declared.file)) if declared.file else ""
    name, key = str(value.get("fleet", "")), declared.evidence_key or ""
    return HomeAddress(name, declared.postgresql or "", folder, key)
