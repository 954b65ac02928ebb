"""An HTTP server whose answers are those of a function: the ground of the stand-ins of forges."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Answer:
    """Status, document or bytes, and headers."""

    status: int
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)


Answering = Callable[[str, str, dict[str, str], Mapping[str, str], Any], Answer]
"""Answer to method, path, query, headers and document."""


@contextmanager
def serve(answering: Answering) -> Iterator[str]:
    """Serve on a port of its own, and give the address."""

    class Handler(_Handler):
        answer = staticmethod(answering)

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    answer: Answering

    def log_message(self, *_: object) -> None:
        """Print nothing."""

    def _reply(self) -> None:
        asked = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        length = int(self.headers["Content-Length"] or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        reply = self.answer(self.command, asked.path, query, dict(self.headers), body)
        content = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)


for _method in ("GET", "POST", "PUT", "PATCH"):
    setattr(_Handler, f"do_{_method}", _Handler._reply)
