"""A peer with an OpenAI-compatible face that answers what a test writes down for it."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

from fleet.evals.golden_set import GoldenSet, read_golden_set
from fleet.evals.run import EvalTarget
from runtime.evals.context import EvalContext
from runtime.evals.store import EvalStore

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
STABLE, CANARY = "acme-support-tiny-v1.0.0", "acme-support-tiny-v1.1.0"
Say = Callable[[str, str, int], Any]
"""Takes model, question and how often it was asked; returns a text, a status, or a document."""


@dataclass
class Peer:
    """What a scripted server was asked, and who it says it is."""

    say: Say
    url: str = ""
    fingerprint: str = "engine-1"
    answers_as: str = ""
    """The name it answers under; empty: the one that was asked for."""
    asked: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    waiting: list[int] = field(default_factory=lambda: [0])
    """Requests in its queue at one look after another; the last one stays."""
    most_at_once: int = 0
    under_way: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reply(self, body: dict[str, Any], headers: dict[str, str]) -> tuple[int, Any]:
        question = body.get("prompt") or body["messages"][-1]["content"]
        with self.lock:
            times = sum(_question(each) == question for each in self.asked)
            self.asked.append(body)
            self.headers.append(headers)
            self.under_way += 1
            self.most_at_once = max(self.most_at_once, self.under_way)
        try:
            said = self.say(body["model"], question, times)
        finally:
            with self.lock:
                self.under_way -= 1
        if isinstance(said, int):
            return said, {"error": {"message": f"status {said}"}}
        if isinstance(said, dict):
            return 200, said
        choice: dict[str, Any] = {"finish_reason": "stop"}
        choice |= {"text": said} if "prompt" in body else {"message": {"content": said}}
        return 200, {
            "model": self.answers_as or body["model"],
            "system_fingerprint": self.fingerprint,
            "choices": [choice],
            "usage": {"completion_tokens": len(said.split())},
        }


def _question(body: dict[str, Any]) -> str:
    return str(body.get("prompt") or body["messages"][-1]["content"])


@contextmanager
def peer(say: Say) -> Iterator[Peer]:
    """Serve on a free port while the block runs."""
    made = Peer(say)

    class Answering(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            waiting = made.waiting.pop(0) if len(made.waiting) > 1 else made.waiting[0]
            text = f'vllm:num_requests_waiting{{model_name="tiny"}} {waiting}.0\n'
            self.send_response(200)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            body = json.loads(self.rfile.read(length))
            status, document = made.reply(body, dict(self.headers))
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def target(server: Peer, adapter: str = STABLE) -> EvalTarget:
    return EvalTarget(server.url, adapter, adapter, f"digest of {adapter}", "acme-support")


def golden(*items: dict[str, Any]) -> GoldenSet:
    content = "".join(json.dumps(each) + "\n" for each in items).encode()
    return read_golden_set(content, "golden/x.jsonl")


def simple(number: int) -> GoldenSet:
    """Questions `q0`, `q1`, ... whose right answers are `a0`, `a1`, ..."""
    return golden(*({"id": f"i{n}", "input": f"q{n}", "expected": f"a{n}"} for n in range(number)))


def eval_context(folder: Path) -> EvalContext:
    ids = count(1)
    return EvalContext(
        EvalStore(folder / "evals"), lambda: NOON, lambda: f"run{next(ids)}", folder, SECRETS.get
    )


SECRETS = {"env:JUDGE": "s3cret"}
