"""Mistakes in the file of one client, in a synthetic fleet that was applied and has changes due."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

from fleet.plan import Plan
from fleet.resources import State, client_in
from fleetctl.synthetic import synthesise
from fleetctl.synthetic.population import SyntheticSize
from fleetctl.wiring import open_workspace
from runtime.operations.change.planning import plan_fleet
from runtime.project.load import load_project
from runtime.workspace import Workspace
from tests.fleet.planning.builders import NOON
from tests.fleet.planning.simulator import World

STILL = Random(0)  # noqa: S311 (draws nothing)
Files = dict[str, str]
Mistake = Callable[[Files, str, Random], None]
"""Spoils the file or the lock entries of a client."""


def client_file(client: str) -> str:
    return f"clients/{client}.yaml"


def edited(*pairs: tuple[str, str]) -> Mistake:
    """Return the mistake of text that is replaced in the client's file, once."""

    def spoil(files: Files, client: str, _: Random) -> None:
        for old, new in pairs:
            made, number = re.subn(
                old, new, files[client_file(client)], count=1, flags=re.MULTILINE
            )
            assert number == 1, (old, files[client_file(client)])
            files[client_file(client)] = made

    return spoil


def cut_off(files: Files, client: str, chance: Random) -> None:
    text = files[client_file(client)]
    files[client_file(client)] = text[: chance.randrange(text.index("adapters:"), len(text))]


def letter_lost(files: Files, client: str, chance: Random) -> None:
    text = files[client_file(client)]
    spot = chance.randrange(text.index("clients:"), len(text))
    files[client_file(client)] = text[:spot] + text[spot + 1 :]


def other_bytes(files: Files, client: str, _: Random) -> None:
    files[client_file(client)] += "# caf\udce9\n"


def overwritten_by_another(files: Files, client: str, chance: Random) -> None:
    others = sorted(name for name in files if name.startswith("clients/"))
    others.remove(client_file(client))
    files[client_file(client)] = files[chance.choice(others)]


def key_of_another(files: Files, client: str, chance: Random) -> None:
    others = (text for name, text in files.items() if name != client_file(client))
    key = next(found for text in others if (found := re.search(r"file:keys/(?!second)\w+", text)))
    keys = f'    keys: {{prod: "{key[0]}"}}\n'
    edited((r"^    keys: .*\n|(?=^    adapters:$)", keys))(files, client, chance)


def locked(change: Callable[[dict[str, object]], object]) -> Mistake:
    """Return the mistake of a lock entry of the declared version."""

    def spoil(files: Files, client: str, _: Random) -> None:
        document = json.loads(files["fleet.lock"])
        names = [name for name in document["adapters"] if name.startswith(f"{client}-")]
        entry = document["adapters"].pop(names[-1])
        if change(entry) != "gone":
            document["adapters"][names[-1]] = entry
        files["fleet.lock"] = json.dumps(document)

    return spoil


MISTAKES: dict[str, Mistake] = {
    "version is no text": edited((r'version: "(\d+)\.(\d+)\.\d+"', r"version: \1.\2")),
    "version of two parts": edited((r'version: "(\d+)\.(\d+)\.\d+"', r'version: "\1.\2"')),
    "version never added": edited((r'version: "[\d.]+"', 'version: "99.0.0"')),
    "no version": edited((r"^ +version: .*\n", "")),
    "no base": edited((r"^ +base: .*\n", "")),
    "another base": edited((r"base: \w+", "base: lama3")),
    "another tier": edited((r"tier: \w+", "tier: premum")),
    "unknown key": edited((r"^    adapters:$", "    adaptors: 1\n    adapters:")),
    "section with a typo": edited((r"^clients:", "clints:")),
    "client with a typo": edited((r"^  (\w)(\w+):$", r"  \1\1\2:")),
    "task with a typo": edited((r"^      (\w+):$", r"      \1x:")),
    "client in capitals": edited((r"^  (\w+):$", r"  X\1:")),
    "text for a number": edited((r"peak_rpm: [\d.]+", "peak_rpm: many")),
    "negative demand": edited((r"peak_rpm: ", "peak_rpm: -")),
    "list for a map": edited((r"^    adapters:$", "    adapters: []\n    x-was:")),
    "no such zone": edited((r"timezone: \w+", "timezone: Mars")),
    "too many replicas": edited((r"^        base: ", "        replicas: 40\n        base: ")),
    "pinned to nothing": edited((r"^        base: ", "        pin: node999\n        base: ")),
    "no golden set": edited(
        (r"^        base: ", "        golden: golden/no.jsonl\n        base: ")
    ),
    "file outside": edited((r"^        base: ", "        golden: /etc/passwd\n        base: ")),
    "no such schema": edited(
        (r"^        base: ", "        format: {json_schema: no.json}\n        base: ")
    ),
    "secret itself": edited((r"^    adapters:$", "    keys: {prod: sk-live-1}\n    adapters:")),
    "key of another": key_of_another,
    "no such variable": edited((r"base: \w+", "base: ${var.nothing}")),
    "key twice": edited((r"^    tier: (\w+)$", r"    tier: \1\n    tier: \1")),
    "tab": edited((r"^    tier:", "\ttier:")),
    "stray line": edited((r"^    tier:", "oops\n    tier:")),
    "quote left open": edited((r'version: "([\d.]+)"', r'version: "\1')),
    "indentation": edited((r"^        latency:", "     latency:")),
    "merge conflict": edited((r"^    tier:", "<<<<<<< HEAD\n    tier:")),
    "cut off": cut_off,
    "letter lost": letter_lost,
    "other bytes": other_bytes,
    "overwritten by another": overwritten_by_another,
    "lock entry gone": locked(lambda _: "gone"),
    "lock entry without rank": locked(lambda entry: entry.pop("rank")),
    "digest cut": locked(lambda entry: entry.update(digest="abc")),
    "other bytes in the lock": locked(lambda entry: entry.update(digest="a" * 64)),
    "rank unknown to vLLM": locked(lambda entry: entry.update(rank=4096)),
}


@dataclass(frozen=True)
class AppliedFleet:
    """A fleet that was applied, and the texts of what is due now."""

    live: State
    workspace: Workspace
    due: Files
    clients: tuple[str, ...]
    """All clients."""
    busy: tuple[str, ...]
    """Clients that get a new version, a new key, a first version, or are removed."""
    victims: tuple[str, ...]
    """Clients of which nothing is due."""

    def plan(self, files: Files, **fields: object) -> tuple[Plan, Workspace]:
        """Plan these files; `fields` are of the workspace."""
        write(self.workspace.root, files)
        workspace = replace(self.workspace, **fields)  # type: ignore[arg-type]
        return plan_fleet(workspace, self.live), workspace


def write(root: Path, files: Files) -> None:
    (root / "models").mkdir(parents=True, exist_ok=True)
    for path in (root / "clients").glob("*"):
        path.unlink()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(text.encode("utf-8", "surrogateescape"))


def applied_fleet(root: Path, seed: int) -> AppliedFleet:
    """Apply a synthetic fleet in memory, and declare changes of some of its clients."""
    chance = Random(seed)  # noqa: S311 (a drawn case, no secret)
    files, _ = synthesise(SyntheticSize(10, 16, 5, seed))
    names = sorted(Path(name).stem for name in files if name.startswith("clients/"))
    new, *others = chance.sample(names, len(names))
    first = {name: text for name, text in files.items() if name != client_file(new)}
    for name in (others[0], others[5]):
        edited((r"^    adapters:$", f'    keys: {{prod: "file:keys/{name}"}}\n    adapters:'))(
            first, name, chance
        )
        keep_key(root, name)
    keep_key(root, "second")
    write(root, first)
    fleet = load_project(root, None, {}).fleet
    world = World(NOON)
    world.apply(world.plan(fleet))
    past = replace(world.history(), settings=fleet.settings)
    workspace = open_workspace(root, None, {}, root / ".fleetctl")
    workspace = replace(workspace, past=past, hosts={})
    due = _due(first, files, new, others)
    return AppliedFleet(
        world.live(),
        workspace,
        due,
        tuple(names),
        (new, others[0], others[2], others[3]),
        tuple(others[5:]),
    )


def keep_key(root: Path, name: str) -> None:
    (root / "keys").mkdir(parents=True, exist_ok=True)
    (root / "keys" / name).write_text(name * 8, encoding="utf-8")


def _due(first: Files, files: Files, new: str, others: list[str]) -> Files:
    """Return declarations with a new client, a new version, other demand, a new key, one gone."""
    due = {**first, client_file(new): files[client_file(new)]}
    document = json.loads(due["fleet.lock"])
    path = client_file(others[0])
    task, base, version = re.search(
        r'^      (\w+):\n        base: (\w+)\n        version: "([\d.]+)"', due[path], re.MULTILINE
    ).groups()  # type: ignore[union-attr]
    entry = document["adapters"][f"{others[0]}-{task}-{base}-v{version}"]
    document["adapters"][f"{others[0]}-{task}-{base}-v50.0.0"] = {**entry, "digest": "5" * 64}
    due["fleet.lock"] = json.dumps(document)
    due[path] = due[path].replace(f'"{version}"', '"50.0.0"', 1)
    edited((r"peak_rpm: ([\d.]+)", "peak_rpm: 9"))(due, others[1], STILL)
    edited((r"^    adapters:$", '    keys: {second: "file:keys/second"}\n    adapters:'))(
        due, others[2], STILL
    )
    del due[client_file(others[3])]
    return due


def changes_of(plan: Plan, without: str) -> list[object]:
    """Return the changes, without those of a client and what their words say of others."""
    return [
        (change.address, change.action, change.before, change.after, change.reason)
        for change in plan.changes
        if without not in {client_in(resource) for resource in change.resources}
    ]
