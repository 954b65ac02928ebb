"""A part of a round that fails ends itself, and neither the round nor the loop."""

import asyncio
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from fleet.alerting import failed_drill
from fleet.errors import FleetError, LockHeldError
from fleet.history import Audience, CostTermsChanged, History
from fleet.resources import State
from fleet.spec import NotifyEvent, NotifySpec
from fleetctl.wiring import open_workspace
from runtime.ledger.outbox import LedgerOutbox
from runtime.messages import FailureMessage, Message
from runtime.operations.change.apply import record_cost_terms
from runtime.operations.notify import Recipient, notify
from runtime.operations.rounds.reconcile import Reconciler
from runtime.operations.rounds.rounds import RoundParts
from runtime.operations.rounds.watch import Watcher
from runtime.workspace import LedgerContext, Workspace
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.watch.test_watch import project, write_rows
from tests.fleetctl.webhook import webhook

GATES = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
MARS = {"currency": "EUR", "timezone": "Mars/Olympus", "idle": "reserved", "storage": 0}
"""Terms of costs in a zone that there is not: a KeyError of Python's own."""


class NoOutbox(LedgerContext):
    """A ledger whose outbox raises."""

    def outbox(self, *_: Any, **__: Any) -> LedgerOutbox:
        raise KeyError("sk-secret")


class WithoutOutbox(Workspace):
    """A project whose outbox, which notices and drills write to, raises."""

    @cached_property
    def ledger(self) -> LedgerContext:
        return NoOutbox(self, lambda: self.project.home)


class NoHistory(LedgerContext):
    """A ledger that cannot be folded."""

    def history(self) -> History:
        raise KeyError("sk-secret")


class WithoutHistory(Workspace):
    """A project whose ledger cannot be folded."""

    @cached_property
    def ledger(self) -> LedgerContext:
        return NoHistory(self, lambda: self.project.home)


def opened(made: Project, kind: type[Workspace] = Workspace) -> tuple[Workspace, list[str]]:
    """Return the workspace of a project, and the list of what will be emitted, as text."""
    told = list[str]()
    sound = open_workspace(made.root, "fake", {}, made.root / ".fleetctl")
    values = {each.name: getattr(sound, each.name) for each in fields(Workspace) if each.init}
    return kind(**{**values, "emit": lambda message: told.append(str(message))}), told


@pytest.fixture
def drilled(tmp_path: Path) -> Iterator[Project]:
    """A fleet with a notice to give and a drill that is due."""
    made = Project.copy(tmp_path / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text("utf-8")
    assert GATES in text
    text = text.replace(GATES, "careful: {weights: [100%], bake: 1s, retain: 7d, drill: 30d}")
    fleet.write_text(f"{text}\nnotify: {{webhook: http://127.0.0.1:9/ops}}\n", "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    yield made
    made.clean_up()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(disk)]
    done = subprocess.run(mount, check=False, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"root may mount no disk here: {done.stderr.strip()}")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def fill(file: Path) -> None:
    """Write a file until its disk is full."""
    with file.open("wb", buffering=0) as stream, suppress(OSError):
        while stream.write(b"\0" * 4096):
            pass


@pytest.mark.needs("root")
def test_a_round_on_a_full_disk_tells_people_and_says_what_to_do(
    small_disk: Path, tmp_path: Path
) -> None:
    """Before: FC5021 `choose a folder that exists`, 0 alerts on stdout, 0 notices."""
    with webhook() as hook:
        made = project(tmp_path, f"{{webhook: {hook.url}/ops, events: [alert]}}")
        state = "--state-dir", str(small_disk / "state")
        (small_disk / "state").mkdir(mode=0o700)
        write_rows(made, sick_quarters=4)
        log = made.root / ".fleetctl/gateways/main/usage.jsonl"
        kept = small_disk / "state/gateways/main/usage.jsonl"
        kept.parent.mkdir(parents=True)
        kept.write_bytes(log.read_bytes())
        assert call(made, *state, "watch", "--once").returncode == 2
        (small_disk / "state/alerts.json").unlink()
        hook.documents.clear()
        fill(small_disk / "filler")
        full = call(made, *state, "watch", "--once")
        (small_disk / "filler").unlink()
        healed = call(made, *state, "watch", "--once")
    said = " ".join(full.stderr.split())
    assert full.returncode == 1
    assert "This ended the record of alerts, and nothing else." in said
    assert "No space left on device. Make room on that disk" in said
    assert ("choose a folder" in said, "acme-support" in full.stdout) == (False, True)
    assert healed.returncode == 2, healed.stderr


def test_alerts_that_cannot_be_written_down_are_still_told(tmp_path: Path) -> None:
    with webhook() as hook:
        made = project(tmp_path, f"{{webhook: {hook.url}/ops, events: [alert]}}")
        write_rows(made, sick_quarters=4)
        (made.root / ".fleetctl/alerts.json").mkdir()
        done = call(made, "watch", "--once")
        notices = [path for path, _ in hook.documents]
    assert (done.returncode, "FC5021" in done.stderr, notices) == (1, True, ["/ops"])


def test_whatever_ends_a_part_is_reported_and_the_next_one_runs() -> None:
    told: list[Message | FailureMessage] = []
    parts, done = RoundParts(told.append), list[str]()
    no_host = FleetError.of("FC5011", "No such resource", "No host.")
    full = OSError(28, "No space left on device", "/a")
    for error in (ValueError("sk-secret"), full, no_host, None):
        with parts.part("the notices"):
            if error is not None:
                raise error
            done.append("last")
    codes = [p.code for made in told if isinstance(made, FailureMessage) for p in made.diagnostics]
    assert (codes, done, parts.exit_code) == (["FC1311", "FC1015", "FC5011"], ["last"], 1)
    assert "sk-secret" not in repr(told)


def test_a_drill_and_notices_that_raise_end_themselves_and_no_round(drilled: Project) -> None:
    """Before, a KeyError of the drill ended the round: 0 terms of costs, 0 rows ingested."""
    workspace, told = opened(drilled, WithoutOutbox)
    rounds = Reconciler(lambda *_: lambda _: None, lambda _: None)
    code = asyncio.run(rounds.run(workspace, None))
    failed = [text for text in told if "FC1311" in text]
    assert (code, len(failed)) == (1, 2), told
    assert "This ended the drills, and nothing else. KeyError at " in failed[0]
    assert "This ended the notices, and nothing else. KeyError at " in failed[1]
    assert "sk-secret" not in "".join(told)


def test_a_lease_that_another_run_holds_ends_the_round_all_the_same() -> None:
    parts = RoundParts(lambda _: None)
    with pytest.raises(LockHeldError), parts.part("the drills"):
        raise LockHeldError.of("FC5105", "Another run holds the fleet")


def test_terms_of_costs_that_raise_are_a_warning_with_a_code(tmp_path: Path) -> None:
    """Before, a KeyError ended an apply that had done all its work, and a round."""
    made = Project.copy(tmp_path / "project", None)
    workspace, told = opened(made, WithoutHistory)
    record_cost_terms(workspace, State({}))
    (line,) = told
    assert "terms of costs were not recorded: fleetctl itself failed [FC1311]: KeyError at" in line


def test_forecasts_that_raise_are_told_in_each_round_and_end_no_others(drilled: Project) -> None:
    """Before, the error was told once an hour, else exit code 0; alerts on costs ended."""
    workspace, told = opened(drilled)
    workspace.ledger.open().append([CostTermsChanged({"fleet": MARS})])
    watcher = Watcher(str)
    for _ in range(2):
        asyncio.run(watcher.look(replace(workspace)))
        assert watcher.exit_code == 1
    assert sum("This ended the projected costs, and nothing else." in text for text in told) == 2


def test_a_forecast_that_cannot_be_made_is_told(drilled: Project) -> None:
    """Before, the error was not told: 0 lines. The warning has its code, and no part has failed."""
    workspace, told = opened(drilled)
    workspace.ledger.open().append([CostTermsChanged({"fleet": {"currency": "EUR"}})])
    watcher = Watcher(str)
    asyncio.run(watcher.look(replace(workspace)))
    (line,) = [text for text in told if "forecast" in text]
    assert (watcher.exit_code, "no forecast in this hour:" in line) == (0, True)
    assert "[FC6089]" in line


def test_a_usage_store_that_cannot_be_read_hides_no_outage(drilled: Project) -> None:
    """Before, the error FC6065 of the usage store ended the look, with 0 alerts and no message."""
    store = drilled.root / ".fleetctl/usage/usage.sqlite"
    store.parent.mkdir(exist_ok=True)
    store.write_bytes(b"no store" * 1000)
    drilled.kill_servers()
    done = call(drilled, "watch", "--once")
    assert done.returncode == 1
    assert "the server has ended" in done.stdout, done.stderr


def test_a_recipient_whose_notice_raises_keeps_it_from_no_other(tmp_path: Path) -> None:
    """Before, a KeyError ended the notices, and 0 of 1 others were recorded."""
    with webhook() as hook:
        made = project(tmp_path, f"{{webhook: {hook.url}/ops}}")
        workspace, _ = opened(made)
        sound = workspace.render_notice

        def render(event: NotifyEvent, audience: Audience, *more: Any) -> Mapping[str, Any]:
            if audience == "client":
                raise KeyError("sk-secret")
            return sound(event, audience, *more)

        workspace.render_notice = render
        to = [
            Recipient("client acme", "client", NotifySpec(f"{hook.url}/acme")),
            Recipient("operators", "operators", NotifySpec(f"{hook.url}/ops")),
        ]
        about = failed_drill("acme-support", "", ["no answer"], workspace.now())
        sent = notify(workspace, workspace.ledger.outbox(), about, to)
        (line,) = asyncio.run(sent)
        assert [path for path, _ in hook.documents] == ["/ops"]
    assert line == "the notice to client acme was not delivered: fleetctl itself failed [FC1311]"
    assert [entry.event.kind for entry in workspace.ledger.open().read()] == ["notified"] * 2
