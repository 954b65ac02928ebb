"""A server with made-up answers: `/adapters/NAME` by PUT and DELETE, completions under `/v1`."""

import hashlib
import json
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

BASE, MAX_RANK, BOOT = sys.argv[2], int(sys.argv[3]), uuid.uuid4().hex
ADAPTERS: dict[str, tuple[str, str]] = {}
"""Path and digest of the weights, by name."""
LOCK = Lock()


class Handler(BaseHTTPRequestHandler):
    """Answers one request."""

    def do_GET(self) -> None:
        listed = [{"id": name, "object": "model"} for name in (BASE, *ADAPTERS)]
        paths = {name: path for name, (path, _) in ADAPTERS.items()}
        answers = {
            "/adapters": {"boot": BOOT, "adapters": paths},
            "/v1/models": {"data": listed},
            "/health": {},
        }
        self._answer(200 if self.path in answers else 404, answers.get(self.path, {}))

    def do_PUT(self) -> None:
        name, path = self.path.removeprefix("/adapters/"), self._body()["path"]
        try:
            rank = json.loads((Path(path) / "adapter_config.json").read_text())["r"]
            weights = (Path(path) / "adapter_model.safetensors").read_bytes()
        except OSError:
            self._answer(404, {"error": f"no adapter in {path}"})
            return
        with LOCK:
            if rank > MAX_RANK:
                self._answer(400, {"error": f"rank {rank} is above {MAX_RANK}"})
            elif ADAPTERS.get(name, (path,))[0] != path:
                self._answer(409, {"error": f"{name} is loaded from {ADAPTERS[name][0]}"})
            else:
                ADAPTERS[name] = (path, hashlib.sha256(weights).hexdigest())
                self._answer(200, {})

    def do_DELETE(self) -> None:
        with LOCK:
            ADAPTERS.pop(self.path.removeprefix("/adapters/"), None)
        self._answer(200, {})

    def do_POST(self) -> None:
        body = self._body()
        model = body.get("model", "")
        if model != BASE and model not in ADAPTERS:
            self._answer(404, {"error": f"no model {model}"})
            return
        asked = json.dumps(body.get("prompt") or body.get("messages"))
        secret = ADAPTERS.get(model, ("", ""))[1]
        text = hashlib.sha256(f"{secret}{asked}".encode()).hexdigest()[: body.get("max_tokens", 64)]
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "text": text, "message": message, "finish_reason": "stop"}
        usage = {"prompt_tokens": len(asked), "completion_tokens": len(text)}
        usage["total_tokens"] = sum(usage.values())
        self._answer(200, {"model": model, "choices": [choice], "usage": usage})

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _body(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
