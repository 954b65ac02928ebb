"""Compares the declared settings with those of the last apply.

A setting is a declared value that no live resource shows: a program, an address, a gate, a
retention. Versions, bases and keys are resources, and are compared as such.
"""

import re
from collections.abc import Mapping
from typing import Final, TypeVar

from fleet.history.values import History
from fleet.plan import Plan, SettingChange

Value = TypeVar("Value")
_RESOURCES: Final = re.compile(r"clients\.[^.]+\.(?:adapters\.[^.]+\.(?:version|base)|keys\.[^.]+)")
"""Paths of values that the live state shows as adapters, routes and keys."""
_ACTING: Final = frozenset(
    {"python", "image", "vllm", "engine", "address", "store", "url", "paths", "library", "model"}
    | {"flags", "listen", "admin", "secret", "gateways", "retrain", "command", "judge", "notify"}
)
"""Parts of paths: commands run, contact, read or write what is declared there."""
_OF_RAY: Final = re.compile(r"hosts\.[^.]+\.(?:cluster|node|token|insecure)")
"""Paths of the same; the words are also names that hosts have."""


def settings_due(declared: Mapping[str, str], history: History) -> tuple[SettingChange, ...]:
    """Return the settings that differ from the last apply, by path.

    All, where nothing was ever applied; none, where an earlier release applied and recorded none.
    """
    applied = history.settings
    if applied is None:
        if history.owned or history.established:
            return ()
        applied = {}
    return tuple(
        SettingChange(
            path,
            applied.get(path),
            declared.get(path),
            not _ACTING.isdisjoint(path.split(".")) or _OF_RAY.fullmatch(path) is not None,
        )
        for path in sorted(declared.keys() | applied.keys())
        if applied.get(path) != declared.get(path) and _RESOURCES.fullmatch(path) is None
    )


def settings_to_record(
    plan: Plan, declared: Mapping[str, str], history: History
) -> dict[str, str | None]:
    """Return the settings that are in force once a plan is carried out, by path; None: the default.

    The first apply after one of an earlier release records all that is declared.
    """
    if history.settings is None and not plan.settings and (history.owned or history.established):
        return {path: value for path, value in declared.items() if not _RESOURCES.fullmatch(path)}
    return {setting.path: setting.after for setting in plan.settings}


def with_changes(
    before: Mapping[str, Value], recorded: Mapping[str, Value | None]
) -> dict[str, Value]:
    """Return settings, or documents by key, after a record of those that changed; None: gone."""
    merged = {**before, **recorded}
    return {path: value for path, value in merged.items() if value is not None}
