"""Loads the objects that names of the declarations mean: shipped, or of an installed package.

Both are found by entry points. The shipped ones stand in `SHIPPED` as well, so that no command
that needs them alone reads the metadata of installed packages, which takes longer than a plan.
"""

import importlib
import site
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any, Final

from fleet.errors import FleetError, did_you_mean
from fleet.spec import ExtensionGroup
from runtime.ci import fork_of
from runtime.trust import UntrustedError, require_package

_PACKAGE: Final = Path(__file__).parent
PLUGIN_FOLDER: Final = _PACKAGE / "vllm_plugin"
"""The plug-in of vLLM, a distribution of its own."""


def shipped(path: str) -> Path:
    """Return a file or folder, named as in the repository; a checkout has its own.

    The wheel gets them by `force-include` of pyproject.toml.
    """
    inside = _PACKAGE / "shipped" / path
    return inside if inside.exists() else _PACKAGE.parent / path


SHIPPED: Final[Mapping[ExtensionGroup, Mapping[str, str]]] = {
    "engines": {
        "attach": "runtime.engine_registry:attach_engine",
        "fake": "runtime.engine_registry:process_engine",
        "local": "runtime.engine_registry:process_engine",
        "ray": "runtime.engine_registry:ray_engine",
        "ssh": "runtime.engine_registry:ssh_engine",
    },
    "eval_engines": {
        "command": "runtime.evals.engines.command:run_command",
        "inspect": "runtime.evals.engines.inspect_engine:run_inspect",
        "lm_eval": "runtime.evals.engines.lm_eval:run_lm_eval",
        "native": "runtime.evals.engines.native:run_native",
    },
    "notice_sinks": {
        "mail": "runtime.notify.delivery:mail_notice",
        "webhook": "runtime.notify.delivery:post_notice",
    },
    "sources": {
        "hf": "runtime.sources.opening:open_hub",
        "https": "runtime.sources.http:FolderUrl",
        "oci": "runtime.sources.opening:open_registry",
        "s3": "runtime.sources.bucket:Bucket",
    },
}
"""`module:object` by name, by group: the entry points of fleetctl's own package."""
PREFIX: Final = "fleetctl."
"""Beginning of the names of groups in a package's metadata."""


class ExtensionError(FleetError):
    """An installed package cannot be used; all the rest is not affected."""


def load(group: ExtensionGroup, name: str, package: str = "") -> Any:
    """Return the object behind a name; `package` empty: fleetctl ships the object.

    Of a package, nothing is imported before the operator's trust is known.

    Raises:
        ExtensionError: FC1340, the package or the name is not installed; FC1343, importing fails.
        UntrustedError: FC1342, the package is not trusted, or a fork's branch names it.
    """
    if not package:
        module, _, found = SHIPPED[group][name].partition(":")
        return getattr(importlib.import_module(module), found)
    entry, version = _installed(group, name, package)
    if fork := fork_of():
        detail = f"`{package}` is not loaded on the branch of a fork ({fork})."
        raise UntrustedError.of("FC1342", "Extension is not trusted", detail)
    require_package(package, version)
    try:
        return entry.load()
    except (Exception, SystemExit) as error:
        raise unusable(name, package, f"importing it failed: {words_of(error)}") from error


def make(
    group: ExtensionGroup,
    name: str,
    package: str,
    needed: Iterable[str],
    maker: Callable[[Any], Any] = lambda found: found,
) -> Any:
    """Return the product of `maker` from a loaded object; all `needed` attributes are there.

    Raises:
        ExtensionError: FC1340; FC1343, also where `maker` fails or an attribute is missing.
        UntrustedError: FC1342.
    """
    found = load(group, name, package)
    if not package:
        return maker(found)
    try:
        made = maker(found)
    except FleetError:
        raise
    except Exception as error:
        raise unusable(name, package, f"making it failed: {words_of(error)}") from error
    if missing := [method for method in needed if not callable(getattr(made, method, None))]:
        raise unusable(name, package, f"it has no `{'`, no `'.join(missing)}`")
    return made


def unusable(name: str, package: str, why: str) -> ExtensionError:
    """Return the error FC1343 of an extension, with the reason."""
    detail = f"`{name}` of package `{package}`: {why}."
    hint = "Ask who makes the package; another release may work. Nothing else is affected."
    return ExtensionError.of("FC1343", "Extension cannot be used", detail, hint=hint)


def words_of(error: BaseException) -> str:
    """Return the words of an error that code of an extension has raised."""
    return f"{type(error).__name__}: {error}"[:300].rstrip(": .")


def _installed(group: ExtensionGroup, name: str, package: str) -> tuple[EntryPoint, str]:
    """Return the entry point of a name, and the version of its package. Imports nothing of it."""
    found = _distribution(package)
    if found is None:
        detail = f"Declarations name package `{package}`, which is not installed here."
        hint = f"Install `{package}` where fleetctl is; docs/extending.md has the commands."
        raise ExtensionError.of("FC1340", "Extension is not installed", detail, hint=hint)
    entries = found.entry_points.select(group=PREFIX + group)
    for entry in entries:
        if entry.name == name:
            return entry, found.version
    names = sorted(entry.name for entry in entries)
    detail = f"Package `{package}` {found.version} has no `{name}` in its group `{PREFIX}{group}`."
    hint = did_you_mean(name, names) or f"It has: {', '.join(names) or 'none'}."
    raise ExtensionError.of("FC1340", "Extension is not installed", detail, hint=hint)


@cache
def _distribution(package: str) -> Distribution | None:
    """Return an installed package; what lies in a project's own folders is not installed."""
    own = [site.getusersitepackages()] if site.ENABLE_USER_SITE else []
    folders = [*site.getsitepackages(), *own]
    return next(iter(Distribution.discover(name=package, path=folders)), None)
