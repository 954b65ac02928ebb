"""Write the declaration of a new fleet, client or adapter as YAML."""

from plans.templating import rendered

SCHEMA_FILE = "fleet.schema.json"
"""File of the JSON schema that the first line of a scaffold names for editors."""


def fleet_text(name: str, base: str, engine: str) -> str:
    """Return a `fleet.yaml` with a single base on a single host of an engine; names are ids."""
    return rendered("fleet.yaml.j2", name=name, base=base, engine=engine)


def client_text(name: str, tier: str | None) -> str:
    """Return the file of a client without adapters; names are ids."""
    return rendered("client.yaml.j2", name=name, tier=tier)


def adapter_text(task: str, base: str, version: str) -> str:
    """Return the entry of an adapter, not indented; names are ids, the version a semver."""
    return rendered("adapter.yaml.j2", task=task, base=base, version=version)
