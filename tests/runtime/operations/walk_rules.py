"""The rules that hold after every step of a walk, and at its end."""

from fleet.errors import FleetError
from fleet.names import alias_of
from fleet.planning import DriftCause
from fleet.resources import FULL
from tests.runtime.operations.walk_world import World


def check(world: World) -> None:
    """See that what is wrong is named, and that no rejected version has traffic."""
    wrong: dict[tuple[str, str], str] = {}
    for name, server in sorted(world.serving()):
        answer = world.host.answer(server, name)
        if answer != world.truth[name][1]:
            wrong[name, server] = "no answer" if answer is None else "other bytes"
    table = world.table()
    for alias, entry in table.aliases.items():
        total = sum(share.percent for share in entry.shares)
        assert total == FULL, f"{alias} has shares of {total} percent"
    risen = [
        share.adapter
        for alias, entry in table.aliases.items()
        for share in entry.shares
        if share.percent and share.adapter in world.rejected[alias]
    ]
    if not wrong and not risen:
        return
    try:
        named = {address for cause in world.drift() for address in _named(cause)}
    except FleetError as error:
        world.said.append(f"drift: {error.diagnostics[0].code}")
        return
    for (name, server), what in wrong.items():
        about = {f"adapter/{name}@{server}", f"server/{server}", f"store/{world.truth[name][0]}"}
        assert about & named, f"{name} on {server} has {what}, unnamed"
    for name in risen:
        assert f"route/{alias_of(name)}" in named, f"{name} was rejected and has traffic"


def _named(cause: DriftCause) -> set[str]:
    return {cause.subject, *cause.addresses}


def heal(world: World) -> None:
    """See that the fleet converges once nothing happens to it any more."""
    world.restore()
    world.host.frozen.clear()
    world.host.mute.clear()
    for _, memory in world.host.servers.values():
        memory.faults.refusals.clear()
        memory.faults.lost.clear()
    for _ in range(12):
        world.said.clear()
        codes = world.reconcile(), world.apply()
        check(world)
        if codes == (0, 0) and not world.drift() and not world.due():
            break
        for cause in world.drift():  # what people are told to run, once they have looked
            if cause.command.startswith("fleetctl release "):
                world.release(cause.command.split()[2])
        world.pass_time(2)
    causes = [f"{cause.subject}: {cause.summary}" for cause in world.drift()]
    assert not causes, f"drift is left: {causes}"
    assert codes == (0, 0), f"reconcile and apply end with {codes}"
    assert not world.due(), "changes stay due"
    for name, server in world.serving():
        answer = world.host.answer(server, name)
        assert answer == world.truth[name][1], f"{name} on {server} answers wrongly"
    assert world.table().aliases.keys() == world.declared.keys()
