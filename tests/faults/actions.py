"""What several faults do to a fleet."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from tests.faults.stage import BETTER, Stage, wait

Person = Callable[[Stage], None]
"""What a person does besides running commands, such as putting a file back."""
ACME, LOCK, LEDGER = "clients/acme.yaml", "fleet.lock", "ledger.jsonl"
RECONCILE, APPLY = ("reconcile", "--once"), ("apply", "--auto", "--yes")


def restore_files(stage: Stage) -> None:
    stage.restore_files()


def gateway_killed(stage: Stage) -> None:
    pid = stage.gateway_pid()
    os.kill(pid, signal.SIGKILL)
    wait(
        lambda: (
            not Path(f"/proc/{pid}/cmdline").exists()
            or not Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    )


def overwrite(copy: Path, by: Path) -> None:
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (copy / name).chmod(0o644)
        (copy / name).write_bytes((by / name).read_bytes())


def delete(folder: Path) -> None:
    folder.chmod(0o755)
    shutil.rmtree(folder)


def void(_: object) -> None:
    return None


def declare(stage: Stage, version: str, rollout: str = "quick") -> None:
    stage.edit(
        ACME, ('version: "2.1.0"', f'version: "{version}"'),
        ("base: tiny\n", f"base: tiny\n        rollout: {rollout}\n"),
    )  # fmt: skip


def allow_better(stage: Stage) -> None:
    stage.client.allowed["acme-support"].add(BETTER)


def back_to_first(stage: Stage) -> None:
    stage.run("rollback", "acme-support", "--reason", "back to where it was")
    stage.restore_files()
    stage.run("release", "acme-support", "--reason", "scorecard")
    stage.run(*APPLY)
