"""Parts of `tests.bench.scale` that import fleetctl: `python -m tests.bench.scale_parts PART DIR`.

`lock` pins the library; `seed` lets servers list what a plan would load, and prints the ports of
these; `look` looks at all servers and prints the seconds. They are processes of their own, since
memory is measured by process.
"""

import asyncio
import json
import sys
import time
import urllib.request
from collections import defaultdict
from pathlib import Path

from fleet.config import LOCK_FILE, Lock, LockedAdapter, lock_text, parse_lock
from fleet.history.values import History
from fleet.names import AdapterName
from fleet.planning.pipeline import desired_state
from fleetctl.wiring import open_workspace
from runtime.library.layout import WEIGHTS, folder_digest, version_folder, versions
from runtime.library.served_copies import publish
from tests.bench.scale_servers import SEED

QUICKSTART = Path(__file__).resolve().parents[2] / "examples/quickstart"


def lock(root: Path) -> None:
    """Pin every version of the library."""
    known = parse_lock((QUICKSTART / LOCK_FILE).read_text("utf-8"))
    pinned = {
        f"{client}-{task}-tiny-v{version}": LockedAdapter(
            digest=folder_digest(folder),
            rank=1,
            bytes=(folder / WEIGHTS).stat().st_size,
            modules=("q_proj",),
            base="tiny",
        )
        for client, task, version, folder in versions(root / "models")
    }
    text = lock_text(Lock(bases=known.bases, adapters=pinned))
    (root / LOCK_FILE).write_text(text, encoding="utf-8")


def seed(root: Path) -> None:
    """Let every server list the adapters that the first plan would load there."""
    workspace = open_workspace(root, None, {}, root / ".fleetctl")
    fleet, live = workspace.project.fleet(), asyncio.run(workspace.machines.observe_now())
    desired = desired_state(fleet, live, History(), workspace.now())
    listed: dict[str, dict[str, str]] = defaultdict(dict)
    for adapter in desired.adapters().values():
        assert adapter.digest is not None
        source = version_folder(root / "models", AdapterName.parse(adapter.adapter))
        copy = publish(source, adapter.digest, root / ".fleetctl/store")
        listed[adapter.server][adapter.adapter] = str(copy)
    for host in fleet.hosts.values():
        for server in host.attached:
            body = json.dumps(listed[server.name]).encode()
            urllib.request.urlopen(server.url + SEED, body, timeout=60).close()
            if listed[server.name]:
                print(server.url.rpartition(":")[2])


def look(root: Path) -> None:
    """Look at all servers."""
    workspace = open_workspace(root, None, {}, root / ".fleetctl")
    workspace.project.fleet()
    began = time.monotonic()
    live = asyncio.run(workspace.machines.observe_now())
    print(f"{time.monotonic() - began:.2f}")
    if live.unknown_servers:
        name, reason = min(live.unknown_servers.items())
        raise SystemExit(f"{len(live.unknown_servers)} servers are unknown, as {name}: {reason}")


if __name__ == "__main__":
    {"lock": lock, "seed": seed, "look": look}[sys.argv[1]](Path(sys.argv[2]))
