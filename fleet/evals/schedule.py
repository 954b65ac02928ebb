"""Decides which evaluations are due, and which servers answer for a version."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from fleet.evals.records import EvalRecord
from fleet.evals.run import Purpose
from fleet.resources import State
from fleet.spec import AdapterSpec


@dataclass(frozen=True, slots=True)
class DueEvaluation:
    """An evaluation that is due."""

    alias: str
    adapter: str
    """The version that serves."""
    purpose: Purpose
    golden: str
    """Path of the set, relative to the project."""
    reason: str


def due_evaluations(
    serving: Mapping[str, tuple[AdapterSpec, str, str]],
    past: Mapping[str, Sequence[EvalRecord]],
    every: timedelta,
    now: datetime,
) -> Iterator[DueEvaluation]:
    """Yield the evaluations that are due; `every` is the time between two of a purpose.

    `serving` has by alias: the declaration, the version with the largest share, and the identity of
    its engine and flags. `past` has all evaluations by alias.
    """
    purposes: tuple[Purpose, ...] = ("anchor", "rolling")
    for alias, (declared, adapter, engine) in sorted(serving.items()):
        for purpose, golden in zip(purposes, (declared.golden, declared.rolling), strict=True):
            runs = [
                record for record in past.get(alias, ())
                if record.valid and record.purpose == purpose and record.adapter == adapter
            ]  # fmt: skip
            reason = _reason(runs, engine if purpose == "anchor" else "", every, now)
            if golden is not None and reason:
                yield DueEvaluation(alias, adapter, purpose, golden, reason)


def _reason(runs: Sequence[EvalRecord], engine: str, every: timedelta, now: datetime) -> str:
    if not runs:
        return "never evaluated"
    last = runs[-1]
    before = str(last.summary.get("serving") or "")
    if engine and before and before != engine:
        return f"served by {engine} now, by {before} at the last"
    if now - last.at >= every:
        return f"last evaluated {(now - last.at).days} days ago"
    return ""


@dataclass(frozen=True, slots=True)
class ServedVersion:
    """A version on a server that answers."""

    adapter: str
    server: str
    url: str
    digest: str
    """Digest of the loaded bytes; empty where their path does not tell."""
    engine: str
    """Version of the engine and digest of the server's flags."""


def served_versions(live: State) -> Mapping[str, ServedVersion]:
    """Return the versions that reachable servers list, by full name: the first server by name."""
    servers = live.servers()
    served: dict[str, ServedVersion] = {}
    for adapter in live.adapters().values():
        url = live.urls.get(adapter.server)
        if url and adapter.adapter not in served:
            flags = servers[adapter.server].digest if adapter.server in servers else None
            engine = f"{live.versions.get(adapter.server, 'engine')} {flags or ''}".strip()
            served[adapter.adapter] = ServedVersion(
                adapter.adapter, adapter.server, url, adapter.digest or "", engine
            )
    return served


def answering(live: State) -> Mapping[str, str]:
    """Return the version with the largest share, by alias; of equal shares the older version."""
    return {
        alias: max(reversed(route.shares), key=lambda share: share.percent).adapter
        for alias, route in live.routes().items()
        if route.shares
    }
