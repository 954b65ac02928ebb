"""Decides how far the declared budgets of a month are used up."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from fleet.alerting.alert import Alert, AlertRule, RuleFinding, Signal
from fleet.spec import FleetSpec
from fleet.traffic import LimitPolicy
from fleet.usage import UsageCell

Holder = tuple[Literal["client", "alias"], str]
"""The holder of a budget: its kind and name."""
Kind = Literal["requests", "tokens"]
WARN_AT: Final = 0.8
"""Part of a budget above which an alert stands."""
_LEAST_S: Final = 86_400.0
"""Lower bound of the time since the month's begin at which a pace is told. Unit: seconds."""


@dataclass(frozen=True, slots=True)
class Month:
    """A calendar month, UTC."""

    begin: datetime
    end: datetime


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """The requests or tokens of the month beside their declared bound."""

    holder: Holder
    kind: Kind
    used: int
    limit: int
    is_hard: bool

    @property
    def share(self) -> float:
        """The part that is used; above 1: more than the bound."""
        return self.used / self.limit

    def ends_at(self, month: Month, now: datetime) -> datetime | None:
        """Return when the bound is reached at the pace of the month so far.

        None: not before the month's end, or the month is younger than a day.
        """
        so_far = now - month.begin
        if self.used >= self.limit or not self.used or so_far.total_seconds() < _LEAST_S:
            return None
        reached = month.begin + so_far / self.share
        return reached if reached < month.end else None


def counted(cells: Iterable[UsageCell]) -> dict[Holder, tuple[int, int]]:
    """Return answered requests and tokens by client and by alias, of cells with these two names.

    Requests that were refused, were wrong or met an error of a server do not count; their tokens
    do, as in bills.
    """
    sums: dict[Holder, tuple[int, int]] = {}
    for cell in cells:
        figures = cell.figures
        tokens = figures.input_tokens + figures.output_tokens
        holders: tuple[Holder, ...] = ("client", cell.client), ("alias", cell.alias)
        for holder in holders:
            requests, before = sums.get(holder, (0, 0))
            sums[holder] = requests + figures.answered, before + tokens
    return sums


def budgets_of(fleet: FleetSpec) -> dict[Holder, LimitPolicy]:
    """Return the limits of the clients and aliases that have a bound of a month, by name."""
    limits: dict[Holder, LimitPolicy] = {
        ("client", name): client.limits for name, client in fleet.clients.items()
    }
    limits |= {("alias", alias): adapter.limits for alias, adapter in fleet.adapters.items()}
    return {
        holder: its
        for holder, its in sorted(limits.items(), key=lambda item: item[0][1])
        if (its.requests_per_month, its.tokens_per_month) != (None, None)
    }


def budget_uses(
    budgets: Mapping[Holder, LimitPolicy], used: Mapping[Holder, tuple[int, int]]
) -> tuple[BudgetUse, ...]:
    """Return the use of all bounds, by name.

    Args:
        budgets: As of `budgets_of`.
        used: As of `counted`.
    """
    found = []
    for holder, limits in budgets.items():
        requests, tokens = used.get(holder, (0, 0))
        kinds: tuple[tuple[Kind, int, int | None], ...] = (
            ("requests", requests, limits.requests_per_month),
            ("tokens", tokens, limits.tokens_per_month),
        )
        found += [
            BudgetUse(holder, kind, number, bound, limits.is_hard)
            for kind, number, bound in kinds
            if bound is not None
        ]
    return tuple(found)


def budget_findings(
    uses: Iterable[BudgetUse], month: Month, now: datetime
) -> Iterator[RuleFinding]:
    """Yield the findings on budgets: above 80 %, and used up."""
    worst: dict[Holder, BudgetUse] = {}
    for use in uses:
        if use.holder not in worst or use.share > worst[use.holder].share:
            worst[use.holder] = use
    for use in worst.values():
        detail = f"{use.used:,} of {use.limit:,} {use.kind}"
        refused = f"requests are refused until {month.end:%Y-%m-%d %H:%M} UTC"
        if use.share >= 1 and use.is_hard:
            detail += f"; {refused}"
        elif reached := use.ends_at(month, now):
            detail += f"; at this pace all of them on {reached:%Y-%m-%d}"
            detail += ", and then requests are refused" if use.is_hard else ""
        for rule, limit in ((AlertRule.BUDGET_USED_UP, 1.0), (AlertRule.BUDGET, WARN_AT)):
            alert = Alert(
                rule, use.holder[1], use.share, limit, now, "fleetctl cost budgets", detail=detail,
                urgent=use.is_hard and limit == 1,
            )  # fmt: skip
            yield RuleFinding(Signal.FIRING if use.share >= limit else Signal.CLEAR, alert)
