"""A server for `tests.bench.gateway` that answers at once; listens on the port that it is given.

A second argument is a file with the models that it lists; with `--delay-ms` answers take so long.

JSON of 0.6 KB, or where the request asks for a stream 64 events, one every 10 ms, with the token
counts that the request asks for. A look at its metrics says that nobody waits in it.
"""

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any, Final, cast

import httptools
import uvloop

EVENTS: Final = 64
EVERY_S: Final = 0.01
_ENVELOPE: Final[dict[str, Any]] = {"id": "chatcmpl-1", "created": 1, "model": "stub"}
_USAGE: Final = {"prompt_tokens": 210, "total_tokens": 320, "completion_tokens": 110}
WHOLE: Final = json.dumps(
    _ENVELOPE
    | {
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "word " * 80},
                "finish_reason": "stop",
            }
        ],
        "usage": _USAGE,
    }
).encode()
"""A whole answer."""
_JSON: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
_LOAD: Final = b"vllm:num_requests_running 64.0\nvllm:num_requests_waiting 0.0\n"
_STREAM: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


class Stub(asyncio.Protocol):
    """One connection."""

    models = b"{}"
    """The models that the server lists."""
    delay_s = 0.0
    """Time that a whole answer takes."""

    def __init__(self) -> None:
        self.parser = httptools.HttpRequestParser(self)
        self.transport: asyncio.Transport | None = None
        self.url = self.body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def connection_lost(self, _: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.url = self.body = b""

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        start = self.body[-1024:] if len(self.body) > 4096 else self.body
        if self.url == b"/v1/models":
            self.send(_JSON % (len(self.models), self.models))
        elif not self.body:
            self.send(_JSON % (len(_LOAD), _LOAD))
        elif b'"stream":true' in start.replace(b" ", b""):
            self.send(_STREAM)
            counted = b"continuous_usage_stats" in start
            asyncio.get_running_loop().call_later(EVERY_S, self.event, 0, counted)
        elif self.delay_s:
            whole = _JSON % (len(WHOLE), WHOLE)
            asyncio.get_running_loop().call_later(self.delay_s, self.send, whole)
        else:
            self.send(_JSON % (len(WHOLE), WHOLE))

    def event(self, number: int, counted: bool) -> None:  # noqa: FBT001 (for `call_later`)
        if number == EVENTS:
            self.chunk(b"data: [DONE]\n\n")
            self.send(b"0\r\n\r\n")
            return
        document = _ENVELOPE | {
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None}],
        }
        if counted:
            document["usage"] = _USAGE
        self.chunk(b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n")
        asyncio.get_running_loop().call_later(EVERY_S, self.event, number + 1, counted)

    def chunk(self, data: bytes) -> None:
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def send(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Stub, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("models", nargs="?", type=Path)
    parser.add_argument("--delay-ms", type=int, default=0)
    given = parser.parse_args()
    Stub.delay_s = given.delay_ms / 1000
    if given.models:
        Stub.models = given.models.read_bytes()
    uvloop.run(main(given.port))
