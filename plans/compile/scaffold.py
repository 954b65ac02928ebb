"""Scaffolds: the text of a new fleet, client or adapter declaration."""

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

SCHEMA_FILE = "fleet.schema.json"
"""Where the first line of each scaffold tells editors to look for the schema."""


@cache
def _template(name: str) -> Template:
    environment = Environment(  # noqa: S701 (YAML; all values are checked ids and versions)
        loader=PackageLoader("plans", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name)


def fleet_text(name: str, base: str, engine: str) -> str:
    """Return a `fleet.yaml` with one base on one host of an engine; all names are ids."""
    return _template("fleet.yaml.j2").render(name=name, base=base, engine=engine)


def client_text(name: str, tier: str | None) -> str:
    """Return the file of a client without adapters; names are ids."""
    return _template("client.yaml.j2").render(name=name, tier=tier)


def adapter_text(task: str, base: str, version: str) -> str:
    """Return the entry of one adapter, not indented; names are ids, the version a semver."""
    return _template("adapter.yaml.j2").render(task=task, base=base, version=version)
