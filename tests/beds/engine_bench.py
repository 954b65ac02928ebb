"""A host of engine `ssh` on a box, with the fake server in place of vLLM.

The box's interpreter is a script that runs another module. It waits where `~/hold` exists, and ends
at once where `~/fail` does.
"""

import os
import shlex
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from fleet.hardware import HostSpec
from fleet.hosts import instance_name
from fleet.resources import State
from runtime.engines.protocol import Engine
from runtime.engines.recognition import FleetMark
from runtime.engines.remote.engine import SshEngine
from runtime.engines.remote.units import ServerUnit, list_units
from runtime.state_folder import STORE
from tests.beds.boxes import BoxBed
from tests.runtime.engines.conftest import Bench, make_bench

BOX = "box1"
UNITS = "~/.config/systemd/user"
STORE_THERE = "/home/fleetctl/.local/share/fleetctl/store"
FAKE = f"""\
mkdir -p fake/bin fake/lib/python3/site-packages/fleetctl_resolver-0.dist-info
cat >fake/bin/python <<'END'
#!/bin/sh
[ ! -e ~/fail ] || {{ echo 'ValueError: no room for the base'; exit 1; }}
while [ -e ~/hold ]; do sleep 0.05; done
shift 2
exec {sys.executable} -m runtime.fake_vllm.server "$@"
END
chmod +x fake/bin/python; {sys.executable} -c 'import runtime'
"""
CLEAN = f"""\
systemctl --user stop 'fleetctl-*'; rm -rf {UNITS}/fleetctl-* {UNITS}/*/fleetctl-* hold fail fake
systemctl --user daemon-reload; cd .local/share/fleetctl && chmod -R u+w . && rm -rf *
:
"""


@dataclass(frozen=True, slots=True)
class BoxBench(Bench):
    """A host of engine `ssh` with a server, and adapters to load onto it."""

    bed: BoxBed
    fleet: str = "bench"
    options: tuple[str, ...] = ()
    """Further words for `ssh`."""

    @property
    def name_there(self) -> str:
        """The unit of the server, with the words for its manager."""
        server = self.server.name
        return instance_name(server) if self.host.has_system_units else f"--user fleetctl-{server}"

    def engine(self) -> SshEngine:
        return SshEngine(
            self.host,
            self.bed.connection(BOX, *self.options),
            self.root,
            self.state_dir / STORE,
            self.state_dir / "hosts" / f"{BOX}.json",
            FleetMark(self.fleet),
            "secret-of-the-box",
        )

    def seen_by_others(self) -> str:
        """Every command line, the units and the journal of the box."""
        units = f"{UNITS}/fleetctl-* .local/share/fleetctl/servers/*/run"
        return self.there(
            f"cat /proc/[0-9]*/cmdline {units} 2>/dev/null; journalctl --user --quiet"
        )

    def unit(self) -> ServerUnit:
        async def listed() -> ServerUnit:
            return (await list_units(self.engine().ssh))[self.server.name]

        found = self.run(lambda _: listed())
        assert isinstance(found, ServerUnit)
        return found

    def served_launch(self) -> str:
        record = self.unit().record
        assert record is not None
        return record.served_launch

    def path_there(self, folder: str) -> str:
        return f"{STORE_THERE}/{Path(folder).name}"

    def there(self, script: str) -> str:
        """Run a script in the box; return what it prints."""
        return self.bed.do("ssh", BOX, f"timeout 60 sh -c {shlex.quote(script)}")

    def kill(self) -> None:
        """Kill the server's main process; return once systemd has noticed."""
        show = f"systemctl show -P MainPID {self.name_there}"
        self.there(f"pid=$({show}); kill -9 $pid; while [ $({show}) = $pid ]; do :; done")

    def start(self) -> None:
        self.run(lambda engine: engine.start(self.server))

    def observe(self) -> State:
        state = self.run(lambda engine: engine.observe())
        assert isinstance(state, State)
        return state


def clean_box(bed: BoxBed) -> None:
    """Leave a box with the fake server, and with no unit, store or file of a test."""
    bed.do("ssh", BOX, CLEAN + "cd; " + FAKE)


@pytest.fixture(scope="module")
def box_project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, BoxBed]]:
    """A project with its server, and a box that has the fake server in place of vLLM."""
    bed = BoxBed(Path(os.environ["BED"]), tmp_path_factory.mktemp("s"))
    clean_box(bed)
    yield make_bench("fake", tmp_path_factory.mktemp("ssh") / "project"), bed
    bed.do("ssh", BOX, CLEAN)


@pytest.fixture
def shared_bench(user_bench: BoxBench) -> BoxBench:
    """One server for a whole file; what a test stops, the next one starts."""
    return user_bench


@pytest.fixture
def user_bench(bed: BoxBed, box_project: tuple[Bench, BoxBed]) -> BoxBench:
    """The server as a unit of the user."""
    assert bed.folder != bed.sockets  # it is asked for its trust
    made, shared = box_project
    host = HostSpec(BOX, "ssh", made.host.devices, address=BOX, python="fake/bin/python")
    server = replace(made.server, name=f"tiny-{BOX}-cpu0", host=BOX)
    return BoxBench(host, server, made.root, made.state_dir, shared)


@pytest.fixture
def ready(shared_bench: BoxBench) -> BoxBench:
    """The shared server, running and without adapters."""

    async def prepare(engine: Engine) -> None:
        await engine.start(shared_bench.server)
        for loaded in (await engine.observe()).adapters().values():
            await engine.unload(loaded.server, loaded.adapter)

    shared_bench.run(prepare)
    return shared_bench
