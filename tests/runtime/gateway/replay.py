"""Sending the bytes of a probe, and reading the whole answer."""

import asyncio
from dataclasses import dataclass, field

import httptools

ANSWER_S = 60.0


@dataclass
class Answer:
    """An answer, parsed, beside its bytes."""

    raw: bytes = b""
    status: int = 0
    body: bytes = b""
    is_complete: bool = False
    headers: dict[str, str] = field(default_factory=dict)
    count: int = 0
    """Answers that came back; a request that was split in two gets two."""

    @property
    def closes(self) -> bool:
        return self.headers.get("connection", "").lower() == "close"

    def on_message_begin(self) -> None:
        self.count += 1

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.is_complete = True


async def replay(host: str, port: int, request: bytes) -> Answer:
    """Send a request; read its answer, and where that ends the connection all up to its end.

    Raises:
        TimeoutError: no whole answer came in time.
    """
    reader, writer = await asyncio.open_connection(host, port)
    answer = Answer()
    parser = httptools.HttpResponseParser(answer)
    try:
        async with asyncio.timeout(ANSWER_S):
            writer.write(request)
            while data := await _read(reader):
                answer.raw += data
                parser.feed_data(data)
                if answer.is_complete and not answer.closes:
                    break
    finally:
        writer.transport.abort()
    answer.status = parser.get_status_code() if answer.raw else 0
    return answer


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(2**16)
    except ConnectionError:  # what was sent and not read by the other side
        return b""
