"""A file that is no whole backup of this fleet is refused, and nothing changes."""

import gzip
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fleetctl.backups import content, members, rewritten, state
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project, applied


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from applied(tmp_path_factory.mktemp("fleet"))


def torn(file: Path, target: Path) -> Path:
    target.write_bytes(file.read_bytes()[:-40])
    return target


def flipped(file: Path, target: Path) -> Path:
    raw = bytearray(gzip.decompress(file.read_bytes()))
    place = raw.index(b'"kind":"apply_started"')
    raw[place + 9] ^= 1
    target.write_bytes(gzip.compress(bytes(raw)))
    return target


def no_archive(_: Path, target: Path) -> Path:
    target.write_text("hello\n", "utf-8")
    return target


def link(archive: tarfile.TarFile) -> None:
    member = tarfile.TarInfo("state/routes.json")
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    archive.addfile(member)


def other_ledger(file: Path, target: Path) -> Path:
    lines = members(file)["state/ledger.jsonl"].splitlines(keepends=True)
    return rewritten(file, target, contents={"ledger.jsonl": b"".join(lines[:-1])})


REFUSED: dict[str, tuple[str, Callable[[Path, Path], Path]]] = {
    "torn": ("FC6071", torn),
    "a bit is flipped": ("FC6071", flipped),
    "no archive": ("FC6071", no_archive),
    "path leads out": (
        "FC6071",
        lambda file, target: rewritten(file, target, contents={"../../evil": b"x"}),
    ),
    "absolute path": (
        "FC6071",
        lambda file, target: rewritten(file, target, contents={"/evil": b"x"}),
    ),
    "no part": (
        "FC6071",
        lambda file, target: rewritten(file, target, contents={"fleet.yaml": b"x"}),
    ),
    "link": ("FC6071", lambda file, target: rewritten(file, target, extra=link)),
    "shortened ledger": ("FC6071", other_ledger),
    "manifest without files": (
        "FC6071",
        lambda file, target: rewritten(file, target, lambda found: found.pop("files")),
    ),
    "manifest of other types": (
        "FC6071",
        lambda file, target: rewritten(file, target, lambda found: found.update(seq="1")),
    ),
    "other fleet": (
        "FC6072",
        lambda file, target: rewritten(file, target, lambda found: found.update(fleet="other")),
    ),
    "later format": (
        "FC5007",
        lambda file, target: rewritten(file, target, lambda found: found.update(format=2)),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_backup_is_refused_and_nothing_changes(
    name: str, backup: Path, elsewhere: Project, tmp_path: Path
) -> None:
    code, make = REFUSED[name]
    file = make(backup, tmp_path / "made.tar.gz")
    refused = call(elsewhere, "state", "restore", str(file))
    assert (refused.returncode, code in refused.stderr) == (1, True), refused.stderr
    assert content(state(elsewhere)) == {}
    locked = {"ledger.lock", "usage"}
    assert {path.name for path in state(elsewhere).iterdir()} <= locked
    assert not (tmp_path / "evil").exists()
