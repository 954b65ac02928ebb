"""Keep the budgets of the month: count usage, and hand the figures to the gateways."""

import asyncio
from contextlib import closing
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from fleet.alerting import BudgetUse, Holder, Month, budget_uses, budgets_of, counted
from fleet.errors import EngineUnreachableError, FleetError
from fleet.spec import FleetSpec, GatewaySpec
from fleet.usage import Operator
from runtime.gateway.admin.state_dir import known_gateways
from runtime.gateway.control.client import AdminClient, connect
from runtime.gateway.traffic.limits import MonthFigures
from runtime.operations.watch.costs import month_bounds
from runtime.usage.store import UsageStore
from runtime.workspace import Workspace

_EVALUATIONS = "eval"


def month_of(fleet: FleetSpec, now: datetime) -> Month:
    """Return the month of a time, by the clock of `costs.timezone`."""
    zone = ZoneInfo(fleet.costs.timezone)
    return Month(*month_bounds(f"{now.astimezone(zone):%Y-%m}", zone))


def used_in_month(
    fleet: FleetSpec, store: UsageStore, now: datetime
) -> tuple[Month, dict[Holder, tuple[int, int]]]:
    """Return the month, with requests and tokens by client and alias of the rows in the store.

    Where no budget is declared, nothing is counted.
    """
    month = month_of(fleet, now)
    if not budgets_of(fleet):
        return month, {}
    cells = store.cells(
        Operator(), month.begin, month.end, by=("client", "alias", "purpose"),
        purposes=("live", _EVALUATIONS), by_cell=False, sketches=False,
    )  # fmt: skip
    paid = (
        cell
        for cell in cells
        if cell.purpose != _EVALUATIONS
        or (cell.client in fleet.clients and fleet.clients[cell.client].bill_evals)
    )
    return month, counted(paid)


def uses_of_month(
    fleet: FleetSpec, state_dir: Path, now: datetime
) -> tuple[Month, tuple[BudgetUse, ...]]:
    """Return the month, and the use of all its budgets.

    Raises:
        FleetError: FC6063, FC6065, the usage store cannot be read.
    """
    with closing(UsageStore(state_dir)) as store:
        month, used = used_in_month(fleet, store, now)
    return month, budget_uses(budgets_of(fleet), used)


async def keep_budgets(workspace: Workspace) -> None:
    """Hand the figures of the month to all gateways, where there is a hard budget.

    A gateway that is away gets them in a later round. A fault is told, and ends no round.
    """
    fleet = workspace.project.fleet()
    hard = [holder for holder, limits in budgets_of(fleet).items() if limits.is_hard]
    if not hard:
        return
    try:
        with closing(UsageStore(workspace.state_dir)) as store:
            month, used = used_in_month(fleet, store, workspace.now())
    except FleetError as error:
        workspace.warn(*(diagnostic.detail for diagnostic in error.diagnostics))
        return
    clients, aliases = (
        {name: used.get((of, name), (0, 0)) for of, name in hard if of == kind}
        for kind in ("client", "alias")
    )
    figures = MonthFigures(until=month.end.timestamp(), clients=clients, aliases=aliases)
    fleet_id = workspace.ledger.fleet_id()
    gateways = dict(fleet.gateways) or known_gateways(workspace.state_dir)

    async def hand_over(gateway: GatewaySpec) -> None:
        try:
            client = connect(workspace.state_dir, gateway, fleet_id=fleet_id)
            assert isinstance(client, AdminClient)
            try:
                await client.use_month(figures)
            finally:
                await client.close()
        except EngineUnreachableError:  # an outage, which others tell
            return
        except FleetError as error:
            workspace.warn(
                f"gateway `{gateway.name}` was not handed the budgets of the month: "
                f"{error.diagnostics[0].detail}"
            )

    ours = (gateway for gateway in gateways.values() if gateway.kind != "envoy")
    await asyncio.gather(*map(hand_over, ours))
