"""Corrects closed months: what late rows change of their costs and overage is due later."""

from collections import Counter
from collections.abc import Mapping

from fleet.costing.lines import CostLine, LineKind
from fleet.costing.months import Corrections, MonthCost


def due_corrections(
    closed: Mapping[str, MonthCost], recounted: Mapping[str, MonthCost]
) -> Corrections:
    """Return the changes by a recount of closed months, beyond the corrections in their files.

    `closed`: all closed months as their files have them; `recounted`: some of them, from all rows.
    """
    lines: list[CostLine] = []
    overage: dict[str, dict[str, int]] = {}
    for month, found in recounted.items():
        due: Counter[str] = Counter()
        charged: Counter[str] = Counter()
        for line in found.lines:
            due[line.client] += line.micro
        for client, figures in found.clients.items():
            charged[client] += figures.overage
        for other, cost in closed.items():
            for line in cost.lines:
                is_correction = line.kind is LineKind.CORRECTION
                if line.reason == month if is_correction else other == month:
                    due[line.client] -= line.micro
            for client, figures in cost.clients.items():
                earlier = figures.corrections.get(month, 0)
                charged[client] -= figures.overage if other == month else earlier
        lines += [
            CostLine(client, LineKind.CORRECTION, "", amount, month)
            for client, amount in sorted(due.items())
            if amount
        ]
        for client, amount in sorted(charged.items()):
            if amount:
                overage.setdefault(client, {})[month] = amount
    return Corrections(tuple(lines), overage)
