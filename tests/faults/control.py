"""Faults of routes, the gateway, the ledger, runs and files of the project."""

import json
import resource
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from typing import Any

from fleet.history import Noted
from runtime.gateway.admin.state_dir import read_table, write_table
from runtime.ledger.file import FileLedger
from tests.faults.actions import (
    ACME,
    APPLY,
    LEDGER,
    LOCK,
    RECONCILE,
    Person,
    allow_better,
    back_to_first,
    declare,
    gateway_killed,
    restore_files,
    void,
)
from tests.faults.stage import DATES, REVIEWS, SUPPORT, Stage
from tests.fleetctl.in_process import Done
from tests.fleetctl.project_on_disk import REPOSITORY


def routes_edited(stage: Stage) -> None:
    file = stage.state / "routes.json"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace(DATES, REVIEWS), encoding="utf-8")


def routes_forged(stage: Stage) -> None:
    """A table with a right seal sends a client to another client's version."""
    table = read_table(stage.state)
    assert table is not None
    other = table.aliases["fjord-reviews"].shares[0]
    forged = table.aliases["corvid-dates"].model_copy(update={"shares": (other,)})
    update = {"aliases": {**table.aliases, "corvid-dates": forged}, "revision": table.revision + 1}
    write_table(stage.state, table.model_copy(update=update))


def routes_older(stage: Stage) -> Person:
    """The table before the last apply comes back from a backup, and the gateway starts with it."""
    file = stage.state / "routes.json"
    older = file.read_bytes()
    stage.edit(ACME, ("base: tiny\n", "base: tiny\n        limits: {concurrency: 500}\n"))
    stage.run(*APPLY)
    assert file.read_bytes() != older
    file.write_bytes(older)
    gateway_killed(stage)
    stage.run("gateway", "start")
    return restore_files


def disk_full(stage: Stage) -> Person:
    """No file of the gateway can grow: rows of usage cannot be written."""
    pid = stage.gateway_pid()
    before = resource.prlimit(pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    return lambda _: void(resource.prlimit(pid, resource.RLIMIT_FSIZE, before))


def start(stage: Stage, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        stage.project.command(*arguments), cwd=REPOSITORY, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


def told(stage: Stage, processes: list["subprocess.Popen[str]"]) -> None:
    """Wait for commands that ran beside this process, and keep what they said."""

    for process in processes:
        said, _ = process.communicate()
        stage.ran.append((APPLY, Done(process.returncode, said, "")))


def clock(stage: Stage) -> Person:
    """Another machine, whose clock is an hour ahead, has written to the ledger."""
    allow_better(stage)
    declare(stage, "2.2.0")
    stage.run(*APPLY)
    ahead = FileLedger(
        stage.state, run="ahead", by="ci", clock=lambda: datetime.now(UTC) + timedelta(hours=1)
    )
    ahead.append([Noted("written by a clock that is ahead")])
    stage.run(*RECONCILE)

    def vouch(stage: Stage) -> None:
        stage.run("release", "acme-support", "--reason", "the clock here is right")
        back_to_first(stage)

    return vouch


def torn_ledger(stage: Stage) -> None:
    """The last line was being written when power went."""
    file = stage.state / LEDGER
    lines = file.read_bytes().splitlines(keepends=True)
    with file.open("ab") as stream:
        stream.write(lines[-1][: len(lines[-1]) // 2])


def altered_ledger(stage: Stage) -> Person:
    file = stage.state / LEDGER
    before = file.read_bytes()
    place = before.rindex(b'"by":"me"', 0, before.rindex(b"\n"))  # of a whole line
    file.write_bytes(before[:place] + b'"by":"us"' + before[place + 9 :])

    def put_back(_: Stage) -> None:
        after = file.read_bytes()
        file.write_bytes(after.replace(b'"by":"us"', b'"by":"me"', 1))

    return put_back


def two_applies(stage: Stage) -> Person:
    allow_better(stage)
    declare(stage, "2.2.0")
    both = [start(stage, *APPLY) for _ in range(2)]
    told(stage, both)
    return back_to_first


def expired_holder(stage: Stage) -> Person:
    """An apply stands still until its lease has been taken over, and then goes on."""
    allow_better(stage)
    declare(stage, "2.2.0")
    late = start(stage, *APPLY[:2], "--yes", "--format", "json")
    assert late.stdout is not None
    for line in late.stdout:
        if json.loads(line)["type"] == "step_begin":
            late.send_signal(signal.SIGSTOP)
            break
    file = stage.state / "lease.json"
    lease = json.loads(file.read_text("utf-8"))
    file.write_text(json.dumps({**lease, "expires": "2020-01-01T00:00:00+00:00"}), "utf-8")
    stage.run(*APPLY)
    late.send_signal(signal.SIGCONT)
    told(stage, [late])
    return back_to_first


def killed_apply(stage: Stage) -> Person:
    """An apply is killed at ten moments, the last of them with something to do for sure."""
    allow_better(stage)
    versions, code = ("2.1.0", "2.2.0"), 0
    for number, moment in enumerate((2, 3, 4, 5, 6, 2, 4, 3, 5, 1, 1, 1)):
        if number >= 10 and code == -signal.SIGKILL:
            break
        stage.edit(ACME, (f'version: "{versions[0]}"', f'version: "{versions[1]}"'))
        versions, seen = versions[::-1], 0

        def when(event: dict[str, Any], at: int = moment) -> bool:
            nonlocal seen
            seen += 1
            return seen == at if at > 1 else event["type"] == "step_begin"

        code = stage.project.stop_during_apply(signal.SIGKILL, when)
    assert code == -signal.SIGKILL, "the last apply was not killed"
    return back_to_first


def altered_lock(stage: Stage) -> Person:
    digest = stage.digest(SUPPORT)
    wrong = digest[:-1] + ("0" if digest[-1] != "0" else "1")
    stage.edit(LOCK, (digest, wrong))
    stage.run(*APPLY)
    return restore_files


def torn_lock(stage: Stage) -> Person:
    file = stage.file(LOCK)
    file.write_bytes(file.read_bytes()[:900])
    stage.run(*APPLY)
    return restore_files


def missing_lock(stage: Stage) -> Person:
    stage.file(LOCK).unlink()
    stage.run(*APPLY)
    return restore_files


def key_gone(stage: Stage) -> Person:
    file = stage.state / "keys" / "corvid-prod"
    text = file.read_bytes()
    file.unlink()

    def put_back(_: Stage) -> None:
        file.write_bytes(text)
        file.chmod(0o600)

    return put_back


def state_lost(stage: Stage) -> Person:
    """The state folder is gone; servers and the gateway run on."""
    keys = {path.name: path.read_bytes() for path in (stage.state / "keys").iterdir()}
    stage.state.rename(stage.state.with_name("lost"))

    def put_keys_back(stage: Stage) -> None:
        (stage.state / "keys").mkdir(parents=True, exist_ok=True)
        for name, content in keys.items():
            (stage.state / "keys" / name).write_bytes(content)

    return put_keys_back


def golden_broken(stage: Stage) -> Person:
    stage.file("golden/support.jsonl").write_text('{"input": \n', encoding="utf-8")
    return restore_files
