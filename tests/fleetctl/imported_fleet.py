"""The fleet of a project that has imported a server of others, with its gateway."""

import re
from pathlib import Path

from tests.fleetctl.in_process import Done, call
from tests.fleetctl.machines.test_server_keys import status
from tests.fleetctl.project_on_disk import Project
from tests.ports import free_port

NAME = "acme-lora"
_CHAT = {"model": NAME, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 2}


class ImportedFleet:
    """A project and the URL of its server, as soon as that is known."""

    def __init__(self, root: Path, server: str = "") -> None:
        self.project, self.server = Project(root, ()), server

    @property
    def declared(self) -> Path:
        """The file that declares the server."""
        return self.project.root / "fleet.yaml"

    @property
    def gateway(self) -> str:
        """The address for clients."""
        (address,) = re.findall(r'listen: "(.*?)"', self.declared.read_text("utf-8"))
        return f"http://{address}"

    @property
    def key(self) -> str:
        """The client's key."""
        return (self.project.root / ".fleetctl/keys/acme-today").read_text("utf-8").strip()

    def take_port(self) -> None:
        """Declare the gateway on a free port."""
        listen = f"127.0.0.1:{free_port()}"
        text = self.declared.read_text("utf-8").replace("127.0.0.1:8080", listen)
        self.declared.write_text(text, encoding="utf-8")

    def ask(self) -> int:
        """Ask through the gateway with the client's key, and return the status."""
        return status(f"{self.gateway}/v1/chat/completions", self.key, _CHAT)

    def restart_gateway(self) -> Done:
        """Stop the gateway and start it anew."""
        self.work("gateway stop")
        return call(self.project, "gateway", "start")

    def work(self, words: str) -> Done:
        """Run a command that has to succeed."""
        done = call(self.project, *words.split())
        assert done.returncode == 0, done.stderr
        return done
