"""Folders brought to real boxes by digest."""

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet.errors import EngineError
from runtime.engines.protocol import DirectFile
from runtime.engines.remote.copies import SshTransport
from runtime.engines.store import SourceFolder
from runtime.library.layout import SERVED_FILES, folder_digest
from tests.beds.boxes import BoxBed, fault_of_copy
from tests.certificates import Authority

pytestmark = pytest.mark.boxes
SIZE = 40 << 20
NAMES = (*SERVED_FILES, "original/it's a file.txt")


@pytest.fixture
def source(tmp_path: Path) -> SourceFolder:
    """A folder of chance bytes, so that no earlier test has brought it."""
    folder = tmp_path / "a version"
    (folder / "original").mkdir(parents=True)
    for name, size in zip(NAMES, (1000, SIZE, 10), strict=True):
        (folder / name).write_bytes(os.urandom(size))
        (folder / name).chmod(0o444)
    return SourceFolder.of(folder, NAMES)


def test_a_folder_arrives_under_the_digest_of_the_lock_and_read_only(
    bed: BoxBed, source: SourceFolder
) -> None:
    async def body() -> None:
        ssh, seen = bed.connection(), list[tuple[int, int]]()
        version = SourceFolder.of(source.folder, SERVED_FILES)
        way = SshTransport(ssh, "a store", report=lambda *pair: seen.append(pair))
        path = await way.bring(version)
        assert path == f"/home/fleetctl/a store/{folder_digest(source.folder)}"
        assert seen[-1] == (1000 + SIZE, 1000 + SIZE)
        listed = await ssh.run(f"cd '{path}' && stat -c '%a %n' . * && ls -A ..")
        modes = [f"444 {name}" for name in SERVED_FILES]
        assert listed.stdout.splitlines() == ["555 .", *modes, version.digest]
        assert await fault_of_copy(ssh, version, path) == ""
        again = list[tuple[int, int]]()
        way = SshTransport(ssh, "a store", report=lambda *pair: again.append(pair))
        assert await way.bring(version) == path
        assert again == []
        assert await SshTransport(ssh, "a store").bring(version, 2) == f"{path}-2"
        await ssh.run("chmod -R u+w 'a store'; rm -r 'a store'")
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_an_interrupted_transfer_never_gets_the_name_and_goes_on_later(
    bed: BoxBed, source: SourceFolder
) -> None:
    async def body() -> None:
        ssh = bed.connection()

        def report(*_: int) -> None:
            task.cancel()

        task = asyncio.create_task(SshTransport(ssh, "store", report=report).bring(source))
        with pytest.raises(asyncio.CancelledError):
            await task
        listed = f"ls store | grep {source.digest}"
        assert (await ssh.run(listed)).stdout == f"{source.digest}.part\n"
        path = await SshTransport(ssh, "store").bring(source)
        assert await fault_of_copy(ssh, source, path) == ""
        assert (await ssh.run(listed)).stdout == f"{source.digest}\n"
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_what_arrived_before_is_not_sent_again(bed: BoxBed, source: SourceFolder) -> None:
    received = "cat /sys/class/net/host0/statistics/rx_bytes"

    async def body() -> None:
        ssh = bed.connection()
        path = await SshTransport(ssh, "store").bring(source, 2)
        weights = SERVED_FILES[1]
        half = f"mkdir -p {path[:-2]}.part && cd {path[:-2]}.part && head -c {SIZE // 2}"
        assert (await ssh.run(f"{half} {path}/{weights} >{weights}")).code == 0
        before = int((await ssh.run(received)).stdout)
        assert await SshTransport(ssh, "store").bring(source) == path[:-2]
        assert int((await ssh.run(received)).stdout) - before < SIZE * 3 // 4
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_byte_that_changed_is_found_in_a_copy_and_mended_in_what_arrived(
    bed: BoxBed, source: SourceFolder
) -> None:
    async def body() -> None:
        ssh = bed.connection()
        path = await SshTransport(ssh, "store").bring(source)
        weights = f"{path}/{SERVED_FILES[1]}"
        change = (
            f"chmod u+w {weights} && touch -r {weights} when && printf X | "
            f"dd of={weights} bs=1 seek=100 conv=notrunc status=none && touch -r when {weights}"
        )
        assert (await ssh.run(change)).code == 0
        fault = await fault_of_copy(ssh, source, path)
        assert fault == f"has other bytes than its digest in `{SERVED_FILES[1]}`"
        # Size and time are those of the source: only the digest tells.
        assert (await ssh.run(f"chmod -R u+w {path} && mv {path} {path}.part")).code == 0
        assert await fault_of_copy(ssh, source, path) == "is gone, or cannot be read"
        assert await SshTransport(ssh, "store").bring(source) == path
        assert await fault_of_copy(ssh, source, path) == ""
        extra = f"chmod u+w {path} && touch {path}/tokenizer.json && chmod u-w {path}"
        assert (await ssh.run(extra)).code == 0
        fault = await fault_of_copy(ssh, source, path)
        assert fault == "has other bytes than its digest, or more files"
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_source_that_changes_under_way_never_gets_the_name(
    bed: BoxBed, source: SourceFolder
) -> None:
    async def body() -> None:
        ssh = bed.connection()
        weights = source.folder / SERVED_FILES[1]
        weights.chmod(0o644)
        weights.write_bytes(os.urandom(SIZE))
        with pytest.raises(EngineError, match=r"in `adapter_model\.safetensors`, again and again"):
            await SshTransport(ssh, "store").bring(source)
        assert (await ssh.run(f"test -e store/{source.digest}")).code == 1
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_two_operators_at_once_bring_the_same_folder(bed: BoxBed, source: SourceFolder) -> None:
    async def body() -> None:
        first, second = bed.connection(), bed.connection()
        paths = await asyncio.gather(
            *(SshTransport(ssh, "store").bring(source) for ssh in (first, second, first, second))
        )
        assert len(set(paths)) == 1
        assert await fault_of_copy(first, source, paths[0]) == ""
        await first.close(end_shared=True)
        await second.close(end_shared=True)

    asyncio.run(body())


@pytest.fixture
def small_disk(bed: BoxBed) -> Iterator[str]:
    """A folder of `box1` with a disk of its own: 60 MiB, and room for the names of three files."""
    options = f"size={SIZE * 3 // 2},nr_inodes=5,mode=777"
    bed.do("root", "box1", f"mkdir -p /small; mount -t tmpfs -o {options} tmpfs /small")
    yield "/small"
    bed.do("root", "box1", "umount /small")


def test_a_full_disk_is_told_before_a_byte_is_sent(
    bed: BoxBed, source: SourceFolder, small_disk: str
) -> None:
    async def body() -> None:
        ssh = bed.connection()
        await ssh.run(f"head -c {SIZE} /dev/zero >{small_disk}/zeros")
        with pytest.raises(EngineError, match=r"lacks room: 20\.0 MiB are free") as raised:
            await SshTransport(ssh, f"{small_disk}/store").bring(source)
        assert raised.value.diagnostics[0].code == "FC4098"
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_disk_that_becomes_full_under_way_is_told(
    bed: BoxBed, source: SourceFolder, small_disk: str
) -> None:
    async def body() -> None:
        ssh = bed.connection()
        with pytest.raises(EngineError, match="became full meanwhile"):
            await SshTransport(ssh, f"{small_disk}/store").bring(source)
        bed.do("root", "box1", f"mount -o remount,nr_inodes=100 {small_disk}")
        await SshTransport(ssh, f"{small_disk}/store").bring(source)
        await ssh.close(end_shared=True)

    asyncio.run(body())


def test_a_box_that_is_cut_off_under_way_is_told_and_the_rest_comes_later(
    bed: BoxBed, source: SourceFolder
) -> None:
    async def body() -> None:
        ssh = bed.connection("box2")

        def report(done: int, _: int) -> None:
            if done:
                bed.do("cut", "box2")

        with pytest.raises(EngineError) as raised:
            await SshTransport(ssh, "store", report=report).bring(source)
        assert raised.value.diagnostics[0].code in {"FC4090", "FC4094", "FC4097"}
        bed.until_mended("box2")
        path = await SshTransport(ssh, "store").bring(source)
        assert await fault_of_copy(ssh, source, path) == ""
        await ssh.close(end_shared=True)

    try:
        asyncio.run(body())
    finally:
        bed.until_mended("box2")


SERVE = """\
cat >served.py <<'end'
import http.server, ssl
server = http.server.ThreadingHTTPServer(("127.0.0.1", 8443), http.server.SimpleHTTPRequestHandler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain("server.crt", "server.key")
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
end
echo 'cacert = "/home/fleetctl/ca.pem"' >.curlrc
nohup {python} served.py >served.log 2>&1 & echo $!
"""


def test_a_box_fetches_a_version_and_is_sent_what_its_source_has_wrong(
    bed: BoxBed, source: SourceFolder, tmp_path: Path
) -> None:
    """The source is a web server with TLS on the box; the second version is damaged there."""
    received = "cat /sys/class/net/host0/statistics/rx_bytes"
    version = SourceFolder.of(source.folder, SERVED_FILES)
    authority = Authority(tmp_path / "authority", "sources")
    pem = dict(zip(("server.crt", "server.key"), authority.issue("server"), strict=True))
    files = [DirectFile(name, f"https://127.0.0.1:8443/{name}", "") for name in SERVED_FILES]

    async def direct(digest: str) -> list[DirectFile]:
        assert digest == version.digest
        return files

    async def body() -> None:
        ssh = bed.connection()
        for name, path in {**pem, "ca.pem": authority.ca}.items():
            text = await asyncio.to_thread(Path(path).read_text)
            await ssh.run(f"cat >{name} <<'end'\n{text}end\n")
        path = await SshTransport(ssh, "first").bring(version)
        await ssh.run(f"cp {path}/* . && chmod u+w {' '.join(SERVED_FILES)}")
        python = f"{sys.base_prefix}/bin/python3"
        pid = (await ssh.run(SERVE.replace("{python}", python))).stdout.strip()
        try:
            await ssh.run("for try in 1 2 3 4 5 6 7 8 9; do "
                          "curl -sf https://127.0.0.1:8443/ && exit; sleep 1; done")  # fmt: skip
            before = int((await ssh.run(received)).stdout)
            fetched = await SshTransport(ssh, "second", direct=direct).bring(version)
            assert await fault_of_copy(ssh, version, fetched) == ""
            assert int((await ssh.run(received)).stdout) - before < SIZE / 10
            await ssh.run(f"printf x | dd of={SERVED_FILES[1]} conv=notrunc bs=1")
            mended = await SshTransport(ssh, "third", direct=direct).bring(version)
            assert await fault_of_copy(ssh, version, mended) == ""
        finally:
            await ssh.run(f"kill {pid}; chmod -R u+w first second third; rm -rf first second third")
            await ssh.close(end_shared=True)

    asyncio.run(body())
