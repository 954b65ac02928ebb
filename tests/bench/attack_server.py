"""A server for `tests.bench.attack` that answers at once; listens on the port that it is given.

`suffix` of a request asks for what no vLLM would send by itself: `answer` for JSON of 600 MB,
`line` for a stream whose first line has no end.
"""

import asyncio
import json
import sys
from contextlib import suppress
from typing import Final

import uvloop

from tests.bench.gateway_stub import WHOLE

PIECE: Final = b"x" * 2**16
LARGE: Final = 600_000_000
_HEAD: Final = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\n%b\r\n\r\n"
_LENGTH: Final = b"content-length: %d"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answer the requests of a connection."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(head.partition(b"content-length:")[2].partition(b"\r")[0] or 0)
            raw = await reader.readexactly(length)
            asked = json.loads(raw).get("suffix") if b'"suffix"' in raw[-4096:] else None
            if asked is not None:
                await flood(writer, asked)
                break
            writer.write(_HEAD % (b"application/json", _LENGTH % len(WHOLE)) + WHOLE)
    writer.transport.abort()


async def flood(writer: asyncio.StreamWriter, asked: str) -> None:
    """Send for as long as the other side reads."""
    if asked == "answer":
        writer.write(_HEAD % (b"application/json", _LENGTH % LARGE) + b'{"x": "')
    else:
        writer.write(_HEAD % (b"text/event-stream", b"connection: close") + b"data: ")
    for _ in range(LARGE // len(PIECE)):
        writer.write(PIECE)
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]), limit=2**25)
    print("ready", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
