"""Attacks on evidence by a writer of the ledger, the logs and the answers without the key.

Each is noticed by `evidence verify`; where the local copy of the ledger is gone too, a cut is found
by a hash that was kept elsewhere alone.
"""

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from fleet.gates import Verdict, judge_live
from fleet.gates.rows import Tally, Window
from fleet.history import Entry, GateJudged, LedgerEvent, Signature
from fleetctl.wiring import open_workspace
from runtime.ledger import chain
from runtime.ledger.chain import KEY_FILE, EntrySigner
from runtime.ledger.file import LEDGER_FILE
from runtime.ledger.replica import MIRROR_FILE
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project
from tests.runtime.gates.test_evidence import ERRORS, NOON, golden_set, judged, logged
from tests.runtime.gates.test_recount import END, found, rewritten, usual
from tests.runtime.gateway.stage import NEW, OLD, replica


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state folder with a verdict on traffic and one on a golden set, both signed."""
    root = tmp_path_factory.mktemp("sound")
    state = root / ".fleetctl"
    workspace = open_workspace(root, None, {}, state)
    logged(state, *usual())
    golden_set(state, {"regex": {}})

    async def answers() -> None:
        async with replica(OLD, NEW) as ours:
            result = await judged(state, ours.url)
        workspace.ledger.open().append(result.events)
        workspace.ledger.open().append([gate.event(NOON) for gate in result.judged])

    asyncio.run(answers())
    workspace.ledger.open().append([found(state)])
    workspace.ledger.open().append([passed(), found(state)])
    assert len(workspace.ledger.open().read()) == 6
    return root


def passed() -> GateJudged:
    """Return a PASS of a stage before."""
    finding = judge_live(ERRORS, [Window(NOON, NOON, Tally(500), Tally(500))])
    assert finding.verdict is Verdict.PASS
    return replace(
        GateJudged("acme-support", NEW, "errors", finding.plain(), stable=OLD, percent=10),
        since=NOON - timedelta(days=2),
    )


@pytest.fixture
def project(sound: Path, tmp_path: Path) -> Project:
    shutil.copytree(sound, tmp_path / "project")
    return Project(tmp_path / "project", ())


def state_of(project: Project) -> Path:
    return project.root / ".fleetctl"


def verified(project: Project, *more: str) -> Done:
    return call(project, "evidence", "verify", *more)


def lines_of(state: Path) -> list[bytes]:
    return (state / LEDGER_FILE).read_bytes().splitlines(keepends=True)


def write(state: Path, lines: Sequence[bytes]) -> None:
    (state / LEDGER_FILE).write_bytes(b"".join(lines))


def rechain(
    state: Path,
    change: Callable[[list[Entry]], Sequence[Entry]],
    *,
    signer: EntrySigner | None = None,
) -> None:
    """Write entries anew with right hashes and the signatures that they had; no copy is left."""
    entries = change(list(chain.entries((state / LEDGER_FILE).read_bytes(), "ledger")))
    made, previous = list[bytes](), ""
    for seq, entry in enumerate(entries, 1):
        kept = Kept(state, state, its=entry.signature) if signer is None else signer
        line, previous = chain.line(replace(entry, seq=seq, previous=previous), kept)
        made.append(line)
    write(state, made)
    (state / MIRROR_FILE).unlink(missing_ok=True)


@dataclass(frozen=True)
class Kept(EntrySigner):
    """Leaves an entry its signature, whatever the entry says now."""

    its: Signature | None = None

    def signature(self, event: LedgerEvent, digest: bytes) -> str:
        del event, digest
        return f"{self.its.key}:{self.its.value}" if self.its else ""


def last_changed(change: Callable[[GateJudged], GateJudged]) -> Callable[[Path], None]:
    """Return an attack that changes the last verdict."""

    def attack(state: Path) -> None:
        def changed(entries: list[Entry]) -> list[Entry]:
            event = entries[-1].event
            assert isinstance(event, GateJudged)
            return [*entries[:-1], replace(entries[-1], event=change(event))]

        rechain(state, changed)

    return attack


def with_finding(event: GateJudged, windows: Sequence[Window], **limits: float) -> GateJudged:
    """Return the verdict with others' counts or limits, from which it follows."""
    gate = replace(ERRORS, threshold=limits.get("margin", ERRORS.threshold))
    return replace(event, finding=judge_live(gate, windows).plain())


FAILED = [Window(NOON, END, Tally(12, {"errors": 12}), Tally(30), 50)]
NONE_FAILED = [Window(NOON, END, Tally(500), Tally(500), 50)]


def flip(state: Path) -> None:
    lines = lines_of(state)
    lines[2] = lines[2].replace(b"PASS", b"FAIL", 1)
    write(state, lines)


def swap(state: Path) -> None:
    lines = lines_of(state)
    write(state, [*lines[:2], lines[3], lines[2], *lines[4:]])


def cut(state: Path) -> None:
    write(state, lines_of(state)[:-1])


def answers(state: Path) -> None:
    for run in (state / "evals").glob("*.jsonl"):
        text = run.read_text("utf-8")
        run.write_text(text.replace('"score":1.0', '"score":0.0', 1) + " ", "utf-8")


def forged_pass(state: Path) -> None:
    rechain(state, lambda entries: [*entries, replace(entries[-1], event=passed(), line=b"")])


def no_signature(state: Path) -> None:
    rechain(state, lambda entries: [replace(entry, line=b"") for entry in entries])


def others_key(state: Path) -> None:
    stranger = state.parent / "stranger"
    rechain(state, lambda entries: entries, signer=EntrySigner(stranger, stranger))


ATTACKS: dict[str, tuple[Callable[[Path], object], str]] = {
    "flip": (flip, "was changed after it was written"),
    "delete": (lambda s: write(s, [*lines_of(s)[:2], *lines_of(s)[3:]]), "does not follow"),
    "swap": (swap, "does not follow the line before it"),
    "replay": (lambda s: write(s, [*lines_of(s), lines_of(s)[-2]]), "does not follow"),
    "truncate": (cut, "lacks some of the 6 that were once read of it"),
    "forged PASS": (forged_pass, "gate_judged: it is not signed"),
    "rechained old PASS": (
        lambda s: rechain(s, lambda e: [*e, e[4]]), "its signature is of another entry",
    ),
    "zeroed counts": (
        last_changed(lambda e: with_finding(e, NONE_FAILED)),
        "it says bad 0, and a recount gives 12",
    ),
    "deleted rows": (
        lambda s: rewritten(s, lambda lines: lines[:-9]), "usage rows, and 8 of them are gone",
    ),
    "edited rows": (
        lambda s: rewritten(s, lambda lines: [line.replace("500", "200") for line in lines]),
        "82 usage rows, and they are others now",
    ),
    "edited answers": (answers, "was changed after it was written"),
    "widened margin": (
        last_changed(lambda e: with_finding(e, FAILED, margin=100.0)), "signature is of another",
    ),
    "swapped digest": (
        last_changed(lambda e: replace(e, digests={**e.digests, "adapter": "sha256:" + "0" * 64})),
        "its signature is of another entry",
    ),
    "shifted times": (
        lambda s: rechain(s, lambda e: [replace(i, time=i.time + timedelta(days=2)) for i in e]),
        "its signature is of another entry",
    ),
    "signatures left out": (no_signature, "gate_judged: it is not signed"),
    "all signed anew by another key": (others_key, "which is not accepted"),
}  # fmt: skip


def test_without_an_attack_all_follows(project: Project) -> None:
    done = verified(project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 verdicts follow from their counts; 6 entries in one unbroken chain" in done.stdout
    assert "Signed entries that decide: 6." in done.stderr
    assert "2 verdicts counted again" in done.stderr
    key = state_of(project) / KEY_FILE
    assert key.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("case", ATTACKS)
def test_an_attack_is_noticed(project: Project, case: str) -> None:
    attack, said = ATTACKS[case]
    attack(state_of(project))
    done = verified(project)
    shown = " ".join((done.stdout + done.stderr).split())
    assert (done.returncode, said in shown) == (1, True), shown


def test_a_cut_without_its_copy_is_found_by_a_kept_hash_alone(project: Project) -> None:
    state = state_of(project)
    head = json.loads(verified(project, "--format", "json").stdout)["head"]
    assert verified(project, "--head", head).returncode == 0
    cut(state)
    for copy in state.glob("ledger-as-last-read*"):
        copy.unlink()
    assert verified(project).returncode == 0
    done = verified(project, "--head", head)
    assert (done.returncode, "the ledger was replaced or truncated" in done.stdout) == (1, True)
