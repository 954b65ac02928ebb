"""Lists the blocks that keep a version from serving, and judges versions as a fallback.

Bytes that a gate or a person took out stay out, under any version number, until a person releases
or overrides them.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from fleet.gates import Verdict
from fleet.history.values import Block, BlockKind, GateEvidence, History
from fleet.names import Address, adapter_address, route_address, version_of
from fleet.policies import OverrideSpec
from fleet.resources import LoadedAdapter, Resource, Route
from fleet.spec import AdapterFacts

OUT = (BlockKind.HELD, BlockKind.ABORTED, BlockKind.REJECTED)
"""Kinds of blocks that only a release or an override ends."""


def blocks_of(history: History, alias: str) -> tuple[Block, ...]:
    """Return all blocks of an alias's versions; the only statement of what blocks a version."""
    marks, rejected = history.marks.get(alias, ()), history.rejected.get(alias, {})
    return (
        *history.holds.get(alias, {}).values(),
        *(
            Block(BlockKind.ABORTED, mark.adapter, mark.at, mark.by, mark.reason, "", mark.digest)
            for mark in marks
            if mark.mark == "abort"
        ),
        *(
            Block(
                BlockKind.REJECTED,
                item.adapter,
                item.at,
                reason=item.finding.reason,
                gate=item.gate,
                digest=digest,
            )
            for digest, item in rejected.items()
        ),
        *history.fell.get(alias, {}).values(),
    )


def blocks_on(
    history: History,
    versions: Mapping[str, AdapterFacts],
    alias: str,
    adapter: str,
    digest: str,
    kinds: Collection[BlockKind] = OUT,
) -> tuple[Block, ...]:
    """Return the blocks on a version's bytes, under its name or another, oldest first.

    `versions`: those in the lock, for bytes without a digest in the ledger. `digest`: of the bytes;
    empty: not known, and the name decides.
    """
    found = [
        block
        for block in blocks_of(history, alias)
        if block.kind in kinds
        and _same(
            block.adapter == adapter, block.digest or _locked(versions, block.adapter), digest
        )
    ]
    return tuple(sorted(found, key=lambda block: block.at))


def is_way_back(
    history: History, versions: Mapping[str, AdapterFacts], alias: str, adapter: str
) -> bool:
    """Say whether an alias's traffic may fall back on a version.

    The version had all of the traffic once, and its bytes, as the lock has them, are not blocked.
    """
    if adapter not in history.answered_all:
        return False
    return not blocks_on(history, versions, alias, adapter, _locked(versions, adapter))


def kept_out(history: History, alias: str) -> frozenset[str]:
    """Return the names of the versions that only a release or an override lets in."""
    return frozenset(block.adapter for block in blocks_of(history, alias) if block.kind in OUT)


def same_bytes(
    history: History, versions: Mapping[str, AdapterFacts], alias: str, adapter: str
) -> frozenset[str]:
    """Return a version and all blocked versions with the same bytes.

    Empty where neither the version nor its bytes are blocked. `versions`: those in the lock.
    """
    known = {
        block.adapter: block.digest or _locked(versions, block.adapter)
        for block in blocks_of(history, alias)
    }
    its = known.get(adapter) or _locked(versions, adapter)
    same = {name for name, digest in known.items() if name == adapter or (its and digest == its)}
    return frozenset({*same, adapter}) if same else frozenset()


def _same(named: bool, out: str, digest: str) -> bool:  # noqa: FBT001 (a comparison's result)
    """Say whether bytes are those that were taken out; where they are unknown the name decides."""
    return out == digest if out and digest else named


def _locked(versions: Mapping[str, AdapterFacts], adapter: str) -> str:
    facts = versions.get(adapter)
    return facts.digest if facts else ""


def loaded_bytes(
    established: Mapping[Address, Resource], route: Resource | None, adapter: str
) -> str:
    """Return the digest of a version on the servers of its route; empty: unknown."""
    shares = route.shares if isinstance(route, Route) else ()
    servers = [name for share in shares if share.adapter == adapter for name in share.servers]
    found = [established.get(adapter_address(adapter, server)) for server in servers]
    return next(
        (item.digest for item in found if isinstance(item, LoadedAdapter) and item.digest), ""
    )


def routed_to(established: Mapping[Address, Resource], server: str) -> frozenset[Address]:
    """Return the adapters on a server that a route sends requests to.

    They are due there as long as the route is, also while the server restarts.
    """
    routes = (item for item in established.values() if isinstance(item, Route))
    return frozenset(
        adapter_address(share.adapter, server)
        for route in routes
        for share in route.shares
        if share.percent and server in share.servers
    )


def rejection(
    history: History,
    overrides: Iterable[OverrideSpec],
    alias: str,
    adapter: str,
    digest: str,
    now: datetime,
) -> GateEvidence | None:
    """Return the evidence that keeps a version out; None: the version may serve.

    `overrides`: those declared, expired ones too; an override ends with its last day. `digest`: of
    the bytes, which are rejected under another name too.
    """
    if not history.rejected.get(alias) and alias not in history.evidence:
        return None
    found = [
        item
        for item in history.evidence.get(alias, ())
        if item.finding.verdict is Verdict.FAIL
        if _same(item.adapter == adapter, item.digests.get("adapter", ""), digest)
    ]
    kept = history.rejected.get(alias, {}).get(digest)
    found += [kept] if kept else []
    found.sort(key=lambda item: item.seq)
    return next((e for e in found if not accepted(overrides, alias, digest, e.gate, now)), None)


def accepted(
    overrides: Iterable[OverrideSpec], alias: str, digest: str, gate: str, now: datetime
) -> str:
    """Return the override that accepts these bytes in spite of a gate, as text; empty: none."""
    for override in overrides:
        its = override.alias == alias and bool(digest) and digest.startswith(override.accept)
        if (
            its
            and now.astimezone(UTC).date() <= override.until
            and gate in (override.gates or (gate,))
        ):
            return f"accepted by {override.by} until {override.until}: {override.reason}"
    return ""


UNPROVEN = "it never had all traffic"
ROLLED_BACK, ABORTED = "it was rolled back", "its rollout was aborted"
FAILED = "a gate failed it"
TWIN = "it has the bytes of {}, which was taken out"


@dataclass(frozen=True, slots=True)
class FallbackCheck:
    """The objections of the ledger to versions; empty where it does not answer."""

    held: frozenset[str] = frozenset()
    """Full names of those that were rolled back and not released."""
    unfit: Mapping[str, str] = field(default_factory=dict)
    """Reasons against an unasked fallback to a version, by full name of the version."""
    served: frozenset[str] = frozenset()
    """Full names of those that had traffic when the ledger last heard of the route."""
    rejected: Mapping[str, str] = field(default_factory=dict)
    """Which gate keeps them out, by full name; see `rejected_by_gates`."""


FallbackObjection = Callable[[tuple[str, ...]], FallbackCheck]
"""Returns the objections to versions, by full names."""


def nothing_known(names: tuple[str, ...]) -> FallbackCheck:  # noqa: ARG001 (an `FallbackObjection`)
    """Return no objections, where the history is unknown."""
    return FallbackCheck()


def fallback_check(
    history: History, alias: str, digests: Mapping[str, str], names: tuple[str, ...]
) -> FallbackCheck:
    """Return the objections to versions of an alias as a fallback.

    Where none of them ever had all traffic the ledger was begun after them and knows nothing
    of their past, so that it says nothing against one by that alone. `digests`: of their bytes, as
    far as known; bytes that were taken out are no better under another name.
    """
    held, known = history.holds.get(alias, {}), blocks_of(history, alias)
    begun = not history.answered_all.isdisjoint(names)
    unfit = {}
    for name in names:
        named = {block.kind for block in known if block.adapter == name}
        same = blocks_on(history, {}, alias, name, digests.get(name, ""))
        other = next((block for block in same if block.kind is not BlockKind.REJECTED), None)
        if BlockKind.HELD in named:
            unfit[name] = ROLLED_BACK
        elif BlockKind.ABORTED in named:
            unfit[name] = ABORTED
        elif other:
            unfit[name] = TWIN.format(version_of(other.adapter))
        elif same:
            unfit[name] = FAILED
        elif begun and name not in history.answered_all:
            unfit[name] = UNPROVEN
    route = history.established.get(route_address(alias))
    shares = route.shares if isinstance(route, Route) else ()
    return FallbackCheck(frozenset(held), unfit, frozenset(e.adapter for e in shares if e.percent))


def rejected_by_gates(
    history: History,
    overrides: Iterable[OverrideSpec],
    alias: str,
    digests: Mapping[str, str],
    names: Iterable[str],
    now: datetime,
) -> dict[str, str]:
    """Return the gates that failed versions without an acceptance or release, by full name.

    `digests`: of their bytes, as far as known, by full name.
    """
    accepted = tuple(overrides)
    by = {
        name: rejection(history, accepted, alias, name, digests.get(name, ""), now)
        for name in names
    }
    return {
        name: f"gate {item.gate} failed it (#{item.seq}): {item.finding.reason}"
        for name, item in by.items()
        if item is not None
    }


def loaded_digests(history: History) -> dict[str, str]:
    """Return the digests of the versions that an apply has loaded, by full name."""
    return {
        resource.adapter: resource.digest
        for resource in history.established.values()
        if isinstance(resource, LoadedAdapter) and resource.digest
    }
