"""Declares packages that add engines and other kinds, and the names that fleetctl itself ships."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Final, get_args

from pydantic import WithJsonSchema

from fleet.config.scalars.texts import Id
from fleet.config.schema.section import Section
from fleet.names import ID_PATTERN
from fleet.spec import ExtensionGroup

SHIPPED: Final[Mapping[ExtensionGroup, tuple[str, ...]]] = {
    "engines": ("local", "ssh", "ray", "attach", "fake"),
    "compile_targets": (
        "servers", "systemd", "quadlet", "kubernetes", "envoy", "litellm", "gateway-api",
        "prometheus", "alertmanager", "grafana",
    ),
    "eval_engines": ("native", "inspect", "lm_eval", "command"),
    "sources": ("oci", "s3", "hf", "https"),
    "notice_sinks": ("webhook", "mail"),
}  # fmt: skip
"""Names that need no declared package, by group of entry points."""


class Extension(Section):
    """The names that an installed package adds, by kind.

    The package lies beside fleetctl, and loads only where the operator trusts it:
    `fleetctl trust add --package NAME`.
    """

    engines: tuple[Id, ...] = ()
    """Engines of hosts, for `engine` of a host."""
    compile_targets: tuple[Id, ...] = ()
    """Targets of `fleetctl compile --target`."""
    eval_engines: tuple[Id, ...] = ()
    """Engines of evaluations, for `evals.engine`."""
    sources: tuple[Id, ...] = ()
    """Schemes of sources of versions, such as `acme` for `acme://team/version`."""
    notice_sinks: tuple[Id, ...] = ()
    """Receivers of notices, for `sinks` of `notify`."""

    def names(self) -> Iterator[tuple[ExtensionGroup, int, str]]:
        """Yield the names with their group and their place in its list."""
        for group in get_args(ExtensionGroup):
            for position, name in enumerate(getattr(self, group)):
                yield group, position, name


def _choice(group: ExtensionGroup) -> WithJsonSchema:
    shipped = {"type": "string", "enum": [*SHIPPED[group]]}
    return WithJsonSchema(
        {"anyOf": [shipped, {"type": "string", "pattern": f"^(?:{ID_PATTERN})$"}]}
    )


EngineName = Annotated[str, _choice("engines")]
"""Name of a shipped engine, or of a declared extension."""
EvalEngineName = Annotated[str, _choice("eval_engines")]
"""Name of a shipped engine of evaluations, or of a declared extension."""
