"""Decides an alias without a route: its version takes all traffic, unless its bytes were rejected.

Without an earlier version there is no stage to begin with and no version to fall back on. A version
that was kept out and has been released begins all the same where its golden sets have passed,
or where a person answers for it.
"""

from collections.abc import Iterable

from fleet.history import is_way_back
from fleet.names import AdapterName, alias_of, version_of
from fleet.resources import FULL
from fleet.rollouts import messages
from fleet.rollouts.evidence import GateResult
from fleet.rollouts.situation import Situation
from fleet.rollouts.targets import AliasTarget, Phase


def decide_first_version(
    it: Situation, stopped: str, unsure: Iterable[GateResult], doubt: str = ""
) -> AliasTarget:
    """Decide for an alias that has no route.

    Args:
        it: The alias.
        stopped: Why the declared version may not serve, in short; empty: it may.
        unsure: Gates on golden sets that would have to pass before it does.
        doubt: Why what a released version would begin by is not believed; empty: it is.
    """
    version, open_gates = version_of(it.target), tuple(unsure)
    due = tuple(result.due(it.alias) for result in open_gates)
    if stopped:
        text = messages.not_served("; ".join(_reasons(it)) or stopped, _declare(it))
        text += f", or let {version} begin: fleetctl release {it.alias}"
        if it.rejection:
            text += ". What a gate rejected an override accepts until a day"
        return AliasTarget(it.alias, it.target, (), "", Phase.HELD, stopped, text)
    if it.released and it.halt:
        text = messages.halted(f"{version} is not begun", it.halt)
        return AliasTarget(it.alias, it.target, (), "", Phase.PAUSED, "", text, due)
    if open_gates:
        why = (
            f"{version} was kept out and released, no version before it is loaded, and "
            f"{messages.open_gates(open_gates)}"
        )
        text = messages.not_served(why, _declare(it))
        text += f" and then this one. {messages.decide(it.alias, begun=False)}"
        return AliasTarget(it.alias, it.target, (), "", Phase.UNDECIDED, "", text, due)
    if doubt:
        text = f"{version} is not begun: {doubt}"
        return AliasTarget(it.alias, it.target, (), "", Phase.DOUBTED, "", text)
    why = f"{version} is the first version of `{it.alias}`"
    if it.released:
        why = f"{version} was released and begins as the only version of `{it.alias}`"
    return AliasTarget(it.alias, it.target, ((it.target, FULL),), it.target, Phase.FIRST, why)


def _reasons(it: Situation) -> Iterable[str]:
    """Yield the reasons that keep the version out, with their evidence."""
    version, hold, evidence = version_of(it.target), it.holds.get(it.target), it.rejection
    if hold is not None:
        reason = f" ({hold.reason})" if hold.reason and not (hold.gate and evidence) else ""
        yield f"{version} was rolled back by {hold.by} at {messages.time(hold.at)}{reason}"
    if evidence is not None:
        yield messages.by_evidence(evidence)
    if mark := it.mark("abort"):
        yield f"{version} was aborted {messages.decided(mark)}"
    if it.twin:
        yield f"{version} {messages.taken_out(it.twin)}"


def _declare(it: Situation) -> str:
    """Say which version to declare: the newest earlier version that once had all traffic."""
    known = it.fleet.versions
    good = [
        parsed.version
        for name in it.history.answered_all & known.keys()
        if alias_of(name) == it.alias and is_way_back(it.history, known, it.alias, name)
        if (parsed := AdapterName.parse(name)).version < it.adapter.name.version
    ]
    return f"declare {max(good)} (it is in the lock)" if good else "declare another version"
