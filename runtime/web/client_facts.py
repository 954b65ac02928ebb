"""Gather the facts of a client's pages.

The types have no field for a server, host, price, cost, margin, person or other client: what a
page cannot hold, it cannot show.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from fleet.errors import FleetError
from fleet.history import Entry
from fleet.names import client_of, version_of
from fleet.rollouts import Phase
from fleet.traffic import UNLIMITED
from fleet.usage import OfClient
from runtime.operations.rollouts.rollouts import last_tried
from runtime.web.facts import Document
from runtime.web.snapshot import FleetSnapshot
from runtime.web.usage import HourFacts

Report = Callable[[Iterable[Entry], str, str, datetime], Document]
"""Makes the report of a rollout to its client: entries, alias, full adapter name, now."""


@dataclass(frozen=True, slots=True)
class ClientVersion:
    """A version that answers a part of an alias's requests."""

    version: str
    percent: int


@dataclass(frozen=True, slots=True)
class ClientAlias:
    """An alias of the client."""

    alias: str
    state: str
    """`answers`, `update` (a new version takes over) or `down`."""
    versions: tuple[ClientVersion, ...]
    since: str | None
    promise_s: float | None
    """Promised p95; None: none is declared."""
    requests: int
    """Of the last day, as the times."""
    errors: int
    p95_s: float | None
    kept: bool | None
    """Whether the p95 is within the promise; None: no promise, or no request."""
    reported: bool
    """Whether there is a report of its last update."""


@dataclass(frozen=True, slots=True)
class ClientPage:
    """The page `/c/CLIENT`."""

    client: str
    as_of: str
    old: bool
    """Whether later readings failed."""
    aliases: tuple[ClientAlias, ...]
    requests_per_month: int | None
    """Budget of a month, as the tokens; None: none is declared."""
    tokens_per_month: int | None
    refuses_beyond: bool
    """Whether requests beyond a budget are refused."""


@dataclass(frozen=True, slots=True)
class ClientAliasPage:
    """The page `/c/CLIENT/ALIAS`: the last day, and the report of the last update."""

    client: str
    as_of: str
    alias: ClientAlias
    hours: tuple[HourFacts, ...]
    version: str
    """Version of the last update; empty: there was none, and the rest is empty, too."""
    outcome: str
    events: tuple[Document, ...]
    gates: tuple[Document, ...]
    evaluations: tuple[Document, ...]


def client_page(seen: FleetSnapshot, scope: OfClient) -> ClientPage | None:
    """Return the facts of a client's start page; None: there is no such client."""
    aliases = {*seen.fleet.adapters, *seen.routes}
    own = tuple(_alias(seen, name) for name in sorted(aliases) if client_of(name) == scope.name)
    spec = seen.fleet.clients.get(scope.name)
    if not own and spec is None:
        return None
    as_of, old = seen.at.isoformat(timespec="minutes"), bool(seen.problem)
    limits = spec.limits if spec else UNLIMITED
    budgets = limits.requests_per_month, limits.tokens_per_month
    return ClientPage(scope.name, as_of, old, own, *budgets, limits.is_hard)


def _alias(seen: FleetSnapshot, alias: str) -> ClientAlias:
    spec, route = seen.fleet.adapters.get(alias), seen.routes.get(alias)
    shares = [share for share in route.shares if share.percent] if route else []
    away = {*seen.status.live.unknown_servers}
    serves = any(not {*share.servers} <= away for share in shares)
    stage, rollout = seen.status.history.stages.get(alias), seen.rollouts.get(alias)
    updates = len(shares) > 1 or (
        rollout is not None and rollout.target.phase is Phase.EVALUATING and bool(shares)
    )
    usage = seen.usage.facts(alias)
    promise = spec.slo_s if spec and spec.promised else None
    return ClientAlias(
        alias=alias,
        state=("update" if updates else "answers") if serves else "down",
        versions=tuple(ClientVersion(version_of(share.adapter), share.percent) for share in shares),
        since=stage.entered.isoformat(timespec="minutes") if stage else None,
        promise_s=promise,
        requests=usage.requests,
        errors=usage.errors,
        p95_s=usage.p95_s,
        kept=None if promise is None or usage.p95_s is None else usage.p95_s <= promise,
        reported=_last(seen, alias) is not None,
    )


def _last(seen: FleetSnapshot, alias: str) -> str | None:
    """Return the full name of the version in the alias's last rollout; None: there was none."""
    try:
        return last_tried(seen.status.entries, alias, None)
    except FleetError:
        return None


def client_alias(
    seen: FleetSnapshot, scope: OfClient, report: Report, now: datetime, alias: str
) -> ClientAliasPage | None:
    """Return the facts of an alias; None: not the client's."""
    page = client_page(seen, scope)
    own = next((row for row in page.aliases if row.alias == alias), None) if page else None
    if page is None or own is None:
        return None
    adapter = _last(seen, alias)
    found = report(seen.status.entries, alias, adapter, now) if adapter else {}
    return ClientAliasPage(
        client=scope.name,
        as_of=page.as_of,
        alias=own,
        hours=seen.usage.hours(alias),
        version=found.get("version", ""),
        outcome=found.get("outcome", ""),
        events=tuple(found.get("events", ())),
        gates=tuple(found.get("gates", ())),
        evaluations=tuple(found.get("evaluations", ())),
    )
