"""A webhook on a free port that keeps what it was sent."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any


@dataclass
class Webhook:
    url: str
    status: int = 200
    documents: list[tuple[str, Any]] = field(default_factory=list)
    """Path and document of each call."""


@contextmanager
def webhook(arrived: Callable[[], object] = lambda: None) -> Iterator[Webhook]:
    """Listen; `arrived` is called before a document is taken."""

    class Listening(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            arrived()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.documents.append((self.path, json.loads(body)))
            self.send_response(made.status)
            self.end_headers()
            self.wfile.write(b"ok")  # as Slack says it

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listening)
    made = Webhook(f"http://127.0.0.1:{server.server_port}")
    running = Thread(target=server.serve_forever, daemon=True)
    running.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        running.join()
