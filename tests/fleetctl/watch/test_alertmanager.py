"""An Alertmanager gets alerts of `watch` and of a Prometheus, and tells people by our routes."""

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest

from plans.compile import prometheus
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.watch.test_watch import SERVER, write_rows
from tests.fleetctl.webhook import Webhook, webhook
from tests.ports import free_port

pytestmark = [pytest.mark.long, pytest.mark.prometheus]
REQUESTS = 60
"""Above the 50 from which Prometheus judges."""
ALIAS = "acme-support"
STANDS = 2


def until(look: Callable[[], Any]) -> Any:
    """Return the first result that is not empty; the test's time limit ends the waiting."""
    while True:
        try:
            if found := look():
                return found
        except (urllib.error.URLError, ConnectionError):
            pass  # the program starts
        threading.Event().wait(0.1)


def rewrite(file: Path, part: str, **times: str) -> None:
    """Set times of a configuration: a test need not wait for half a minute."""
    document = json.loads(file.read_text("utf-8"))
    document[part] |= times
    file.write_text(json.dumps(document), "utf-8")


@dataclass
class Stage:
    """A fleet on the fake engine behind a gateway, and the programs that watch it."""

    made: Project
    hook: Webhook
    folder: Path
    stack: ExitStack
    alertmanager: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    prometheus: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    dashboard: str = field(default_factory=lambda: f"127.0.0.1:{free_port()}")
    gateway: str = ""

    def call(self, *arguments: str, code: int = 0) -> str:
        done = call(self.made, *arguments)
        assert done.returncode == code, done.stderr
        return done.stdout

    def run(self, name: str, *command: str | Path) -> Path:
        """Start a program until the end of the test; return its log."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as stream:
            process = subprocess.Popen(command, stdout=stream, stderr=stream)
        self.stack.callback(process.wait)
        self.stack.callback(process.terminate)
        return log

    def start_alertmanager(self) -> None:
        out = self.folder / "monitoring"
        self.call("compile", "--target", "alertmanager", "--out", str(out))
        rewrite(out / prometheus.ALERTMANAGER_FILE, "route", group_wait="1s", group_interval="1s")
        self.run(
            "alertmanager", "prometheus-alertmanager", "--cluster.listen-address=",
            f"--config.file={out / prometheus.ALERTMANAGER_FILE}",
            f"--web.listen-address={self.alertmanager}", f"--storage.path={self.folder / 'am'}",
        )  # fmt: skip
        until(lambda: ask(f"{self.alertmanager}/api/v2/status"))

    def start_prometheus(self) -> None:
        out, url = self.folder / "monitoring", f"http://{self.dashboard}"
        self.call("compile", "--target", "prometheus", "--out", str(out), "--url", url)
        file = out / prometheus.CONFIG_FILE
        rewrite(file, "global", scrape_interval="1s", evaluation_interval="1s")
        token = self.call("dashboard", "token", "--for", "1d")
        file.with_name(prometheus.TOKEN_FILE).write_text(token, "utf-8")
        log = self.run("dashboard", *self.made.command("dashboard", "--listen", self.dashboard))
        until(lambda: url in log.read_text("utf-8"))  # Prometheus looks for targets once a minute
        self.run(
            "prometheus", "prometheus", f"--config.file={file}",
            f"--web.listen-address={self.prometheus}",
            f"--storage.tsdb.path={self.folder / 'tsdb'}",
        )  # fmt: skip

    def alerts(self, rule: str, **wanted: Any) -> list[Any]:
        """Return the alerts of a rule on acme-support or its server, in a state."""
        return [
            alert
            for alert in ask(f"{self.alertmanager}/api/v2/alerts")
            if alert["labels"]["alertname"] == rule
            and alert["labels"]["subject"] in {ALIAS, f"server/{SERVER}"}
            and wanted.items() <= alert["status"].items()
        ]

    def of_prometheus(self, rule: str) -> Any:
        """Return the alert of a rule once Prometheus, too, has sent it."""
        (alert,) = until(lambda: [a for a in self.alerts(rule) if "generatorURL" in a])
        return alert

    def until_told(self, *texts: str) -> None:
        """Wait for a message with one of the texts."""
        told = self.hook.documents
        until(lambda: [text for text in texts for _, document in told if text in str(document)])

    def told_once(self) -> bool:
        """Say whether no message came twice; Alertmanager decides which alerts are one message."""
        told = [str(document) for _, document in self.hook.documents]
        return len({*told}) == len(told) > 1

    def complete(self) -> int:
        """Ask the gateway for acme, and return the status."""
        key = (self.made.root / ".fleetctl/keys/acme-prod").read_text("utf-8").strip()
        headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        body = json.dumps({"model": ALIAS, "prompt": "No rush.", "max_tokens": 1}).encode()
        url = f"http://{self.gateway}/v1/completions"
        try:
            with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as reply:
                return int(reply.status)
        except urllib.error.HTTPError as error:
            return error.code


def ask(address: str) -> Any:
    with urllib.request.urlopen(f"http://{address}", timeout=30) as reply:
        return json.load(reply)


@contextmanager
def stage(folder: Path) -> Iterator[Stage]:
    with webhook() as hook, ExitStack() as stack:
        made = Project.copy(folder / "project", None)
        stack.callback(made.clean_up)
        ours = Stage(made, hook, folder, stack)
        file = made.root / "fleet.yaml"
        text = file.read_text("utf-8")
        ours.gateway = text.partition('main: {listen: "')[2].partition('"')[0]
        urls = f"webhook: '{hook.url}', alertmanager: 'http://{ours.alertmanager}'"
        file.write_text(f"{text}\nnotify: {{{urls}, events: [ledger_away]}}\n", "utf-8")
        ours.call("gateway", "start")
        ours.call("apply", "--auto", "--yes")
        yield ours


def test_people_are_told_once_of_alerts_of_watch_and_of_prometheus(tmp_path: Path) -> None:
    with stage(tmp_path) as ours:
        ours.start_alertmanager()
        write_rows(ours.made, sick_quarters=4)
        ours.call("watch", "--once", code=STANDS)
        (slow,) = ours.alerts("slow")
        assert (slow["labels"]["server"], "generatorURL" in slow) == (SERVER, False)
        ours.until_told("acme-support is slow: p95")
        ours.start_prometheus()
        assert ours.of_prometheus("slow")["fingerprint"] == slow["fingerprint"]

        assert ours.complete() == HTTPStatus.OK
        ours.made.kill_servers()
        until(lambda: ours.complete() == HTTPStatus.SERVICE_UNAVAILABLE)
        count = f'fleetctl_requests_total{{alias="{ALIAS}",status="503"}}'
        until(lambda: ask(f"{ours.prometheus}/api/v1/query?query={count}")["data"]["result"])
        for _ in range(REQUESTS):
            ours.complete()
        assert ours.of_prometheus("errors")["labels"]["server"] == SERVER
        ours.until_told("acme-support: errors, ")
        assert ours.told_once()

        ours.call("watch", "--once", code=STANDS)
        spoken = [ours.of_prometheus("outage")["fingerprint"]]
        for rule in ("slow", "errors"):
            until(partial(ours.alerts, rule, inhibitedBy=spoken))
        # Both senders speak of one alert: its text is of the one that Alertmanager heard last.
        ours.until_told("8 adapters are gone with it", f"server/{SERVER}: outage")
        assert ours.told_once()
        ours.call("apply", "--auto", "--yes")
        ours.call("watch", "--once", code=STANDS)
        ours.until_told("(resolved)")
