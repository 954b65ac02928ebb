"""The table in the file from which gateways start: would they serve it, and can it be written?"""

from collections.abc import Mapping
from pathlib import Path

from fleet.errors import EngineRejectedError, problem
from fleet.spec import GatewaySpec
from runtime.gateway import places
from runtime.gateway.routing import InvalidTableError, Lookup
from runtime.gateway.table import RoutingTable
from runtime.gateway.tablefile import write_table


def require_servable(table: RoutingTable) -> None:
    """Refuse a table that no gateway would serve.

    Raises:
        EngineRejectedError: FC6006, what is wrong with it.
    """
    try:
        Lookup.of(table)
    except InvalidTableError as error:
        raise EngineRejectedError(
            400, problem("FC6006", "The routing table is not to be served", f"{error}.")
        ) from None


def keep(
    state_dir: Path, table: RoutingTable, gateways: Mapping[str, GatewaySpec]
) -> OSError | None:
    """Write the table and which gateways there are; return why that failed, such as a full disk.

    Raises:
        StalePlanError, LockHeldError: as `write_table`.
    """
    try:
        write_table(state_dir, table)
        places.remember(state_dir, gateways)
    except OSError as error:
        return error
    return None
