"""Keys: a secret tells who calls, so no two keys may have the same."""

from collections.abc import Iterator, Mapping

from fleet.declarations import Declarations
from fleet.problems import Finding


def check_keys(given: Declarations, fingerprints: Mapping[str, str | None]) -> Iterator[Finding]:
    """Yield keys that share a secret; `fingerprints` are by reference, None: not readable."""
    seen: dict[str, tuple[str | int, ...]] = {}
    for client_name, client in sorted(given.clients.items()):
        for key, reference in sorted(client.keys.items()):
            path = ("clients", client_name, "keys", key)
            identity = fingerprints.get(reference) or reference
            if identity in seen:
                other = seen[identity]
                detail = (
                    f"`{client_name}/{key}` and `{other[1]}/{other[3]}` have the same secret, so "
                    "a gateway cannot tell who calls."
                )
                yield Finding(
                    "FC1213",
                    path,
                    detail,
                    hint="Give each key its own secret.",
                    command=f"fleetctl key create {client_name}/{key}",
                    also=(("the other key at", other),),
                )
            else:
                seen[identity] = path
