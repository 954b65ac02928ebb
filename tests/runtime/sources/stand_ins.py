"""Stands in for the Hub and for a web server with a folder of files, with faults on demand."""

import asyncio
import hashlib
import ssl
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from runtime.library.layout import SERVED_FILES

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CHUNK = 1 << 14
Fault = Callable[[web.Request], web.StreamResponse | None]


@dataclass
class StandIn:
    """A server with the files of a folder; `fault` may answer a request in the files' place."""

    folder: Path
    host: str = "127.0.0.1"
    port: int = 0
    fault: Fault = lambda _: None
    cut_after: int | None = None
    """Bytes after which an answer breaks off, in each attempt."""
    hold_at: int | None = None
    """Byte of a file that no answer gets to, while the number stands."""
    pause_s: float = 0.0
    """Pause after each chunk."""
    ranges: bool = True
    tls: ssl.SSLContext | None = None
    sent: Counter[str] = field(default_factory=Counter)
    """Bytes sent, by file."""
    sent_to: Counter[str] = field(default_factory=Counter)
    """Bytes sent, by the address of the reader."""
    starts: list[int] = field(default_factory=list)
    """Bytes from which weights were asked for."""

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if (given := self.fault(request)) is not None:
            return given
        path = request.path
        if path.startswith("/api/models/acme/support/revision/"):
            return web.json_response({"sha": COMMIT, "id": "acme/support"})
        if path.startswith(f"/api/models/acme/support/tree/{COMMIT}"):
            return web.json_response(self.tree())
        name = path.removeprefix(f"/acme/support/resolve/{COMMIT}/").removeprefix("/files/")
        file = self.folder / name
        if not file.is_file() or ".." in name:
            return web.Response(status=404)
        return await self.file(request, file)

    def tree(self) -> list[dict[str, object]]:
        """Return the rows of the Hub's listing: large files are LFS pointers, with a sha256."""
        rows = []
        for path in sorted(self.folder.rglob("*")):
            if not path.is_file():
                continue
            content = path.read_bytes()
            name, size = str(path.relative_to(self.folder)), len(content)
            git = hashlib.sha1(b"blob %d\0" % size + content, usedforsecurity=False).hexdigest()
            row: dict[str, object] = {"type": "file", "oid": git, "size": size, "path": name}
            if path.suffix == ".safetensors":
                digest = hashlib.sha256(content).hexdigest()
                row["lfs"] = {"oid": digest, "size": size, "pointerSize": 131}
            rows.append(row)
        return rows

    async def may_send(self, request: web.Request, at: int) -> bool:
        """Wait while a byte is held back; say whether the reader is still there."""
        while self.hold_at is not None and at >= self.hold_at:
            await asyncio.sleep(0.002)
            if request.transport is None or request.transport.is_closing():
                return False
        return True

    async def file(self, request: web.Request, path: Path) -> web.StreamResponse:
        content = path.read_bytes()  # noqa: ASYNC240 (the loop is the test's own)
        etag, start, end = mark_of(content), 0, len(content)
        if request.headers.get("If-Match", etag) != etag:
            return web.Response(status=412)
        wanted = request.headers.get("Range", "") if self.ranges else ""
        if wanted and request.headers.get("If-Range", etag) == etag:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), int(last) + 1 if last else end
        if path.suffix == ".safetensors":
            self.starts.append(start)
        headers, is_part = (
            {"ETag": etag, "Content-Length": str(end - start)},
            end - start < len(content),
        )
        if is_part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
        answer = web.StreamResponse(status=206 if is_part else 200, headers=headers)
        await answer.prepare(request)
        if request.method == "HEAD":
            return answer
        for at in range(start, end, CHUNK):
            if self.cut_after is not None and at - start >= self.cut_after:
                assert request.transport is not None
                request.transport.close()
                return answer
            if not await self.may_send(request, at):
                return answer
            chunk = content[at : min(at + CHUNK, end)]
            await answer.write(chunk)
            self.sent[path.name] += len(chunk)
            self.sent_to[request.remote or ""] += len(chunk)
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        return answer


class BucketStandIn(StandIn):
    """Answers as an object store: a listing, and files from any byte on."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer for the bucket `models`, whose keys begin with `acme/support/`."""
        if "list-type" not in request.query:
            return await self.file(request, self.folder / request.path.rpartition("/")[2])
        contents = {name: (self.folder / name).read_bytes() for name in SERVED_FILES}
        rows = "".join(
            f"<Contents><Key>acme/support/{name}</Key><Size>{len(content)}</Size>"
            f"<ETag>{mark_of(content)}</ETag>"
            "<LastModified>2026-12-01T00:00:00Z</LastModified></Contents>"
            for name, content in contents.items()
        )
        text = f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>"
        return web.Response(text=text, content_type="application/xml")


def mark_of(content: bytes) -> str:
    """Return the ETag of a file."""
    return f'"{hashlib.sha256(content).hexdigest()[:16]}"'


@contextmanager
def serving(stand_in: StandIn) -> Iterator[StandIn]:
    """Serve from a thread of its own while the block runs."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    runner = web.AppRunner(web.Application(middlewares=[]), shutdown_timeout=0.1)
    runner.app.router.add_route("*", "/{path:.*}", stand_in.answer)

    async def begin() -> None:
        await runner.setup()
        site = web.TCPSite(runner, stand_in.host, 0, ssl_context=stand_in.tls)
        await site.start()
        stand_in.port = runner.addresses[0][1]
        ready.set()

    def run() -> None:
        asyncio.set_event_loop(loop)
        loop.run_until_complete(begin())
        loop.run_forever()
        loop.run_until_complete(runner.cleanup())

    thread = threading.Thread(target=run)
    thread.start()
    ready.wait()
    try:
        yield stand_in
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def refusing(
    status: int, times: int = 1_000_000, after: str = ""
) -> Callable[[web.Request], web.Response | None]:
    """Return a fault: so many answers with a status."""
    left = [times]

    def fault(request: web.Request) -> web.Response | None:
        del request
        left[0] -= 1
        headers = {"Retry-After": after} if after else {}
        return web.Response(status=status, headers=headers) if left[0] >= 0 else None

    return fault
