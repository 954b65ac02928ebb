"""Lists the declared values as texts by their paths: what a plan compares with the last apply."""

from collections.abc import Iterator
from typing import Any, Final

from fleet.codec import canonical_json
from fleet.config.files.merge import Filled, Path, Tree
from fleet.config.schema.fleet import Declarations

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
