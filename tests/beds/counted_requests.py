"""A forward of a port that counts the HTTP requests which pass."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field


@dataclass
class CountedRequests:
    """The requests of all connections so far, as method and path without the query."""

    url: str
    seen: list[str] = field(default_factory=list)


@asynccontextmanager
async def counted(host: str, port: int) -> AsyncIterator[CountedRequests]:
    """Forward a port of this machine to another address while the block runs."""

    async def pump(
        source: asyncio.StreamReader, target: asyncio.StreamWriter, heads: list[str] | None
    ) -> None:
        with suppress(ConnectionError):
            while chunk := await source.read(1 << 16):
                for line in chunk.split(b"\r\n") if heads is not None else ():
                    if line.endswith(b" HTTP/1.1") and heads is not None:
                        heads.append(line.decode().partition(" HTTP")[0].partition("?")[0])
                target.write(chunk)
                await target.drain()
        target.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, asks = await asyncio.open_connection(host, port)
        await asyncio.gather(pump(reader, asks, made.seen), pump(answers, writer, None))

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    made = CountedRequests(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    try:
        yield made
    finally:
        server.close()
