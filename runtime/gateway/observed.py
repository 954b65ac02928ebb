"""The newest routing table, and the faults of gateways, by their answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fleet.errors import EngineError, FleetError, NewerFormatError
from fleet.resources import Fault
from runtime.gateway.client import GatewayClient
from runtime.gateway.protocol import GatewayConfig, Note, address_unknown, lagging
from runtime.gateway.state_dir import read_table
from runtime.gateway.table import RoutingTable

Config = GatewayConfig | EngineError | None
"""A gateway's answer, or the reason of no answer; None: the gateway does not run."""


@dataclass(frozen=True, slots=True)
class ObservedGateways:
    """The gateways of a fleet, by their answers to the same question."""

    table: RoutingTable | EngineError
    """The newest that the file or a gateway holds, or why no table is known."""
    notes: tuple[Note, ...]
    """On gateways and the table; none where no table is known."""
    faults: Mapping[str, Fault]
    """By name of the gateway, sorted."""
    missing: tuple[tuple[str, str], ...]
    """As `GatewayConfig.missing`, of all gateways, sorted."""


def written_table(state_dir: Path) -> RoutingTable | FleetError:
    """Return the table of the file, or why the file is damaged.

    Raises:
        NewerFormatError: the file is of a later format.
    """
    try:
        return read_table(state_dir) or RoutingTable(revision=0)
    except NewerFormatError:
        raise
    except FleetError as error:
        return error


def lacking(configs: Mapping[str, Config]) -> tuple[tuple[str, str], ...]:
    """Return (full adapter name, server) of versions that a server said not to hold, sorted."""
    shown = (config for config in configs.values() if isinstance(config, GatewayConfig))
    return tuple(sorted({pair for config in shown for pair in config.missing}))


async def newest_of(
    written: RoutingTable | FleetError,
    configs: Mapping[str, Config],
    client_of: Callable[[str], GatewayClient],
) -> tuple[RoutingTable, tuple[Note, ...]]:
    """Return the newest table of the file and the gateways, and notes.

    `written`: as of `written_table`, read before the gateways were asked.

    Raises:
        EngineError: the file is damaged and no gateway has a table, or a gateway does not show the
            newer table that it has.
    """
    notes, newest = list[Note](), RoutingTable(revision=0)
    if isinstance(written, FleetError):
        notes.append(Note(written.diagnostics[0].detail, is_damage=True))
    else:
        newest = written
    for name, config in configs.items():
        if isinstance(config, GatewayConfig) and config.revision > newest.revision:
            newest = await client_of(name).table()
            notes.append(Note("holds a newer table than the file", name, is_damage=True))
    if isinstance(written, FleetError) and newest.revision == 0:
        raise EngineError(*written.diagnostics)
    for name, config in configs.items():
        notes += lagging(name, config, newest)
    notes += [address_unknown(server) for server in newest.without_address]
    return newest, tuple(notes)


async def tables_of(
    newest: RoutingTable,
    configs: Mapping[str, Config],
    client_of: Callable[[str], GatewayClient],
) -> tuple[RoutingTable, ...]:
    """Return the newest table, and the tables that gateways serve in its place.

    The file may have been changed by hand: the traffic goes by what gateways acknowledged.

    Raises:
        EngineError: a running gateway does not say what it serves.
    """
    served = [newest]
    for name, config in configs.items():
        if isinstance(config, EngineError):
            raise config
        if config is not None and config.digest not in {table.digest for table in served}:
            served.append(await client_of(name).table())
    return tuple(served)
