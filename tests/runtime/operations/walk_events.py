"""What may happen to the fleet of a walk: commands, faults behind its back, and time.

An event takes the world and the walk's chance, and returns its description; None: its own name.
"""

import random
import shutil
from contextlib import suppress
from pathlib import Path

from runtime.fake_vllm.state import Call, RefusedError
from runtime.gateway.admin.state_dir import write_table
from tests.runtime.operations.walk_world import ALIASES, NUMBERS, World


def some_server(world: World, chance: random.Random) -> str:
    """Return a server that runs; empty: none does."""
    return chance.choice(sorted(world.host.servers) or [""])


def some_version(world: World, chance: random.Random) -> tuple[str, str] | None:
    """Return a server and a version that it lists."""
    pairs = [
        (server, name)
        for server, (_, memory) in sorted(world.host.servers.items())
        for name in sorted(memory.listed)
    ]
    return chance.choice(pairs) if pairs else None


def some_copy(world: World, chance: random.Random) -> Path | None:
    """Return a copy that servers load from."""
    paths = sorted(
        path
        for _, memory in world.host.servers.values()
        for path in memory.listed.values()
        if Path(path).is_dir() and str(world.state_dir) in path
    )
    return Path(chance.choice(paths)) if paths else None


def elsewhere(world: World, name: str, other: str) -> Path:
    """Return a folder with another version's bytes whose name is the right digest."""
    folder = world.root / "elsewhere" / other / world.truth[name][0]
    if not folder.exists():
        shutil.copytree(aside_of(world, other), folder)
    return folder


def aside_of(world: World, name: str) -> Path:
    """Return the kept copy of a version's folder in the library."""
    return world.aside / world.original(name).relative_to(world.root / "models" / "adapters")


def reload(world: World, server: str, name: str, folder: Path) -> None:
    """Load a version again from another folder, behind the back of fleetctl."""
    memory = world.host.servers[server][1]
    memory.unload(name)
    memory.cached.pop(name, None)
    memory.load(name, str(folder))


def apply(world: World, _: random.Random) -> None:
    world.apply()


def reconcile(world: World, _: random.Random) -> None:
    world.reconcile()


def roll_back(world: World, chance: random.Random) -> str:
    alias = chance.choice(ALIASES)
    return f"rollback {alias}: {world.rollback(alias)}"


def release(world: World, chance: random.Random) -> str:
    alias = chance.choice(ALIASES)
    world.release(alias)
    return f"release {alias}"


def declare(world: World, chance: random.Random) -> str:
    alias, number = chance.choice(ALIASES), chance.choice(NUMBERS)
    world.declare(alias, number)
    return f"declare {alias} {number}"


def hours(world: World, chance: random.Random) -> str:
    number = chance.choice((1, 2, 30))
    world.pass_time(number)
    return f"{number} hours"


def kill_server(world: World, chance: random.Random) -> str | None:
    if not (name := some_server(world, chance)):
        return None
    world.host.servers.pop(name)
    return f"kill {name}"


def restart_server(world: World, chance: random.Random) -> str | None:
    """A supervisor starts a server anew, as it was started, without its adapters."""
    if not (name := some_server(world, chance)):
        return None
    world.host.restart(name)
    return f"restart {name}"


def relaunch_server(world: World, chance: random.Random) -> str | None:
    """Somebody stops a server and starts it anew, with the versions that it had."""
    if not (name := some_server(world, chance)):
        return None
    world.host.relaunch(name)
    return f"relaunch {name}"


def freeze_server(world: World, chance: random.Random) -> str | None:
    if not (name := some_server(world, chance)):
        return None
    world.host.frozen.symmetric_difference_update({name})
    return f"freeze or thaw {name}"


def mute(world: World, chance: random.Random) -> str:
    """A version answers nothing, as its training has spoiled it, or answers again."""
    name = chance.choice(world.names())
    world.host.mute.symmetric_difference_update({name})
    return f"mute {name}, or no longer"


def unload(world: World, chance: random.Random) -> str | None:
    """Somebody unloads a version behind our back."""
    if not (pair := some_version(world, chance)):
        return None
    server, name = pair
    world.host.servers[server][1].unload(name)
    return f"unload {name} on {server}"


def load_other(world: World, chance: random.Random) -> str | None:
    """Somebody loads other bytes under a name, or a version from another path."""
    if not (pair := some_version(world, chance)):
        return None
    server, name = pair
    other = chance.choice(world.names())
    reload(world, server, name, world.original(other))
    return f"load {other} as {name} on {server}"


def wrong_path(world: World, chance: random.Random) -> str | None:
    """Somebody loads other bytes from a folder that has the name of the right digest."""
    if not (pair := some_version(world, chance)):
        return None
    server, name = pair
    other = chance.choice(world.names())
    reload(world, server, name, elsewhere(world, name, other))
    return f"load {other} as {name} from another folder of its digest on {server}"


def evict(world: World, chance: random.Random) -> str | None:
    if not (pair := some_version(world, chance)):
        return None
    server, name = pair
    world.host.servers[server][1].cached.pop(name, None)
    return f"evict {name} on {server}"


def overwrite(world: World, chance: random.Random) -> str | None:
    """Somebody overwrites a copy that servers load from by another version."""
    copy, other = some_copy(world, chance), chance.choice(world.names())
    if copy is None:
        return None
    for file in aside_of(world, other).glob("adapter_*"):
        (copy / file.name).chmod(0o644)
        (copy / file.name).write_bytes(file.read_bytes())
    return f"overwrite {copy.name[:12]} by {other}"


def delete_copy(world: World, chance: random.Random) -> str | None:
    if (copy := some_copy(world, chance)) is None:
        return None
    copy.chmod(0o755)
    shutil.rmtree(copy)
    return f"delete {copy.name[:12]}"


def ask(world: World, chance: random.Random) -> str | None:
    """A request makes a server read an evicted version."""
    if not (pair := some_version(world, chance)):
        return None
    server, name = pair
    with suppress(RefusedError):
        world.host.servers[server][1].weights_for(name)
    return f"ask {name} on {server}"


def alter_lock(world: World, chance: random.Random) -> str:
    """Tear the lock, delete it, or change a digit of a version's digest."""
    file, way = world.root / "fleet.lock", chance.choice(("torn", "deleted", "altered"))
    if way == "torn":
        file.write_bytes(world.lock[: len(world.lock) // 2])
    elif way == "deleted":
        file.unlink(missing_ok=True)
    else:
        digest = world.truth[chance.choice(world.names())][0]
        wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
        file.write_bytes(world.lock.replace(digest.encode(), wrong.encode()))
    return f"lock {way}"


def restore_lock(world: World, _: random.Random) -> None:
    world.restore()


def edit_route(world: World, chance: random.Random) -> str | None:
    """Give all traffic of an alias to one of its versions, by hand."""
    table = world.table()
    if not table.aliases:
        return None
    alias = chance.choice(sorted(table.aliases))
    entry = table.aliases[alias]
    chosen = chance.randrange(len(entry.shares))
    shares = tuple(
        share.model_copy(update={"percent": 100 if number == chosen else 0})
        for number, share in enumerate(entry.shares)
    )
    if not shares[chosen].servers:
        return None
    edited = entry.model_copy(update={"shares": shares})
    update = {"aliases": {**table.aliases, alias: edited}, "revision": table.revision + 1}
    write_table(world.state_dir, table.model_copy(update=update))
    return f"route of {alias} edited to {shares[chosen].adapter}"


def killed_apply(world: World, chance: random.Random) -> str:
    at = chance.randint(1, 12)
    with world.dying(at):
        world.apply()
    return f"apply, killed at effect {at}"


def killed_reconcile(world: World, chance: random.Random) -> str:
    at = chance.randint(1, 12)
    with world.dying(at):
        world.reconcile()
    return f"reconcile, killed at effect {at}"


def apply_on_full_disk(world: World, _: random.Random) -> None:
    with world.disk_full():
        world.apply()


def reconcile_on_full_disk(world: World, _: random.Random) -> None:
    with world.disk_full():
        world.reconcile()


def lost_answer(world: World, chance: random.Random) -> str | None:
    if not (name := some_server(world, chance)):
        return None
    call: Call = chance.choice(("load", "unload"))
    world.host.servers[name][1].faults.lose_answer(call)
    return f"the next answer to {call} on {name} is lost"


def refused(world: World, chance: random.Random) -> str | None:
    if not (name := some_server(world, chance)):
        return None
    call: Call = chance.choice(("load", "unload", "generate"))
    world.host.servers[name][1].faults.refuse(call)
    return f"the next {call} on {name} is refused"
