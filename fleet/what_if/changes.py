"""Changes a declared fleet by texts such as `client acme x3`, and the live state with the fleet."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from fleet.resources import LoadedAdapter, Server, State
from fleet.spec import FleetSpec
from fleet.what_if import declarations
from fleet.what_if.edits import Named, impossible, not_understood


def what_if(fleet: FleetSpec, changes: Sequence[str]) -> FleetSpec:
    """Return the fleet with the changes made, in their order.

    The texts are of the forms in `EXAMPLES`; the case of letters does not matter. Side effects of
    a change (a pin to a host that is gone is dropped) are warnings of the fleet.

    Raises:
        FleetError: FC6040, a change is of no known form; FC6041, it names nothing in the
            fleet; FC6042, it cannot be made.
    """
    for text in changes:
        words = " ".join(text.lower().split())
        for pattern, change in _FORMS:
            if match := re.fullmatch(pattern, words):
                fleet = change(fleet, match.groupdict())
                break
        else:
            raise not_understood(text)
    return fleet


def what_if_live(fleet: FleetSpec, live: State) -> State:
    """Return the live state without the servers on hosts or devices that the changed fleet lacks.

    The versions on those servers are left out too.
    """
    gone = set()
    for name, server in live.servers().items():
        host = fleet.hosts.get(server.host)
        devices = {device.name for device in host.devices} if host else set()
        if host is None or (host.engine != "attach" and {*server.devices} - devices):
            gone.add(name)
    kept = {
        address: resource
        for address, resource in live.resources.items()
        if not (isinstance(resource, Server) and resource.name in gone)
        and not (isinstance(resource, LoadedAdapter) and resource.server in gone)
    }
    return replace(live, resources=kept)


def _utilization(fleet: FleetSpec, named: Named) -> FleetSpec:
    percent = int(named["number"])
    if percent > 100:  # noqa: PLR2004 (all of it)
        raise impossible(f"A server cannot be used to {percent} %.", "Write 100% at most.")
    return replace(fleet, policy=replace(fleet.policy, utilization=percent / 100))


def _canary_slots(fleet: FleetSpec, named: Named) -> FleetSpec:
    return replace(fleet, policy=replace(fleet.policy, canary_slots=int(named["number"])))


_COUNT = r"(?P<count>[1-9][0-9]{0,3})"
_NUMBER = r"(?P<number>[1-9][0-9]{0,3})"
_FACTOR = r"x ?(?P<factor>[0-9]{1,4}(?:\.[0-9]{1,4})?)"
_FIELD = r"(?P<field>max_loras|max_lora_rank|tensor_parallel)"
_NAME = r"(?P<name>[a-z0-9_-]+)"
_PRICE = r"(?P<price>[0-9]{1,6}(?:\.[0-9]{1,4})?)"
_FORMS: tuple[tuple[str, Callable[[FleetSpec, Named], FleetSpec]], ...] = (
    (rf"gpu (?P<kind>\S+) \+ ?{_COUNT}(?: at {_PRICE})?", declarations.more_devices),
    (rf"gpu (?P<kind>\S+) - ?{_COUNT}", declarations.fewer_devices),
    (rf"host {_NAME} gone", declarations.host_gone),
    (rf"client {_NAME} gone", declarations.client_gone),
    (rf"client {_NAME} {_FACTOR}", declarations.client_demand),
    (rf"clients \+ ?{_COUNT}", declarations.more_clients),
    (rf"adapter {_NAME} gone", declarations.adapter_gone),
    (rf"adapter {_NAME} {_FACTOR}", declarations.adapter_demand),
    (rf"adapter {_NAME} rank {_NUMBER}", declarations.adapter_rank),
    (rf"adapter {_NAME} replicas {_NUMBER}", declarations.adapter_replicas),
    (rf"base {_NAME} {_FIELD} {_NUMBER}", declarations.base),
    (rf"utili[sz]ation {_NUMBER} ?%", _utilization),
    (r"canary_slots (?P<number>[0-9]{1,4})", _canary_slots),
)
