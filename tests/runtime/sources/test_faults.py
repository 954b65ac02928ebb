"""Sources that break off, refuse, lie or have no room: an error, or the right bytes."""

import asyncio
import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from aiohttp import web

from fleet.errors import LibraryError
from runtime.sources.download import bring, listed
from runtime.sources.hub import HubRepository
from runtime.sources.reference import SourceReference
from runtime.sources.remote import Listing
from tests.runtime.sources.stand_ins import CHUNK, COMMIT, StandIn, refusing, serving

PAUSES_S = (0.01, 0.01, 0.01)
MIB = 1 << 20
WEIGHTS = "adapter_model.safetensors"
REFERENCE = SourceReference("hf", "acme/support", "", digest=COMMIT)
CHILD = """\
import asyncio, sys
from pathlib import Path
from runtime.sources.download import bring, listed
from runtime.sources.hub import HubRepository
from runtime.sources.reference import SourceReference

async def main(url, folder):
    source = HubRepository(SourceReference("hf", "acme/support", "", digest=sys.argv[3]), url)
    await bring(source, await listed(source, "it"), Path(folder), lambda done, total: None)

asyncio.run(main(*sys.argv[1:3]))
"""


@pytest.fixture
def held(tmp_path: Path) -> Path:
    """A folder with the files of a version; their meaning does not matter here."""
    folder = tmp_path / "held"
    (folder / "evals").mkdir(parents=True)
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")
    (folder / "evals" / "golden.json").write_text("[1]", encoding="utf-8")
    (folder / "optimizer.pt").write_bytes(b"x")
    (folder / WEIGHTS).write_bytes(os.urandom(3 * MIB))
    return folder


def brought(stand_in: StandIn, folder: Path, listing: Listing | None = None) -> Listing:
    async def run() -> Listing:
        source = HubRepository(REFERENCE, stand_in.url)
        try:
            found = listing or await listed(source, str(REFERENCE), PAUSES_S)
            await bring(source, found, folder, lambda _done, _total: None, PAUSES_S)
        finally:
            await source.close()
        return found

    return asyncio.run(run())


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def code(refused: pytest.ExceptionInfo[LibraryError]) -> str:
    return refused.value.diagnostics[0].code


def test_the_files_of_a_version_arrive_and_no_others(held: Path, tmp_path: Path) -> None:
    with serving(StandIn(held)) as stand_in:
        brought(stand_in, tmp_path / "here")
    wanted = files(held)
    del wanted["optimizer.pt"]
    assert files(tmp_path / "here") == wanted


@pytest.mark.parametrize("ranges", [True, False])
def test_an_answer_that_breaks_off_is_taken_up(held: Path, tmp_path: Path, *, ranges: bool) -> None:
    with serving(StandIn(held, cut_after=MIB, ranges=ranges)) as stand_in:
        if ranges:
            brought(stand_in, tmp_path / "here")
            assert stand_in.sent[WEIGHTS] <= 3 * MIB + 4 * CHUNK
        else:
            with pytest.raises(LibraryError, match="after 4 attempts") as refused:
                brought(stand_in, tmp_path / "here")
            assert code(refused) == "FC3051"
            stand_in.cut_after = None
            brought(stand_in, tmp_path / "here")
    assert files(tmp_path / "here")[WEIGHTS] == files(held)[WEIGHTS]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, "FC3052"),
        (403, "FC3052"),
        (404, "FC3053"),
        (429, "FC3051"),
        (500, "FC3051"),
        (503, "FC3051"),
    ],
)
def test_a_status_that_stays_has_its_error(
    held: Path, tmp_path: Path, status: int, expected: str
) -> None:
    fault = refusing(status)
    with (
        serving(StandIn(held, fault=fault)) as stand_in,
        pytest.raises(LibraryError, match="hf://acme/support") as refused,
    ):
        brought(stand_in, tmp_path / "here")
    assert code(refused) == expected


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_status_that_passes_is_waited_for(held: Path, tmp_path: Path, status: int) -> None:
    with serving(StandIn(held, fault=refusing(status, times=2, after="0"))) as stand_in:
        brought(stand_in, tmp_path / "here")


def test_other_bytes_than_the_source_promises_are_refused(held: Path, tmp_path: Path) -> None:
    weights = held / WEIGHTS
    with serving(StandIn(held)) as stand_in:
        listing = brought(stand_in, tmp_path / "first")
        changed = bytearray(weights.read_bytes())
        changed[7] ^= 1
        weights.write_bytes(bytes(changed))
        with pytest.raises(LibraryError, match="other bytes than its digest") as refused:
            brought(stand_in, tmp_path / "second", listing)
        assert code(refused) == "FC3054"
        assert not (tmp_path / "second" / weights.name).exists()
        weights.write_bytes(bytes(changed) + b"more")
        with pytest.raises(LibraryError, match="is larger than") as refused:
            brought(stand_in, tmp_path / "third", listing)
        assert code(refused) == "FC3054"
        weights.write_bytes(bytes(changed)[:-5])
        with pytest.raises(LibraryError, match="ended after") as refused:
            brought(stand_in, tmp_path / "fourth", listing)
        assert code(refused) == "FC3051"


def test_a_part_with_wrong_bytes_is_brought_anew(held: Path, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()
    (folder / "adapter_model.safetensors.part").write_bytes(b"wrong")
    with serving(StandIn(held)) as stand_in:
        brought(stand_in, folder)
    assert (folder / WEIGHTS).read_bytes() == files(held)[WEIGHTS]


def test_a_source_without_the_weights_is_refused(held: Path, tmp_path: Path) -> None:
    (held / WEIGHTS).unlink()
    with (
        serving(StandIn(held)) as stand_in,
        pytest.raises(LibraryError, match="is not among its files"),
    ):
        brought(stand_in, tmp_path / "here")


@pytest.mark.parametrize("room", [MIB, 3 * MIB - 40 * 1024])  # at a chunk's end, and in the last
def test_a_disk_without_room_is_told_and_what_has_arrived_stays(
    held: Path, tmp_path: Path, room: int
) -> None:
    folder = tmp_path / "here"
    limit = f"ulimit -f {room // 1024}; trap '' XFSZ; "
    with serving(StandIn(held)) as stand_in:
        words = [sys.executable, "-c", CHILD, stand_in.url, str(folder), COMMIT]
        limited = ["bash", "-c", f'{limit}exec "$@"', "-", *words]
        done = subprocess.run(limited, capture_output=True, text=True, check=False)
        assert "FC3003" in done.stderr or os.strerror(errno.EFBIG) in done.stderr
        assert (folder / "adapter_model.safetensors.part").stat().st_size == room
        before = stand_in.sent[WEIGHTS]
        brought(stand_in, folder)
        assert stand_in.sent[WEIGHTS] - before == 3 * MIB - room


@pytest.mark.long
def test_a_kill_at_ten_points_asks_again_for_no_byte_that_had_arrived(
    held: Path, tmp_path: Path
) -> None:
    folder, kept = tmp_path / "here", [0]
    part = folder / f"{WEIGHTS}.part"
    with serving(StandIn(held)) as stand_in:
        words = [sys.executable, "-c", CHILD, stand_in.url, str(folder), COMMIT]
        for kill in range(10):
            stand_in.hold_at = 3 * MIB * (kill + 1) // 12
            child = subprocess.Popen(words)
            while (part.stat().st_size if part.exists() else 0) < stand_in.hold_at:
                assert child.poll() is None
                time.sleep(0.001)
            child.send_signal(signal.SIGKILL)
            child.wait()
            kept.append(part.stat().st_size)
        stand_in.hold_at = None
        subprocess.run(words, check=True)
        assert stand_in.starts == kept
    assert files(folder)[WEIGHTS] == files(held)[WEIGHTS]


def test_a_listing_whose_file_has_moved_is_taken_from_the_beginning(
    held: Path, tmp_path: Path
) -> None:
    """A server that cannot go on from a byte begins anew, and the digest is that of all bytes."""
    folder = tmp_path / "here"
    folder.mkdir()
    name = WEIGHTS
    (folder / f"{name}.part").write_bytes(files(held)[name][:MIB])
    with serving(StandIn(held, ranges=False)) as stand_in:
        listing = brought(stand_in, folder)
    assert (folder / name).read_bytes() == files(held)[name]
    assert listing.pinned == f"hf://acme/support@{COMMIT}"


def test_a_listing_that_is_no_json_is_refused(held: Path, tmp_path: Path) -> None:
    def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    match = "is not JSON"
    with (
        serving(StandIn(held, fault=fault)) as stand_in,
        pytest.raises(LibraryError, match=match),
    ):
        brought(stand_in, tmp_path / "here")


def test_a_redirect_to_another_machine_without_tls_is_not_followed(
    held: Path, tmp_path: Path
) -> None:
    def fault(_: web.Request) -> web.StreamResponse:
        return web.Response(status=302, headers={"Location": "http://mirror.example/weights"})

    with (
        serving(StandIn(held, fault=fault)) as stand_in,
        pytest.raises(LibraryError, match="asked without TLS") as refused,
    ):
        brought(stand_in, tmp_path / "here")
    assert code(refused) == "FC3052"
