"""Choose the facts of a page: paths, tables, and the function that gathers them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fleet.usage import OfClient, Scope
from runtime.operations.watch.costs import BillReader, ReadBill
from runtime.web.client_facts import client_alias, client_page
from runtime.web.cost_facts import client_account, client_invoice, clients_page, cost_page
from runtime.web.facts import Documents
from runtime.web.gather import (
    alerts_page,
    drift_page,
    fleet_page,
    heading,
    model_page,
    models_page,
    plan_page,
    plans_page,
    rollouts_page,
    why_page,
)
from runtime.web.server_facts import server_page
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage_facts import demand_page, usage_page
from runtime.workspace import Workspace

PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "fleet": ("/", "aliases"),
    "models": ("/models", "aliases"),
    "model": ("/models/{name}", "versions"),
    "server": ("/servers/{name}", "versions"),
    "why": ("/why/{name}", "causes"),
    "clients": ("/clients", "clients"),
    "client_account": ("/clients/{name}", "aliases"),
    "usage": ("/usage", "clients"),
    "demand": ("/demand", "demand"),
    "cost": ("/cost", "lines"),
    "rollouts": ("/rollouts", "rollouts"),
    "rollout": ("/rollouts/{name}", "events"),
    "alerts": ("/alerts", "alerts"),
    "drift": ("/drift", "causes"),
    "plans": ("/plans", "applies"),
    "plan": ("/plans/{name}", "steps"),
}
"""Path of an operator's page, and the field of its facts that the CSV has."""
OWN, VIEW = "/c/{client}", "/clients/{client}/view"
"""Beginnings of the addresses of a client's pages: the client's own, and operators' view."""
CLIENT_PATHS: Final[Mapping[str, tuple[str, str]]] = {
    "client": (OWN, "aliases"),
    "client_invoice": (f"{OWN}/invoice", "lines"),
    "client_alias": (f"{OWN}/{{name}}", "hours"),
}
ARRANGE: Final = ("q", "sort", "desc", "month", "since")
"""Parameters of an address: filter and order of the page's table, its month, its time."""
MONTH: Final = re.compile(r"2[0-9]{3}-(0[1-9]|1[0-2])")


@dataclass(frozen=True, slots=True)
class FactSource:
    """Makes the facts of pages from a reading, and bills from the usage store."""

    workspace: Workspace
    documents: Documents
    bills: BillReader

    def facts(  # noqa: C901, PLR0911, PLR0912 (a case a page)
        self, page: str, seen: FleetSnapshot, scope: Scope, asked: Mapping[str, str]
    ) -> Any:
        """Return the facts of a page; None: there is no such page. Blocks.

        `asked`: the values of the address, with `name` and `client` of its path.
        """
        make, now, name = self.documents, self.workspace.now(), asked.get("name", "")
        if isinstance(scope, OfClient):
            match page:
                case "client":
                    return client_page(seen, scope)
                case "client_invoice":
                    return client_invoice(self._bill(asked), seen, scope, make)
                case _:
                    return client_alias(seen, scope, make.report, now, name)
        match page:
            case "fleet":
                return fleet_page(seen, scope, make, now)
            case "models":
                return models_page(seen, scope, now)
            case "model" | "rollout":
                return model_page(seen, scope, make, now, name)
            case "server":
                busy, state_dir = self.bills.read("").busy, self.workspace.state_dir
                return server_page(seen, scope, now, name, busy, state_dir)
            case "why":
                state_dir, since = self.workspace.state_dir, asked.get("since", "")
                return why_page(seen, scope, make, now, name, since, state_dir)
            case "usage":
                return usage_page(seen, scope, now)
            case "demand":
                return demand_page(seen, scope, now)
            case "clients":
                return clients_page(self._bill(asked), seen, scope, make, now)
            case "client_account":
                return client_account(self._bill(asked), seen, scope, make, now, name)
            case "cost":
                return cost_page(self._bill(asked), heading(seen, scope, now), scope, make)
            case "rollouts":
                return rollouts_page(seen, scope, make, now)
            case "alerts":
                return alerts_page(seen, scope, make, now)
            case "drift":
                return drift_page(seen, scope, make, now)
            case "plans":
                return plans_page(seen, scope, now)
            case _:
                return plan_page(seen, scope, now, name)

    def _bill(self, asked: Mapping[str, str]) -> ReadBill:
        month = asked.get("month", "")
        return self.bills.read(month if MONTH.fullmatch(month) else "")
