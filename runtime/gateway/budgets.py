"""Budgets of a month: what clients and aliases have used, by the usage of all gateways.

`fleetctl watch` and `fleetctl reconcile` hand the figures over after each look at the usage rows;
between two looks a gateway counts its own answers on. Figures of a month that is over count no
more, and without figures nothing is refused.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from fleet.traffic import Budget, LimitPolicy
from runtime.files import read_plain, replace_file
from runtime.gateway.routing import RouteTarget

FILE: Final = "month.json"
"""File of a gateway's folder with the newest figures."""


class MonthFigures(BaseModel):
    """Requests and tokens of the month, as the admin side takes them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    until: float
    """End of the month. Unit: seconds since 1970."""
    clients: Mapping[str, tuple[int, int]] = {}
    """Answered requests and tokens, by client."""
    aliases: Mapping[str, tuple[int, int]] = {}


@dataclass(slots=True)
class MonthlyUse:
    """The requests and tokens of this month that a gateway knows of."""

    _file: Path | None = None
    _clock: Callable[[], float] = time.time
    _until: float = 0.0
    _clients: dict[str, list[int]] = field(default_factory=dict)
    _aliases: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Return the figures of a gateway's folder; a file that is lacking or broken has none."""
        use = cls(folder / FILE)
        with suppress(OSError, ValidationError):
            use._take(MonthFigures.model_validate_json(read_plain(folder / FILE)))
        return use

    def replace(self, figures: MonthFigures) -> None:
        """Take figures in the place of the known ones, and keep them for the next start.

        Raises:
            OSError: the file cannot be written; the figures count.
        """
        self._take(figures)
        if self._file is not None:
            replace_file(self._file, figures.model_dump_json().encode())

    def count(self, target: RouteTarget, tokens: int) -> None:
        """Count a request of a client and alias that have figures."""
        for used in (self._clients.get(target.client), self._aliases.get(target.alias)):
            if used is not None:
                used[0] += 1
                used[1] += tokens

    def wait_s(self, target: RouteTarget) -> float:
        """Return the seconds until the month ends where a hard budget is used up; else 0."""
        left_s, policy = self._until - self._clock(), target.policy
        if left_s <= 0:
            return 0.0
        is_spent = _is_spent(self._clients.get(target.client), policy.client_limits)
        is_spent = is_spent or _is_spent(self._aliases.get(target.alias), policy.limits)
        return left_s if is_spent else 0.0

    def _take(self, figures: MonthFigures) -> None:
        self._until = figures.until
        self._clients = {name: [*used] for name, used in figures.clients.items()}
        self._aliases = {name: [*used] for name, used in figures.aliases.items()}


def _is_spent(used: list[int] | None, limits: LimitPolicy) -> bool:
    if used is None or limits.budget is not Budget.HARD:
        return False
    bounds = limits.requests_per_month, limits.tokens_per_month
    return any(
        bound is not None and number >= bound for number, bound in zip(used, bounds, strict=True)
    )
