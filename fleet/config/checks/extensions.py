"""Checks names that a package may add: that each is known, and of one package."""

from collections import defaultdict
from collections.abc import Iterator

from fleet.codes import nearest
from fleet.config.files.merge import Path
from fleet.config.files.validate import Problem
from fleet.config.schema.extensions import SHIPPED
from fleet.config.schema.fleet import Declarations
from fleet.config.schema.traffic import Receivers
from fleet.spec import ExtensionGroup


def check_extensions(given: Declarations) -> Iterator[Problem]:
    """Yield names that nothing declares, and names that two packages have."""
    known = {group: dict[str, Path]() for group in SHIPPED}
    for package, extension in given.extensions.items():
        for group, position, name in extension.names():
            at: Path = ("extensions", package, group, position)
            first = known[group].setdefault(name, at)
            if name in SHIPPED[group]:
                yield Problem("FC1341", at, f"`{name}` is a shipped name.", hint=_ONE)
            elif first != at:
                detail = f"`{first[1]}` and `{package}` both have `{name}`."
                yield Problem("FC1341", at, detail, hint=_ONE, also=(("first given at", first),))
    for group, path, name in _used(given):
        names = (*SHIPPED[group], *known[group])
        if name not in names:
            hint = nearest(name, names) or f"Write one of: {', '.join(names)}."
            detail = f"`{'.'.join(map(str, path))}` cannot be `{name}`."
            yield Problem("FC1112", path, detail, hint=hint)


_ONE = "Leave the name out of one package, so that it means one thing."


def _used(given: Declarations) -> Iterator[tuple[ExtensionGroup, Path, str]]:
    for name, host in given.hosts.items():
        yield "engines", ("hosts", name, "engine"), host.engine
    yield "eval_engines", ("evals", "engine"), given.evals.engine
    receivers: list[tuple[Path, Receivers | None]] = [(("notify",), given.notify)]
    receivers += [(("clients", name, "notify"), its.notify) for name, its in given.clients.items()]
    for at, to in receivers:
        for sink in to.sinks if to else ():
            yield "notice_sinks", (*at, "sinks", sink), sink


def declared_extensions(given: Declarations) -> dict[ExtensionGroup, dict[str, str]]:
    """Return the package of every declared name, by group."""
    found = defaultdict[ExtensionGroup, dict[str, str]](dict)
    for package, extension in sorted(given.extensions.items()):
        for group, _, name in extension.names():
            found[group].setdefault(name, package)
    return dict(found)
