"""Servers that failed a client's requests, in the words of `gateway status`."""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fleet.spec import GatewaySpec
from runtime.gateway.admin import state_dir
from runtime.gateway.control import supervisor
from runtime.gateway.control.control import LocalGateways
from tests.fleetctl.gateways.test_gateway_commands import fleetctl, post, status
from tests.ports import free_port
from tests.runtime.gateway.stage import table


class _Ill(BaseHTTPRequestHandler):
    """A server that is healthy by its own word, and fails all requests for answers."""

    def do_GET(self) -> None:
        self._say(200)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say(500)

    def _say(self, code: int) -> None:
        self.send_response(code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def ill() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Ill) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_the_client_whose_requests_alone_failed_is_named(tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"
    with ill() as url:
        state_dir.remember(state, {"main": GatewaySpec("main", f"127.0.0.1:{free_port()}", "")})
        asyncio.run(LocalGateways(state).publish(table({"s1": url})))
        try:
            assert fleetctl(tmp_path, "gateway", "start").exit_code == 0
            shown, deadline = "", time.monotonic() + 60
            while "resting" not in shown:  # for a second at first, then longer
                assert time.monotonic() < deadline, shown
                for _ in range(3):
                    post(status(tmp_path)["url"], "acme-support", "500")
                shown = fleetctl(tmp_path, "gateway", "status").stdout
            told = "it failed their requests alone, which try other servers first"
            assert f"  server s1 is resting for acme: {told}\n" in shown
        finally:
            supervisor.stop(state, "main")
