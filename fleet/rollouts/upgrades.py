"""Decides the upgrades of servers: new settings of a base, tried on a canary server first.

Settings are the flags of a server without slots and rank, its image, and the declared version of
vLLM: what can change answers.
An upgrade is one of a base on which a client has a golden set as a gate of its rollout. Without
such a client servers restart in their place, one after another.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from enum import StrEnum

from fleet.gates import Verdict
from fleet.hardware import BaseSpec
from fleet.history import History, UpgradeRecord, UpgradeVerdict
from fleet.names import adapter_address, base_of, by_number
from fleet.resources import Server, ServerFlags, State
from fleet.rollout_policy import GateSpec
from fleet.rollouts.evidence import gates_of, golden_of
from fleet.rollouts.trials import GateTrial, engine_digest
from fleet.spec import FleetSpec
from fleet.vllm import flags_for


class UpgradeStage(StrEnum):
    """Stage of an upgrade after this plan."""

    CANARY = "canary"
    """A canary server starts, or loads the versions of clients; no route names it."""
    JUDGING = "judging"
    """Golden sets are asked on the canary server and on the old servers."""
    MOVING = "moving"
    """Clients move from an old server to new servers; the old server is kept for a while."""
    STOPPED = "stopped"
    """A golden set failed, or a person said so: clients stay on, or return to, old servers."""
    NO_ROOM = "no room"
    """No device is free for a canary: servers restart in their place, and nothing is judged."""


@dataclass(frozen=True, slots=True)
class GoldenResult:
    """A gate of a client on the canary server."""

    alias: str
    adapter: str
    """Full name of the version with most traffic, which answers on both servers."""
    gate: GateSpec
    verdict: UpgradeVerdict | None
    """None: not judged on this canary, with this golden set and these terms."""

    @property
    def passed(self) -> bool:
        """Whether the new settings are no worse for the client."""
        return self.verdict is not None and self.verdict.finding.verdict is Verdict.PASS


@dataclass(frozen=True, slots=True)
class Upgrade:
    """An upgrade of the servers of a base, as of now."""

    base: str
    settings: str
    """Text that stands for the new settings."""
    old_settings: str
    changed: tuple[str, ...]
    """Flags that differ, such as `max_model_len: 512 -> 256`."""
    stage: UpgradeStage
    old: tuple[str, ...]
    """Servers with other settings, in the order in which they are replaced."""
    canary: str
    """The canary server; empty: there is none yet."""
    versions: tuple[str, ...]
    """Full names of the locked versions with traffic on the base."""
    results: tuple[GoldenResult, ...]
    unguarded: tuple[str, ...]
    """Aliases without a golden set as a gate."""
    held: frozenset[str]
    """Servers that keep their settings for now."""
    hidden: frozenset[str]
    """Servers on which nothing is placed: their devices are taken."""
    kept: str = ""
    """The old server that stays loaded without traffic, as the way back; empty: none does."""
    until: datetime | None = None
    """End of that time."""
    reason: str = ""
    """Reason of the approval or the stop."""

    @property
    def passed(self) -> bool:
        """Whether every golden set has passed."""
        return all(result.passed for result in self.results)


@dataclass(frozen=True, slots=True)
class _Settings:
    """The settings of a server."""

    flags: ServerFlags
    """Without slots and rank."""
    vllm: str
    """The declared version, or another that a server with traffic runs; empty: none is declared."""

    @property
    def digest(self) -> str:
        """A text that other settings do not have."""
        return f"{self.flags.digest} {self.vllm}".strip()

    def until(self, wants: "_Settings") -> tuple[str, ...]:
        """Return the differences from other settings, such as `max_model_len: 512 -> 256`."""
        before = {**asdict(self.flags), "vllm": self.vllm}
        after = {**asdict(wants.flags), "vllm": wants.vllm}
        names = [name for name in before if before[name] != after[name]]
        return tuple(f"{name}: {before[name]} -> {after[name]}" for name in names)


def _sizeless(flags: ServerFlags) -> ServerFlags:
    return replace(flags, max_loras=1, max_lora_rank=1, max_cpu_loras=1, memory_share=None)


def _is_release(seen: str, declared: str) -> bool:
    """Say whether a version such as `0.33.1+cpu` is the declared version, such as `0.33`."""
    return f"{seen.partition('+')[0]}.".startswith(f"{declared.partition('+')[0]}.")


def decide_upgrades(
    fleet: FleetSpec, live: State, history: History, now: datetime
) -> tuple[Upgrade, ...]:
    """Return the upgrades that are due or under way, by base."""
    if live.routes_unknown:
        return ()
    made = (_BaseServers(fleet, base, live, history) for _, base in sorted(fleet.bases.items()))
    upgrades = (servers.upgrade(now) for servers in made)
    return tuple(upgrade for upgrade in upgrades if upgrade is not None)


class _BaseServers:
    """The managed servers of a base, and the versions that are routed to them."""

    def __init__(self, fleet: FleetSpec, base: BaseSpec, live: State, history: History) -> None:
        self.fleet, self.base, self.live = fleet, base, live
        self.record = history.upgrades.get(base.name, UpgradeRecord())
        self.routed: dict[str, set[str]] = defaultdict(set)
        """By server: versions that routes send there."""
        self.serving: dict[str, dict[str, int]] = defaultdict(dict)
        """By alias: percent by version with traffic on the base."""
        for alias, route in live.routes().items():
            for share in route.shares:
                for server in share.servers:
                    self.routed[server].add(share.adapter)
                if share.percent and base_of(share.adapter) == base.name:
                    self.serving[alias][share.adapter] = share.percent
        self.servers = dict(self._settings(history))
        """By server: settings as they are, and as they are declared; in the order of upgrades."""

    def _settings(self, history: History) -> Iterator[tuple[str, tuple["_Settings", "_Settings"]]]:
        established = history.established
        for name, server in sorted(self.live.servers().items(), key=lambda it: by_number(it[0])):
            host = self.fleet.hosts.get(server.host)
            if server.base != self.base.name or host is None or host.engine == "attach":
                continue
            before = established.get(server.address)
            known = before.flags if isinstance(before, Server) and before == server else None
            has, declared = server.flags or known, {device.name for device in host.devices}
            if has is None or len(server.devices) != 1 or not declared.issuperset(server.devices):
                continue
            if server.host not in self.fleet.removed and self.base.tensor_parallel in (None, 1):
                wants = flags_for(self.base, 1, 1, image=host.image)
                seen = self.live.versions.get(name, "") if self.routed[name] else ""
                other = seen and host.vllm and not _is_release(seen, host.vllm)
                yield (
                    name,
                    (
                        _Settings(_sizeless(has), seen if other else host.vllm),
                        _Settings(_sizeless(wants), host.vllm),
                    ),
                )

    def upgrade(self, now: datetime) -> Upgrade | None:
        """Return the upgrade of the base; None: none is due, or none asks for golden sets."""
        old = [name for name, (has, wants) in self.servers.items() if has != wants]
        gates = {alias: found for alias in self.serving if (found := self._gates(alias))}
        if not old or not gates:
            return None
        has, wants = self.servers[old[0]]
        settings = wants.digest
        new = [name for name in self.servers if name not in old]
        idle = [name for name in new if not self.routed[name]]
        decision = self.record.decisions.get(settings)
        approved = settings in self.record.proven or (decision and decision.mark == "approve")
        stopped = decision is not None and decision.mark == "stop"
        if new and not (idle or approved or stopped):
            return None  # other servers serve with these settings already
        canary = idle[0] if idle else ""
        known = self.fleet.versions
        served = (name for shares in self.serving.values() for name in shares if name in known)
        versions = sorted(served)
        made = Upgrade(
            self.base.name, settings, has.digest, has.until(wants), UpgradeStage.JUDGING,
            tuple(old), canary, tuple(versions),
            tuple(self._results(gates, settings, canary)),
            tuple(alias for alias in self.serving if alias not in gates),
            frozenset(old), frozenset(idle), reason=decision.reason if decision else "",
        )  # fmt: skip
        if stopped:
            return replace(made, stage=UpgradeStage.STOPPED, hidden=self._given_up(old, new))
        if approved:
            return self._moving(made, decision.at if decision else None, now)
        there = self.live.adapters()
        lacks = any(adapter_address(version, canary) not in there for version in made.versions)
        runs = self.live.versions.get(canary, "")
        if runs and wants.vllm and not _is_release(runs, wants.vllm):
            lacks, made = True, replace(made, reason=f"{canary} runs vLLM {runs}")
        return replace(made, stage=UpgradeStage.CANARY) if lacks else made

    def _moving(self, made: Upgrade, since: datetime | None, now: datetime) -> Upgrade:
        """Let clients leave an old server; a server that was left before goes first."""
        left = [name for name in made.old if not self.routed[name]]
        leaving = (left or made.old)[0]
        rollouts = {result.alias for result in made.results}
        bakes = [self.fleet.rollouts[self.fleet.adapters[alias].rollout].bake for alias in rollouts]
        until = since + max(bakes) if since else now
        return replace(
            made, stage=UpgradeStage.MOVING, held=made.held - {leaving},
            hidden=frozenset({leaving}), kept=leaving if now < until else "", until=until,
        )  # fmt: skip

    def _given_up(self, old: list[str], new: list[str]) -> frozenset[str]:
        """Return the new servers of which old servers hold every version as often as its route."""
        there = self.live.adapters()

        def is_held(version: str) -> bool:
            routed = sum(version in versions for versions in self.routed.values())
            return sum(adapter_address(version, name) in there for name in old) >= routed

        return frozenset(name for name in new if all(map(is_held, self.routed[name])))

    def _gates(self, alias: str) -> list[GateSpec]:
        """Return the gates of an alias that have a golden set."""
        if (adapter := self.fleet.adapters.get(alias)) is None:
            return []
        gates = gates_of(self.fleet, self.fleet.rollouts[adapter.rollout])
        return [gate for gate in gates if gate.offline and golden_of(adapter, gate)]

    def _results(
        self, gates: Mapping[str, list[GateSpec]], settings: str, canary: str
    ) -> Iterator[GoldenResult]:
        """Yield the gates of all clients, with the verdicts that hold for this canary."""
        engine = f"{canary}={engine_digest(self.live, canary)}" if canary else ""
        known = {(v.alias, v.gate): v for v in self.record.verdicts.get(settings, ())}
        for alias, listed in sorted(gates.items()):
            shares, adapter = self.serving[alias], self.fleet.adapters[alias]
            version = max(shares, key=lambda name: (shares[name], name))
            for gate in listed:
                golden = self.fleet.golden.get(golden_of(adapter, gate))
                now = {
                    "base": engine,
                    "golden": golden.digest if golden else "",
                    "terms": gate.terms_for(adapter.format),
                }
                found = known.get((alias, gate.name))
                if found and (
                    found.adapter != version
                    or any(now[key] != found.digests.get(key, now[key]) for key in now if now[key])
                ):
                    found = None
                yield GoldenResult(alias, version, gate, found)


def upgrade_trials(
    fleet: FleetSpec, live: State, upgrades: Iterable[Upgrade]
) -> tuple[tuple[Upgrade, GateTrial], ...]:
    """Return the golden sets that are due on canary servers, an alias at a time.

    In such a trial both versions are the same: the new one stands on the canary, the stable one on
    the servers of its route.
    """
    found = []
    for upgrade in upgrades:
        due: dict[tuple[str, str], list[GateSpec]] = defaultdict(list)
        for result in upgrade.results if upgrade.stage is UpgradeStage.JUDGING else ():
            counted = result.verdict and result.verdict.finding.counts.get("items")
            if result.verdict is None or not counted:
                due[result.alias, result.adapter].append(result.gate)
        for (alias, version), gates in due.items():
            if version not in fleet.versions:
                continue  # it cannot be loaded on the canary, and waits
            shares = live.routes()[alias].shares
            there = next(share.servers for share in shares if share.adapter == version)
            digest, canary = fleet.versions[version].digest, upgrade.canary
            engine = f"{canary}={engine_digest(live, canary)}"
            digests = {"adapter": digest, "stable": digest, "base": engine}
            trial = GateTrial(
                alias, version, version, 0, None, (canary,), there, tuple(gates), (), digests
            )
            found.append((upgrade, trial))
    return tuple(found)
