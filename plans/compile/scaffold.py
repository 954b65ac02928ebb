"""Scaffolds: the text of a new fleet, client or adapter declaration."""

from plans.templating import rendered

SCHEMA_FILE = "fleet.schema.json"
"""Where the first line of each scaffold tells editors to look for the schema."""


def fleet_text(name: str, base: str, engine: str) -> str:
    """Return a `fleet.yaml` with one base on one host of an engine; all names are ids."""
    return rendered("fleet.yaml.j2", name=name, base=base, engine=engine)


def client_text(name: str, tier: str | None) -> str:
    """Return the file of a client without adapters; names are ids."""
    return rendered("client.yaml.j2", name=name, tier=tier)


def adapter_text(task: str, base: str, version: str) -> str:
    """Return the entry of one adapter, not indented; names are ids, the version a semver."""
    return rendered("adapter.yaml.j2", task=task, base=base, version=version)
