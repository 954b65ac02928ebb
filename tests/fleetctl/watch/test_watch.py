"""`watch` and `why` on real usage logs: a notice for a cause, once, by all ways."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.webhook import Webhook, webhook

SERVER = "tiny-laptop-cpu0"
QUARTER = timedelta(minutes=15)


@dataclass
class Mailbox:
    """An SMTP server on loopback that keeps what it was sent."""

    port: int = 0
    mails: list[str] = field(default_factory=list)


@contextmanager
def mailbox() -> Iterator[Mailbox]:
    made = Mailbox()

    class Session(StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(b"220 here\r\n")
            while line := self.rfile.readline().upper():
                if line.startswith(b"DATA"):
                    self.wfile.write(b"354 go on\r\n")
                    lines = iter(self.rfile.readline, b".\r\n")
                    made.mails.append(b"".join(lines).decode())
                self.wfile.write(b"221 bye\r\n" if line.startswith(b"QUIT") else b"250 fine\r\n")
                if line.startswith(b"QUIT"):
                    return

    with ThreadingTCPServer(("127.0.0.1", 0), Session) as server:
        made.port = server.server_address[1]
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield made
        server.shutdown()


@pytest.fixture
def hook() -> Iterator[Webhook]:
    with webhook() as made:
        yield made


def project(tmp_path: Path, notify: str) -> Project:
    made = Project.copy(tmp_path / "project", None)
    with (made.root / "fleet.yaml").open("a", encoding="utf-8") as stream:
        stream.write(f"\nnotify: {notify}\n")
    return made


def write_rows(project: Project, sick_quarters: int) -> None:
    """Write six hours of rows up to now: acme-support gets slow as its neighbour gets busy."""
    now = datetime.now(UTC)
    end = now - timedelta(seconds=now.timestamp() % 900)
    rows = list[dict[str, object]]()
    for place in range(24):
        sick = place >= 24 - sick_quarters
        start = end - (24 - place) * QUARTER
        loads = {
            "acme-support": (60, 6.0 if sick else 0.5),
            "birch-mail": (600 if sick else 20, 1.0),
        }
        for alias, (count, seconds) in loads.items():
            for number in range(count):
                time = start + timedelta(seconds=850 * number / count)
                rows.append({
                    "time": time.isoformat(timespec="milliseconds"),
                    "request_id": f"{alias}-{place}-{number}", "client": alias.split("-")[0],
                    "alias": alias, "version": f"{alias}-tiny-v2.1.0", "server": SERVER,
                    "status": 200, "latency_s": seconds, "input_tokens": 40, "output_tokens": 60,
                })  # fmt: skip
    log = project.root / ".fleetctl/gateways/main/usage.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def test_a_slow_alias_is_told_once_with_the_neighbour_that_did_it(
    tmp_path: Path, hook: Webhook
) -> None:
    with mailbox() as mails:
        mail = f"{{server: '127.0.0.1:{mails.port}', sender: f@a.example, to: [o@a.example]}}"
        urls = f"webhook: {hook.url}/ops, alertmanager: {hook.url}, mail: {mail}"
        made = project(tmp_path, f"{{{urls}, events: [alert, alert_resolved]}}")
        quiet = call(made, "watch", "--once")
        assert (quiet.returncode, quiet.stdout) == (0, "No alert stands.\n"), quiet.stderr
        write_rows(made, sick_quarters=4)
        found = call(made, "watch", "--once", "--format", "json")
        assert found.returncode == 2, found.stderr
        again = call(made, "watch", "--once")
    alerts = [alert for alert in json.loads(found.stdout) if not alert["silenced_by"]]
    (slow,) = (alert for alert in alerts if alert["phase"] == "firing")
    assert (slow["rule"], slow["subject"]) == ("slow", "acme-support")
    assert (slow["cause"]["kind"], slow["cause"]["subject"]) == ("load", "birch-mail")
    assert slow["command"] == "fleetctl why acme-support"
    told = [document for path, document in hook.documents if path == "/ops"]
    assert [document["event"] for document in told] == ["alert"]
    assert "the load of its neighbour birch-mail rose" in told[0]["text"]
    (posted, *_) = (document for path, document in hook.documents if path == "/api/v2/alerts")
    labels = [alert["labels"]["alertname"] for alert in posted]
    assert "slow" in labels
    (mailed,) = mails.mails
    assert "Subject: NEEDS YOU: acme-support is slow" in mailed
    assert again.stdout.startswith("URGENT   acme-support is slow: p95 ")


def test_why_names_the_neighbour_with_figures_before_and_after(tmp_path: Path) -> None:
    made = project(tmp_path, "{webhook: 'http://127.0.0.1:9/ops'}")
    write_rows(made, sick_quarters=6)
    found = json.loads(call(made, "why", "acme-support", "--format", "json").stdout)
    assert found["measure"] == "latency"
    assert found["before"]["p95_s"] == pytest.approx(0.5, rel=0.01)
    assert found["after"]["p95_s"] == pytest.approx(6, rel=0.01)
    best = found["causes"][0]
    assert (best["kind"], best["subject"]) == ("load", "birch-mail")
    text = call(made, "why", "acme-support").stdout
    assert "the load of its neighbour birch-mail rose, 1.33 -> 40 requests/min" in text
    unknown = call(made, "why", "acme-supprt")
    assert unknown.returncode == 1
    assert "did you mean" in unknown.stderr.lower()
    assert call(made, "watch", "--once", "--interval", "5s").returncode == 64


def test_a_mail_goes_to_no_host_that_the_operator_has_not_confirmed(tmp_path: Path) -> None:
    mail = "{server: 'mail.evil.test:465', sender: f@a.example, to: [o@a.example]}"
    made = project(tmp_path, f"{{mail: {mail}}}")
    write_rows(made, sick_quarters=4)
    done = call(made, "watch", "--once")
    assert "`mail.evil.test:465` is named by the declarations alone" in done.stderr
