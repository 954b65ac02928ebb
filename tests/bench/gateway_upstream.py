"""What answers behind all candidates of `tests.bench.gateway`, on one port.

Whole answers come from nginx where it is installed (Debian: `apt-get install nginx-light`), for a
server in Python leaves too little of its core to the clients; streams, and all where there is no
nginx, come from `gateway_stub`. The two take turns on the port.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.gateway_candidates import AROUND, process, stub
from tests.bench.gateway_stub import WHOLE
from tests.ports import free_port

_CONFIG = """
daemon off; master_process off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
  access_log off; server_tokens off; keepalive_requests 1000000000; keepalive_timeout 300s;
  client_max_body_size 16m; client_body_buffer_size 64k; default_type application/json;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port} backlog=1024; location / {{ return 200 '{answer}'; }} }}
}}
"""


def nginx() -> str | None:
    """Return the program; None: it is not installed."""
    path = os.pathsep.join((os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"))
    return shutil.which("nginx", path=path)


@dataclass
class Upstream:
    """The one that answers now; `play` says which."""

    folder: Path
    port: int = field(default_factory=free_port)
    playing: str = ""
    _running: ExitStack = field(default_factory=ExitStack)

    @classmethod
    @contextmanager
    def running(cls, folder: Path) -> "Iterator[Upstream]":
        """Give it; nothing answers yet."""
        made = cls(folder)
        with ExitStack() as stack:
            stack.callback(made._running.close)
            yield made

    def play(self, *, streams: bool, delay_ms: int = 0) -> bool:
        """Have streams or whole answers answered; return whether another one does so now.

        Whole answers that take a while come from Python too.
        """
        program = None if streams or delay_ms else nginx()
        slow = f", after {delay_ms} ms" if delay_ms else ""
        wanted = f"Python{slow}" if program is None else version(program)
        if wanted == self.playing:
            return False
        self._running.close()
        playing = stub(self.port, delay_ms) if program is None else self._nginx(program)
        self._running.enter_context(playing)
        self.playing = wanted
        return True

    @contextmanager
    def _nginx(self, program: str) -> Iterator[int]:
        config = self.folder / "nginx.conf"
        text = _CONFIG.format(folder=self.folder, port=self.port, answer=WHOLE.decode())
        config.write_text(text, encoding="utf-8")
        command = [program, "-p", str(self.folder), "-c", str(config)]
        with process(command, self.port, self.folder / "nginx.log", AROUND) as pid:
            yield pid


def version(program: str) -> str:
    """Return its name and version, such as `nginx/1.26.3`."""
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=True).stderr
    return told.partition(":")[2].split()[0]
