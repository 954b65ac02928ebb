"""Disks that are really full: a small file system of its own, here and on a box."""

import asyncio
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from aiohttp import web

from fleet.errors import EngineError
from runtime.engines.protocol import DirectFile
from runtime.engines.remote.copies import SshTransport
from runtime.engines.store import SourceFolder
from runtime.library.layout import SERVED_FILES
from tests.beds.box_sources import NAME, WEIGHTS, box_source, moved_away
from tests.beds.boxes import BoxBed, fault_of_copy
from tests.beds.checkouts import converges
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.sources.conftest import serving_registry
from tests.runtime.sources.stand_ins import StandIn, serving

pytestmark = pytest.mark.boxes
KIB, MIB = 1 << 10, 1 << 20


def left_room(disk: Path, room: int) -> None:
    """Fill a file system but for some bytes."""
    zeros = disk / "zeros"
    with zeros.open("wb") as stream:
        stream.write(bytes(max(0, shutil.disk_usage(disk).free - room)))


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Project]:
    """A project whose library is a file system of 6 MiB."""
    made = Project.copy(tmp_path / "project", None)
    library = made.root / "models"
    library.rename(made.root / "before")
    library.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", library], check=True)
    try:
        shutil.copytree(made.root / "before", library, dirs_exist_ok=True)
        yield made
    finally:
        subprocess.run(["umount", library], check=True)


def refused(project: Project, source: str) -> str:
    """Add the version in vain; return the error."""
    done = call(project, "adapter", "add", source, "--as", NAME)
    assert done.returncode == 1
    assert "[FC3003]" in done.stderr, done.stderr
    assert f"{project.root.name}/models/" in done.stderr
    assert "No space left on device" in done.stderr
    assert NAME not in json.loads((project.root / "fleet.lock").read_text("utf-8"))["adapters"]
    assert not (project.root / "models/adapters/acme/support-v2.1.0").exists()
    return done.stderr


def added(project: Project, source: str) -> None:
    done = call(project, "adapter", "add", source, "--as", NAME)
    assert done.returncode == 0, done.stderr
    assert call(project, "adapter", "verify", NAME).returncode == 0
    assert call(project, "validate").returncode == 0


def test_a_disk_that_becomes_full_while_a_version_arrives_keeps_what_has_arrived(
    project: Project, tmp_path: Path
) -> None:
    library, kept = project.root / "models", moved_away(project, tmp_path)
    size = (kept / WEIGHTS).stat().st_size
    room = size - 50 * KIB  # the last chunk of the weights fits in part

    def fill(request: web.Request) -> None:
        if request.method == "GET" and request.path.endswith(WEIGHTS):
            left_room(library, room)

    with serving(StandIn(kept, fault=fill)) as stand_in:
        source = f"https://127.0.0.1:{stand_in.port}/files/"
        assert "bytes more are needed" in refused(project, source)
        arrived = {path.name: path.stat().st_size for path in library.rglob(f"{WEIGHTS}*")
                   if ".incoming" in path.parts}  # fmt: skip
        assert [*arrived] == [f"{WEIGHTS}.part"]  # no name for what is not whole
        before, stand_in.fault = stand_in.sent[WEIGHTS], lambda _: None
        refused(project, source)  # still full: nothing is asked for, and nothing is lost
        assert stand_in.sent[WEIGHTS] == before
        (library / "zeros").unlink()
        added(project, source)
        assert stand_in.sent[WEIGHTS] - before == size - arrived[f"{WEIGHTS}.part"] < size / 2


@pytest.mark.sources
def test_a_disk_without_room_is_told_before_a_registry_sends_a_file(
    project: Project, tmp_path: Path
) -> None:
    library = project.root / "models"
    with serving_registry(tmp_path) as registry:
        source = f"oci://{registry}/acme/support:1"
        assert call(project, "adapter", "push", NAME, source).returncode == 0
        moved_away(project, tmp_path)
        left_room(library, 100 * KIB)
        assert "bytes more are needed" in refused(project, source)
        assert not [*library.rglob("*.part")]
        (library / "zeros").unlink()
        inodes = os.statvfs(library)
        used = inodes.f_files - inodes.f_ffree
        remount = f"remount,nr_inodes={used + 1}"  # room for bytes, and for a single file more
        subprocess.run(["mount", "-o", remount, library], check=True)
        refused(project, source)
        subprocess.run(["mount", "-o", "remount,nr_inodes=10000", library], check=True)
        added(project, source)


@pytest.fixture
def small_disk(bed: BoxBed) -> Iterator[str]:
    """A folder of `box1` with a disk of its own, of 60 MiB."""
    bed.do("root", "box1", "mkdir -p /small; mount -t tmpfs -o size=60m,mode=777 tmpfs /small")
    yield "/small"
    bed.do("root", "box1", "umount /small")


def test_a_box_whose_disk_becomes_full_while_it_fetches_goes_on_once_there_is_room(
    bed: BoxBed, small_disk: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, size = tmp_path / "version", 40 * MIB
    folder.mkdir()
    (folder / SERVED_FILES[0]).write_bytes(b"{}")
    (folder / WEIGHTS).write_bytes(os.urandom(size))
    version = SourceFolder.of(folder, SERVED_FILES)

    def fill(request: web.Request) -> None:
        if request.path.endswith(WEIGHTS):
            zeros = f"{small_disk}/zeros"
            bed.do("ssh", "box1", f"head -c 60M /dev/zero >{zeros}; truncate -s -30M {zeros}")

    async def body(source: StandIn) -> None:
        async def direct(_: str) -> Sequence[DirectFile]:
            return [DirectFile(name, f"{source.url}/files/{name}", "") for name in SERVED_FILES]

        ssh, store = bed.connection(), f"{small_disk}/store"
        ssh.rsync_host = "nowhere.invalid"  # nothing is sent from here
        with pytest.raises(EngineError, match=r"lacks room: .* more are needed") as raised:
            await SshTransport(ssh, store, direct=direct).bring(version)
        problem = raised.value.diagnostics[0]
        assert problem.code == "FC4098"
        assert f"`{small_disk}/store" in problem.detail
        assert "`box1`" in problem.detail
        listed = (await ssh.run(f"ls {store}; stat -c %s {store}/*.part/{WEIGHTS}")).stdout.split()
        assert listed[0] == f"{version.digest}.part"
        assert 0 < int(listed[1]) < size
        source.fault = lambda _: None
        await ssh.run(f"rm {small_disk}/zeros")
        before = source.sent[WEIGHTS]
        path = await SshTransport(ssh, store, direct=direct).bring(version)
        assert source.sent[WEIGHTS] - before == size - int(listed[1])
        assert await fault_of_copy(ssh, version, path) == ""
        await ssh.close(end_shared=True)

    with box_source(bed, folder, tmp_path, monkeypatch) as source:
        source.fault = fill
        asyncio.run(body(source))


def test_a_full_box_keeps_what_the_servers_answer_and_converges_once_there_is_room(
    bed: BoxBed, checkout: Project
) -> None:
    store = "/home/fleetctl/.local/share/fleetctl/store"
    options = "size=8m,mode=755,uid=$(id -u fleetctl),gid=$(id -g fleetctl)"
    bed.do("ssh", "box1", f"mkdir -p {store}")
    bed.do("root", "box1", f"mount -t tmpfs -o {options} tmpfs {store}")
    try:
        converges(checkout)
        bed.do(
            "ssh", "box1", f"head -c 8M /dev/zero >{store}/zeros; truncate -s -50K {store}/zeros"
        )
        acme = checkout.root / "clients/acme.yaml"
        acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
        stopped = checkout.run("apply", "--auto", "--yes")
        told = stopped.stdout + stopped.stderr
        assert stopped.returncode == 4, told
        assert "[FC4098]" in told
        assert "`box1` lacks room" in told
        assert "acme-support-tiny-v2.1.0" in adapters_of(bed, "box1")
        assert "acme-support-tiny-v2.2.0" not in adapters_of(bed, "box1")
        assert "acme-support-tiny-v2.2.0" in adapters_of(bed, "box2")
        drift = checkout.run("drift")
        assert drift.returncode == 2
        assert "could not be done, and is still due" in drift.stdout
        bed.do("ssh", "box1", f"rm {store}/zeros")
        converges(checkout)
        assert "acme-support-tiny-v2.2.0" in adapters_of(bed, "box1")
        assert checkout.run("drift").returncode == 0
    finally:
        unmount = f"systemctl --user -M fleetctl@ stop 'fleetctl-tiny-*'; umount -l {store}"
        bed.do("root", "box1", unmount)


def adapters_of(bed: BoxBed, box: str) -> str:
    """Return the file of adapters of a box's server, which names what was loaded."""
    return bed.do("ssh", box, "cat .local/share/fleetctl/servers/tiny-*/adapters.json")
