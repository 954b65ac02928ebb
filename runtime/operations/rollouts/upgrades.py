"""Approve or stop upgrades, by golden sets or by a person; carry on what was decided."""

from fleet.errors import FleetError, did_you_mean
from fleet.history import UpgradeDecided, UpgradeMark
from fleet.plan import Plan
from fleet.planning import awaited_person, upgrade_part
from fleet.resources import State
from fleet.rollouts import MOVES, Upgrade, UpgradeStage, decide_upgrades
from runtime.operations.change.planning import plan_fleet
from runtime.operations.rollouts.gate_failures import JudgingRound
from runtime.operations.rollouts.rollouts import require_thawed
from runtime.workspace import Workspace

ENDS: dict[UpgradeMark, str] = {
    "approve": "its clients move with the next apply or reconcile",
    "advance": "its clients move with the next apply or reconcile, before it is judged",
    "stop": "its clients stay on the old servers, or return there with the next apply or reconcile",
    "release": "its golden sets are asked anew",
}
"""Consequence of a mark, as a sentence without its subject."""


def approve_passed(workspace: Workspace, live: State, done: JudgingRound) -> None:
    """Approve the upgrades of which every golden set has passed on the canary.

    Nothing is approved while the ledger is away or the clock is behind.
    """
    if done.away is not None or done.doubts.behind is not None:
        return
    for upgrade in _upgrades(workspace, live):
        if upgrade.stage is UpgradeStage.JUDGING and upgrade.passed:
            clients = len({result.alias for result in upgrade.results})
            reason = f"golden sets passed on {upgrade.canary}: {clients}"
            workspace.ledger.open().append([_decided(upgrade, "approve", reason)])
            workspace.inform(f"The upgrade of base {upgrade.base} is approved: {reason}.")


def upgrade_standings(workspace: Workspace, live: State) -> tuple[str, ...]:
    """Return a sentence for every upgrade that is due or under way."""
    return tuple(
        f"upgrade of base {upgrade.base}, {upgrade.stage}: {_standing(upgrade)}"
        for upgrade in _upgrades(workspace, live)
    )


def _standing(upgrade: Upgrade) -> str:
    match upgrade.stage:
        case UpgradeStage.MOVING | UpgradeStage.STOPPED:
            return upgrade.reason or "clients were served so before"
        case UpgradeStage.JUDGING:
            passed = sum(result.passed for result in upgrade.results)
            stands = f"{passed} of {len(upgrade.results)} golden sets passed on {upgrade.canary}"
            return "; ".join(filter(None, (stands, awaited_person(upgrade))))
        case UpgradeStage.CANARY | UpgradeStage.NO_ROOM:
            return "see `fleetctl plan`"


def upgrade_onward(workspace: Workspace, live: State, *, frozen: bool) -> Plan | None:
    """Return the plan that carries decided upgrades on; None: nothing is due, or not by itself.

    An upgrade that no canary has been judged for begins with an apply alone. In a `frozen` fleet
    ways back alone go on.
    """
    stages = {UpgradeStage.STOPPED} if frozen else {UpgradeStage.STOPPED, UpgradeStage.MOVING}
    servers = {
        name
        for upgrade in _upgrades(workspace, live)
        if upgrade.reason and upgrade.stage in stages
        for name in {*upgrade.hidden, upgrade.canary} - {""}
    }
    if not servers:
        return None
    part = upgrade_part(plan_fleet(workspace, live), servers)
    if part is None:
        workspace.inform(
            "An upgrade waits for an apply, as other changes on its servers are declared too: "
            "fleetctl plan"
        )
        return None
    return part if part.steps else None


def mark_upgrade(workspace: Workspace, mark: UpgradeMark, base: str, reason: str) -> str:
    """Write down a person's decision about an upgrade; return what follows.

    Raises:
        FleetError: FC5138, no upgrade of the base is under way; FC5139, it was stopped and
            clients cannot move; FC5141, golden sets are awaited; FC6067, the fleet is frozen.
    """
    if mark != "stop":
        require_thawed(workspace.ledger, f"The upgrade of base `{base}` was not marked")
    live = workspace.machines.observe()
    found = {upgrade.base: upgrade for upgrade in _upgrades(workspace, live)}
    if base not in found:
        raise FleetError.of(
            "FC5138",
            "No such upgrade",
            f"No upgrade of base `{base}` is under way: its servers have the declared settings, or "
            "no client is served by them.",
            hint=did_you_mean(base, sorted(found)),
            command="fleetctl plan",
        )
    upgrade = found[base]
    if mark in MOVES and upgrade.stage is UpgradeStage.STOPPED:
        raise FleetError.of(
            "FC5139",
            "The upgrade was stopped",
            f"Base `{base}`: {upgrade.reason}. It moves no client until it is judged anew.",
            hint="Mend the settings or the golden set, and have them judged anew.",
            command=f"fleetctl upgrade release {base} --reason TEXT",
        )
    if mark == "approve":
        _require_judged(upgrade)
    workspace.ledger.open().append([_decided(upgrade, mark, reason)])
    return f"The upgrade of base {base}: {ENDS[mark]}."


def _require_judged(upgrade: Upgrade) -> None:
    """Refuse to approve settings of which no golden set could say anything.

    Raises:
        FleetError: FC5141, no canary holds the versions, or golden sets are awaited there.
    """
    match upgrade.stage:
        case UpgradeStage.CANARY:
            lacks = upgrade.reason or "no canary server with the versions of all clients runs yet"
            command = "fleetctl apply --auto"
        case UpgradeStage.JUDGING if upgrade.awaited:
            lacks = f"on {upgrade.canary}, {'; '.join(map(str, upgrade.awaited))}"
            command = "fleetctl reconcile --once"
        case _:
            return
    raise FleetError.of(
        "FC5141",
        "The upgrade is not judged yet",
        f"Base `{upgrade.base}`: {lacks}. A golden set that was not asked approves nothing.",
        hint="`fleetctl plan` shows where they stand, and `fleetctl upgrade advance` moves clients "
        "without them. What brings the verdicts on:",
        command=command,
    )


def _decided(upgrade: Upgrade, mark: UpgradeMark, reason: str) -> UpgradeDecided:
    return UpgradeDecided(
        base=upgrade.base, settings=upgrade.settings, mark=mark, reason=reason,
        old=upgrade.old_settings,
    )  # fmt: skip


def _upgrades(workspace: Workspace, live: State) -> tuple[Upgrade, ...]:
    fleet, history = workspace.project.fleet(), workspace.ledger.history()
    return decide_upgrades(fleet, live, history, workspace.now())
