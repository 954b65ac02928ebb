"""Find the effects of declared keys: keys that stop working, and new secrets that are weak."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from fleet.codes import diagnostic
from fleet.errors import Diagnostic
from fleet.history import History
from fleet.planning.diversion import Interruption
from fleet.resources import FULL, Key, Resource, State
from fleet.spec import FleetSpec


def with_lock_outs(
    interrupted: Mapping[str, Interruption], fleet: FleetSpec, desired: State, live: State
) -> dict[str, Interruption]:
    """Add the aliases of the clients of which no key that works now works after the plan.

    A secret that is not readable here may be another one, so it counts as such.
    """
    before, after = _by_client(live.resources.values()), _by_client(desired.resources.values())
    interruptions = dict(interrupted)
    for alias, route in live.routes().items():
        keys = before[route.client]
        if alias in fleet.adapters and keys and keys.keys().isdisjoint(after[route.client]):
            also = interrupted.get(alias, Interruption(FULL, frozenset()))
            interruptions[alias] = replace(also, percent=FULL, keys=tuple(sorted(keys.values())))
    return interruptions


def _by_client(resources: Iterable[Resource]) -> Mapping[str, Mapping[str | None, str]]:
    """Return the names of keys by client, then by fingerprint."""
    keys = defaultdict[str, dict[str | None, str]](dict)
    for key in resources:
        if isinstance(key, Key):
            keys[key.client][key.fingerprint] = key.name
    return keys


def weak_new_keys(fleet: FleetSpec, history: History, live: State) -> Iterator[Diagnostic]:
    """Yield a problem for every declared key with a weak secret that does not work yet."""
    if live.routes_unknown:
        return
    resources = (*live.resources.values(), *history.established.values())
    known_fingerprints = {key.fingerprint for key in resources if isinstance(key, Key)}
    for client in fleet.clients.values():
        for key in client.keys if client.name not in fleet.set_aside else ():
            if key.is_weak and key.fingerprint not in known_fingerprints:
                problem = diagnostic(
                    "FC1282",
                    f"`{key.reference}` of key `{client.name}/{key.name}` holds a secret that is "
                    "estimated below 128 bits: whoever guesses it is answered as the client.",
                    fleet.declared_at("clients", client.name, "keys", key.name),
                    hint="Put a strong secret there. This makes one of 256 bits, where the file "
                    "is not there:",
                    command=f"fleetctl key create {client.name}/{key.name}",
                )
                yield replace(problem, subjects=(f"{client.name}.keys.{key.name}",))


def without_weak_keys(fleet: FleetSpec) -> FleetSpec:
    """Return a fleet in which no key counts as weak, for plans that set no key."""
    clients = {
        name: replace(client, keys=tuple(replace(key, is_weak=False) for key in client.keys))
        for name, client in fleet.clients.items()
    }
    return replace(fleet, clients=clients)
