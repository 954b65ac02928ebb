"""Decides the upgrades of servers: new settings of a base, tried on a canary server first.

Where no client has a golden set as a gate of its rollout, the canary server waits for a person,
and without a free device servers restart in their place, one after another.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from fleet.hardware import BaseSpec
from fleet.history import Evidence, History, UpgradeDecision, UpgradeRecord, distrust, judge_again
from fleet.names import adapter_address, base_of, by_number
from fleet.policies import GateSpec
from fleet.resources import Server, ServerFlags, State
from fleet.rollouts.evidence import Comparison, GateTrial, engine_digest, gates_of, golden_of
from fleet.rollouts.targets import CanaryResult, Upgrade, UpgradeStage
from fleet.spec import FleetSpec
from fleet.vllm import flags_for


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The settings of a server."""

    flags: ServerFlags
    """Without slots, rank and number of devices."""
    vllm: str
    """The declared version, or another that a server with traffic runs; empty: none is declared."""
    python: str = ""
    """Path of the interpreter; empty: the server runs the declared one."""

    @property
    def digest(self) -> str:
        """A text that other settings do not have."""
        return " ".join(filter(None, (self.flags.digest, self.vllm, self.python)))

    def named(self) -> dict[str, Any]:
        """Return the settings by name; declared flags that stand alone are `set`."""
        flags = asdict(self.flags)
        extra = {f"flags.{name}": value or "set" for name, value in flags.pop("extra")}
        return {**flags, **extra, "vllm": self.vllm, "python": self.python}

    def until(self, wants: "ServerSettings") -> tuple[str, ...]:
        """Return the differences from other settings, such as `max_model_len: 512 -> 256`."""
        before, after = self.named(), wants.named()
        pairs = ((name, before.get(name), after.get(name)) for name in {**before, **after})
        return tuple(
            f"{name}: {_as_text(was)} -> {_as_text(now)}" for name, was, now in pairs if was != now
        )


def _as_text(value: object) -> str:
    return "default" if value is None else str(value)


def sizeless(flags: ServerFlags) -> ServerFlags:
    """Return flags without slots, rank, devices and share of memory: these change no answer."""
    return replace(
        flags, max_loras=1, max_lora_rank=1, max_cpu_loras=1, tensor_parallel=1, memory_share=None
    )


def is_release(running: str, declared: str) -> bool:
    """Say whether a version such as `0.33.1+cpu` is the declared version, such as `0.33`."""
    return f"{running.partition('+')[0]}.".startswith(f"{declared.partition('+')[0]}.")


MOVES = ("approve", "advance")
"""Marks with which clients move to servers with new settings."""


def decide_upgrades(
    fleet: FleetSpec, live: State, history: History, now: datetime
) -> tuple[Upgrade, ...]:
    """Return the upgrades that are due or under way, by base."""
    if live.routes_unknown:
        return ()
    bases = (_BaseServers(fleet, base, live, history) for _, base in sorted(fleet.bases.items()))
    upgrades = (servers.upgrade(now) for servers in bases)
    return tuple(upgrade for upgrade in upgrades if upgrade is not None)


class _BaseServers:
    """The managed servers of a base, and the versions that are routed to them."""

    def __init__(self, fleet: FleetSpec, base: BaseSpec, live: State, history: History) -> None:
        self.fleet, self.base, self.live = fleet, base, live
        self.keys, self.record = history.keys, history.upgrades.get(base.name, UpgradeRecord())
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

    def _settings(
        self, history: History
    ) -> Iterator[tuple[str, tuple[ServerSettings, ServerSettings]]]:
        established = history.established
        for name, server in sorted(self.live.servers().items(), key=lambda kv: by_number(kv[0])):
            host = self.fleet.hosts.get(server.host)
            if server.base != self.base.name or host is None or host.engine == "attach":
                continue
            before = established.get(server.address)
            former_flags = before.flags if isinstance(before, Server) and before == server else None
            has, declared = server.flags or former_flags, {device.name for device in host.devices}
            if has is None or not server.devices or not declared.issuperset(server.devices):
                continue
            parallel = self.base.tensor_parallel in (None, len(server.devices))
            if server.host not in self.fleet.removed and parallel:
                wants = flags_for(self.base, 1, 1, image=host.image)
                release = self.live.versions.get(name, "") if self.routed[name] else ""
                other = release and host.vllm and not is_release(release, host.vllm)
                runs, starts = self.live.pythons.get(name, ("", ""))
                yield (
                    name,
                    (
                        ServerSettings(sizeless(has), release if other else host.vllm, runs),
                        ServerSettings(sizeless(wants), host.vllm, starts),
                    ),
                )

    def upgrade(self, now: datetime) -> Upgrade | None:
        """Return the upgrade of the base; None: none is due, or no client is served."""
        gates = {alias: due for alias in self.serving if (due := self._gates(alias))}
        old = [
            name
            for name, (has, wants) in self.servers.items()
            if has.flags != wants.flags or (gates and has != wants)
        ]
        if not old or not self.serving:
            return None
        has, wants = self.servers[old[0]]
        settings = wants.digest
        new = [name for name in self.servers if name not in old]
        idle = [name for name in new if not self.routed[name]]
        decision = self.record.decisions.get(settings)
        if decision and decision.mark in MOVES and self._distrusts(decision):
            decision = None
        approved = settings in self.record.proven or (decision and decision.mark in MOVES)
        stopped = decision is not None and decision.mark == "stop"
        if new and not (idle or approved or stopped):
            return None  # other servers serve with these settings already
        canary = idle[0] if idle else ""
        locked = self.fleet.versions
        served = (name for shares in self.serving.values() for name in shares if name in locked)
        versions = sorted(served)
        upgrade = Upgrade(
            self.base.name, settings, has.digest, has.until(wants), UpgradeStage.JUDGING,
            tuple(old), canary, tuple(versions),
            tuple(self._results(gates, settings, canary)),
            tuple(alias for alias in self.serving if alias not in gates),
            frozenset(old), frozenset(idle), reason=decision.reason if decision else "",
        )  # fmt: skip
        if stopped:
            return replace(upgrade, stage=UpgradeStage.STOPPED, hidden=self._given_up(old, new))
        if approved:
            return self._moving(upgrade, decision.at if decision else None, now)
        loaded = self.live.adapters()
        lacks = any(adapter_address(version, canary) not in loaded for version in upgrade.versions)
        runs = self.live.versions.get(canary, "")
        if runs and wants.vllm and not is_release(runs, wants.vllm):
            lacks, upgrade = True, replace(upgrade, reason=f"{canary} runs vLLM {runs}")
        return replace(upgrade, stage=UpgradeStage.CANARY) if lacks else upgrade

    def _distrusts(self, said: UpgradeDecision | Evidence) -> bool:
        return bool(distrust(self.keys, said.seq, said.signature))

    def _moving(self, upgrade: Upgrade, since: datetime | None, now: datetime) -> Upgrade:
        """Let clients leave an old server; a server that was left before goes first."""
        unrouted = [name for name in upgrade.old if not self.routed[name]]
        leaving = (unrouted or upgrade.old)[0]
        declared = [spec.rollout for spec in map(self.fleet.adapters.get, self.serving) if spec]
        bakes = (self.fleet.rollouts[rollout].bake for rollout in declared)
        until = since + max(bakes, default=timedelta()) if since else now
        return replace(
            upgrade, stage=UpgradeStage.MOVING, held=upgrade.held - {leaving},
            hidden=frozenset({leaving}), kept=leaving if now < until else "", until=until,
        )  # fmt: skip

    def _given_up(self, old: list[str], new: list[str]) -> frozenset[str]:
        """Return the new servers of which old servers hold every version as often as its route."""
        loaded = self.live.adapters()

        def is_held(version: str) -> bool:
            routed = sum(version in versions for versions in self.routed.values())
            return sum(adapter_address(version, name) in loaded for name in old) >= routed

        return frozenset(name for name in new if all(map(is_held, self.routed[name])))

    def _gates(self, alias: str) -> list[GateSpec]:
        """Return the gates of an alias that have a golden set."""
        if (adapter := self.fleet.adapters.get(alias)) is None:
            return []
        gates = gates_of(self.fleet, adapter)
        return [gate for gate in gates if gate.offline and golden_of(adapter, gate)]

    def _results(
        self, gates: Mapping[str, list[GateSpec]], settings: str, canary: str
    ) -> Iterator[CanaryResult]:
        """Yield the gates of all clients, with the verdicts that hold for this canary."""
        engine = f"{canary}={engine_digest(self.live, canary)}" if canary else ""
        verdicts = {(v.alias, v.gate): v for v in self.record.verdicts.get(settings, ())}
        for alias, alias_gates in sorted(gates.items()):
            shares, adapter = self.serving[alias], self.fleet.adapters[alias]
            version = max(shares, key=lambda name: (shares[name], name))
            comparison = Comparison(self.fleet, adapter, version, version, engine)
            for gate in alias_gates:
                prior = verdicts.get((alias, gate.name))
                if prior and (
                    prior.adapter != version
                    or (engine and prior.digests.get("base", engine) != engine)
                    or comparison.changed(prior, gate)
                    or judge_again(prior.finding, prior.gate)
                    or self._distrusts(prior)
                ):
                    prior = None
                yield CanaryResult(gate, prior, alias=alias, adapter=version)


def upgrade_trials(
    fleet: FleetSpec, live: State, upgrades: Iterable[Upgrade]
) -> tuple[GateTrial, ...]:
    """Return the golden sets that are due on canary servers, an alias at a time."""
    trials = []
    for upgrade in upgrades:
        due: dict[tuple[str, str], list[GateSpec]] = defaultdict(list)
        for result in upgrade.awaited if upgrade.stage is UpgradeStage.JUDGING else ():
            due[result.alias, result.adapter].append(result.gate)
        for (alias, version), gates in due.items():
            if version not in fleet.versions:
                continue  # it cannot be loaded on the canary, and waits
            shares = live.routes()[alias].shares
            servers = next(share.servers for share in shares if share.adapter == version)
            digest, canary = fleet.versions[version].digest, upgrade.canary
            engine = f"{canary}={engine_digest(live, canary)}"
            digests = {"adapter": digest, "stable": digest, "base": engine}
            trial = GateTrial(
                alias, version, version, 0, None, (canary,), servers, tuple(gates), (), digests,
                upgrade=upgrade,
            )  # fmt: skip
            trials.append(trial)
    return tuple(trials)
