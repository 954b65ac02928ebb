"""A gate that fails takes the traffic back while the ledger cannot be written, read or believed."""

import fcntl
import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from fleet.history import LedgerEvent, Noted, event_of
from runtime.gateway.admin.state_dir import read_table
from runtime.ledger.file import FileLedger
from runtime.ledger.replica import MIRROR_FILE
from tests.fleetctl import impatient
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

OLD, NEW = "acme-support-tiny-v2.1.0", "acme-support-tiny-v2.2.0"
LOUD = "THE LEDGER CANNOT BE READ"
GLOBE = {"alias": "globe-language"}
PACE = "careful: {weights: [50%, 100%], bake: 1h, gates: [form]}"
GATES = "\ngates: {form: {metric: format_drop, max: 30pp, min_requests: 5}}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    yield from made_with_bad_version(tmp_path_factory.mktemp("fleet"))


def made_with_bad_version(folder: Path, more: str = "") -> Iterator[Project]:
    """Yield the quickstart fleet; half of acme-support is on a version that breaks its format."""
    made = Project.copy(folder / "project", None)
    fleet, acme = made.root / "fleet.yaml", made.root / "clients/acme.yaml"
    text = fleet.read_text(encoding="utf-8")
    before = "careful: {weights: [10%, 50%, 100%], bake: 24h, retain: 7d, gates: []}"
    assert before in text
    fleet.write_text(text.replace(before, PACE) + GATES + more, encoding="utf-8")
    assert call(made, "gateway", "start").returncode == 0
    assert call(made, "apply", "--auto", "--yes").returncode == 0
    word = ask(made, 0).split()[0]  # it depends on the version's bytes alone
    shown = acme.read_text(encoding="utf-8").replace('"2.1.0"', '"2.2.0"')
    line = "        golden: golden/support"
    form = f'        format: {{regex: "{word}.*"}}\n'
    acme.write_text(shown.replace(line, form + line), encoding="utf-8")
    assert (done := call(made, "apply", "--auto", "--yes")).returncode == 0, done.stderr
    asked(made)
    yield made
    made.clean_up()


def ask(project: Project, number: int) -> str:
    messages = [{"role": "user", "content": "hello"}]
    body = {"messages": messages, "user": f"u{number}"}
    document, _ = project.completion("/v1/chat/completions", body)
    return str(document["choices"][0]["message"]["content"])


def asked(project: Project) -> list[str]:
    return [ask(project, number) for number in range(60)]


def shares(project: Project) -> dict[str, int]:
    table = read_table(project.root / ".fleetctl")
    assert table is not None
    return {each.adapter: each.percent for each in table.aliases["acme-support"].shares}


@contextmanager
def hung(project: Project) -> Iterator[None]:
    handle = os.open(project.root / ".fleetctl/ledger.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        yield
    finally:
        os.close(handle)


def state(project: Project) -> Path:
    return project.root / ".fleetctl"


@contextmanager
def gone(project: Project, instead: Callable[[Path], None]) -> Iterator[None]:
    """Put something else in the place of the ledger, and the ledger back at the end."""
    path = state(project) / "ledger.jsonl"
    aside = path.rename(path.with_suffix(".aside"))
    instead(path)
    try:
        yield
    finally:
        if path.is_dir():
            path.rmdir()
        path.unlink(missing_ok=True)
        aside.rename(path)


@contextmanager
def asking(project: Project) -> Iterator[list[str]]:
    """Ask all the time; give the answers. An error of any kind is raised at the end."""
    answers, failed, stop = list[str](), list[Exception](), threading.Event()

    def run() -> None:
        while not stop.is_set():
            try:
                answers.append(ask(project, len(answers)))
            except Exception as error:  # noqa: BLE001 (raised below)
                failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield answers
    finally:
        stop.set()
        thread.join()
    assert not failed, failed


def kinds(project: Project) -> list[str]:
    lines = (state(project) / "ledger.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(each)["kind"] for each in lines]


def tried_again(project: Project) -> None:
    """Give half of the requests to the version again that was rolled back."""
    assert call(project, "release", "acme-support").returncode == 0
    assert call(project, "apply", "--auto", "--yes").returncode == 0
    assert shares(project) == {NEW: 50, OLD: 50}


def test_a_gate_that_fails_flips_though_nothing_can_be_written(project: Project) -> None:
    assert shares(project) == {NEW: 50, OLD: 50}
    with hung(project):
        done = impatient.run(project, "reconcile", "--once")
        assert shares(project) == {NEW: 0, OLD: 100}
        left = impatient.run(project, "apply", "--auto", "--yes")
    assert done.returncode == 1, done.stderr
    assert f"FAIL form of {NEW} at 50 %" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    assert "Verdicts could not be written down" in " ".join(done.stderr.split())
    assert "No changes. 25 resources are as declared.\nHeld back: acme-support: its" in left.stderr
    status = call(project, "status", "--client", "acme").stdout
    assert "held: 2.2.0" in status
    evidence = json.loads(call(project, "evidence", "list", "--format", "json").stdout)
    assert "FAIL" in json.dumps(evidence)
    assert call(project, "evidence", "verify").returncode == 0
    again = call(project, "reconcile", "--once")
    assert again.returncode == 0, again.stderr
    assert shares(project) == {NEW: 0, OLD: 100}


def test_the_copy_is_the_ledger_and_nobody_elses_to_read(project: Project) -> None:
    assert call(project, "plan").returncode == 0
    copy = state(project) / MIRROR_FILE
    assert copy.read_bytes() == (state(project) / "ledger.jsonl").read_bytes()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_version_that_fails_is_taken_back_while_its_ledger_is_no_file(project: Project) -> None:
    tried_again(project)
    asked(project)
    before = kinds(project)
    with gone(project, Path.mkdir), asking(project) as answers:
        done = call(project, "reconcile", "--once")
        assert shares(project) == {NEW: 0, OLD: 100}
        again = call(project, "reconcile", "--once")
        status = call(project, "status", "--client", "acme")
        queued = sorted((state(project) / "queued").glob("*.json"))
    assert answers
    assert (done.returncode, again.returncode) == (1, 1), done.stderr
    assert LOUD in done.stderr
    assert f"FAIL form of {NEW} at 50 %" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    assert "The ledger's home does not answer" in done.stderr
    assert LOUD in again.stderr
    assert "Rolled back" not in again.stderr
    assert "FAIL form" not in again.stderr
    assert status.returncode == 0, status.stderr
    assert LOUD in status.stdout
    assert "held: 2.2.0" in status.stdout
    said = [json.loads(each.read_bytes()) for each in queued]
    assert [each["kind"] for each in said] == ["gate_judged", "rolled_back", "rollback_checked"]
    assert call(project, "reconcile", "--once").returncode == 0
    assert kinds(project) == [*before, "gate_judged", "rolled_back", "rollback_checked"]
    assert not list((state(project) / "queued").glob("*.json"))
    assert call(project, "evidence", "verify").returncode == 0
    assert "THE LEDGER" not in call(project, "status").stdout


def test_nothing_is_taken_for_the_ledger_that_is_empty_or_was_changed(project: Project) -> None:
    with gone(project, lambda _: None):
        lost = call(project, "reconcile", "--once")
        assert not (state(project) / "ledger.jsonl").exists()
    assert (lost.returncode, LOUD in lost.stderr) == (1, True)
    assert "The ledger is gone" in lost.stderr
    copy = state(project) / MIRROR_FILE
    kept = copy.read_bytes()
    copy.write_bytes(kept.replace(b'"verdict":"FAIL"', b'"verdict":"PASS"', 1))
    with gone(project, Path.mkdir):
        forged = call(project, "reconcile", "--once")
    assert (forged.returncode, LOUD in forged.stderr) == (1, False)
    assert "The ledger's home does not answer" in forged.stderr
    copy.unlink()
    assert call(project, "plan").returncode == 0
    assert copy.read_bytes() == (state(project) / "ledger.jsonl").read_bytes()


def test_a_ledger_that_hangs_raises_nobody_and_takes_back_who_fails(project: Project) -> None:
    tried_again(project)
    reason = ("--reason", "it is urgent")
    assert call(project, "rollout", "advance", "acme-support", *reason).returncode == 0
    assert call(project, "plan").returncode == 0
    with gone(project, os.mkfifo), hung(project):
        healthy = impatient.run(project, "reconcile", "--once")
        assert shares(project) == {NEW: 50, OLD: 50}, "nothing is raised by what was last read"
        assert (healthy.returncode, LOUD in healthy.stderr) == (1, True)
        asked(project)
        done = impatient.run(project, "reconcile", "--once")
        assert shares(project) == {NEW: 0, OLD: 100}
    assert done.returncode == 1
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    assert "no answer " in " ".join(done.stderr.split()).lower()
    assert call(project, "reconcile", "--once").returncode == 0
    assert kinds(project).count("rolled_back") == 3
    assert shares(project) == {NEW: 0, OLD: 100}


def test_a_lost_ledger_comes_back_from_the_copy_with_what_was_queued(project: Project) -> None:
    tried_again(project)
    assert call(project, "plan").returncode == 0
    before, path = kinds(project), state(project) / "ledger.jsonl"
    path.unlink()
    back = call(project, "rollback", "acme-support")
    assert (back.returncode, shares(project)) == (0, {NEW: 0, OLD: 100})
    assert "The ledger is gone" in back.stderr
    assert "it is queued and will be written" in back.stderr
    for _ in range(2):
        lost = call(project, "reconcile", "--once")
        assert (lost.returncode, LOUD in lost.stderr) == (1, True)
        assert not path.exists()
    assert "fleetctl ledger restore" in lost.stderr
    assert call(project, "ledger", "restore").returncode == 0
    assert call(project, "reconcile", "--once").returncode == 0
    assert kinds(project) == [*before, "note", "rolled_back", "rollback_checked"]
    assert "held: 2.2.0" in call(project, "status", "--client", "acme").stdout
    assert call(project, "evidence", "verify").returncode == 0
    assert [each.name for each in state(project).glob("ledger-as-last-read*l")] == [MIRROR_FILE]


def written(project: Project, *events: LedgerEvent, ahead: float = 0) -> None:
    time = datetime.now(UTC) + timedelta(hours=ahead)  # by the clock of its author
    FileLedger(state(project), run="r", by="mallory", clock=lambda: time).append(events)


def test_one_fast_clock_switches_off_no_gate(project: Project) -> None:
    tried_again(project)
    asked(project)
    written(project, Noted("of tomorrow"), ahead=5)
    done = call(project, "reconcile", "--once")
    assert (done.returncode, shares(project)) == (1, {NEW: 0, OLD: 100}), done.stderr
    assert "THE CLOCK IS BEHIND THE LEDGER" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    assert "by mallory is of" in " ".join(done.stderr.split())
    assert kinds(project)[-3:] == ["gate_judged", "rolled_back", "rollback_checked"]
    tried_again(project)
    written(project, Noted("of tomorrow"), ahead=5)
    unsure = call(project, "reconcile", "--once")
    assert (unsure.returncode, kinds(project)[-1]) == (1, "note"), "only a failure is written down"
    assert call(project, "release", "acme-support").returncode == 0  # who answers for the clock


def test_a_forged_verdict_holds_up_its_own_alias_and_saves_nobody(project: Project) -> None:
    lines = map(json.loads, (state(project) / "ledger.jsonl").read_bytes().splitlines())
    *_, true = (line["data"] for line in lines if line["kind"] == "gate_judged")
    forged = {**true, "finding": {**true["finding"], "verdict": "PASS"}, "entry_id": ""}
    written(project, *(event_of("gate_judged", forged | more) for more in ({}, GLOBE)))
    asked(project)
    done = call(project, "reconcile", "--once")
    assert (done.returncode, shares(project)) == (1, {NEW: 0, OLD: 100}), done.stderr
    for alias in ("acme-support", "globe-language"):
        assert f"EVIDENCE OF {alias} WAS TAMPERED WITH" in done.stderr
    assert "Rolled back: acme-support back on 2.1.0" in done.stderr
    again = call(project, "reconcile", "--once")
    assert "EVIDENCE OF acme-support" not in again.stderr  # it was judged anew
    assert (again.returncode, "Evidence was tampered with" in again.stderr) == (1, True)
    assert call(project, "release", "globe-language").returncode == 0
    assert call(project, "reconcile", "--once").returncode == 0
