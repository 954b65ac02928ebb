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
    """An evaluation that should be made now."""

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
    """Yield the evaluations that are due, by alias.

    Args:
        serving: By alias: its declaration, the version that answers most of it, and what tells
            its engine and flags from others.
        past: By alias: all evaluations.
        every: Time between two of a kind.
        now: The time.
    """
    for alias, (declared, adapter, engine) in sorted(serving.items()):
        asked: tuple[tuple[Purpose, str | None], ...] = (
            ("anchor", declared.golden),
            ("rolling", declared.rolling),
        )
        for purpose, golden in asked:
            if golden is None:
                continue
            runs = [
                record for record in past.get(alias, ())
                if record.valid and record.purpose == purpose and record.adapter == adapter
            ]  # fmt: skip
            reason = _reason(runs, engine if purpose == "anchor" else "", every, now)
            if reason:
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
    """Of the bytes that were loaded; empty where their path does not tell."""
    engine: str
    """Version of the engine and digest of the server's flags."""


def served_versions(live: State) -> Mapping[str, ServedVersion]:
    """Return by full name every version that some reachable server lists, the first by name."""
    servers = live.servers()
    found: dict[str, ServedVersion] = {}
    for adapter in live.adapters().values():
        url = live.urls.get(adapter.server)
        if url and adapter.adapter not in found:
            flags = servers[adapter.server].digest if adapter.server in servers else None
            engine = f"{live.versions.get(adapter.server, 'engine')} {flags or ''}".strip()
            found[adapter.adapter] = ServedVersion(
                adapter.adapter, adapter.server, url, adapter.digest or "", engine
            )
    return found


def answering(live: State) -> Mapping[str, str]:
    """Return by alias the version with the largest share; of equal shares the older version."""
    return {
        alias: max(reversed(route.shares), key=lambda share: share.percent).adapter
        for alias, route in live.routes().items()
        if route.shares
    }
