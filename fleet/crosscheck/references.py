"""References: every name that a declaration uses must be declared."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from fleet.declarations import Declarations
from fleet.problems import Finding, nearest

Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True)
class Names:
    """All declared names, those of malformed declarations included."""

    tiers: Sequence[str]
    bases: Sequence[str]
    rollouts: Sequence[str]
    gates: Sequence[str]
    holders: Sequence[str]
    """Hosts and attached servers: what an adapter may be pinned to."""
    clients: Sequence[str]
    aliases: Sequence[str]
    value: Mapping[str, Any]
    """The merged values as written, with what is malformed."""

    @classmethod
    def of(cls, value: Mapping[str, Any], given: Declarations) -> Self:
        """Collect the names from the merged values."""

        def keys(section: str, *builtin: str) -> Sequence[str]:
            found = value.get(section)
            return sorted({*builtin, *(map(str, found) if isinstance(found, dict) else ())})

        servers = (server for host in given.hosts.values() for server in host.servers)
        return cls(
            keys("tiers", "standard"),
            keys("bases"),
            keys("rollouts", "standard"),
            keys("gates"),
            sorted({*keys("hosts"), *servers}),
            keys("clients"),
            sorted(aliases_of(value.get("clients"))),
            value,
        )

    def writes(self, *path: str | int) -> bool:
        """Say whether there is a value at `path`, well-formed or not."""
        found: Any = self.value
        for step in path:
            if not isinstance(found, dict) or step not in found:
                return False
            found = found[step]
        return True


def aliases_of(clients: Any) -> Iterator[str]:
    """Yield the aliases of a merged section `clients`, well-formed or not."""
    for name, client in clients.items() if isinstance(clients, dict) else ():
        adapters = client.get("adapters") if isinstance(client, dict) else None
        for task in adapters if isinstance(adapters, dict) else ():
            yield f"{name}-{task}"


def reference(
    code: str, kind: str, name: str | None, names: Sequence[str], path: Path
) -> Iterator[Finding]:
    """Yield a finding where `name` is given and not among `names`."""
    if name is None or name in names:
        return
    hint = nearest(name, tuple(names))
    if not hint:
        hint = f"Declared: {', '.join(names[:8])}." if names else f"Declare it under `{kind}s:`."
    yield Finding(code, path, f"No {kind} is called `{name}`.", hint=hint)
