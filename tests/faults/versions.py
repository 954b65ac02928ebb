"""Versions that must not serve, as they reach a fleet past `adapter add`."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fleet.config.files.lockfile import lock_text, parse_lock
from fleet.names import AdapterName
from runtime.library.layout import folder_digest
from tests.faults.actions import APPLY, LOCK, RECONCILE, Person, declare, restore_files
from tests.faults.stage import OTHER, SUPPORT, Stage
from tests.runtime.library import synthetic


def pinned(stage: Stage, change: Callable[[Path], None]) -> Person:
    """Put an adapter into library and lock by hand, declare and apply it."""
    name = AdapterName.parse("acme-support-tiny-v9.0.0")
    folder = stage.file("models/adapters/acme/support-v9.0.0")
    shutil.copytree(stage.library(SUPPORT), folder)
    change(folder)
    lock = parse_lock(stage.file(LOCK).read_text("utf-8"))
    facts = {
        "digest": folder_digest(folder),
        "rank": json.loads((folder / "adapter_config.json").read_text("utf-8"))["r"],
        "bytes": (folder / "adapter_model.safetensors").stat().st_size,
    }
    entry = lock.adapters[SUPPORT].model_copy(update=facts)
    stage.file(LOCK).write_text(lock_text(lock.with_adapter(name, entry)), encoding="utf-8")
    declare(stage, "9.0.0")
    stage.run(*APPLY)
    return restore_files


def of_tiny(stage: Stage, rank: int = 8) -> synthetic.Tensors:
    shape = parse_lock(stage.file(LOCK).read_text("utf-8")).bases["tiny"]
    return synthetic.tensors(rank, base=shape, layers=range(shape.num_hidden_layers))


def not_a_number(stage: Stage) -> Person:
    def change(folder: Path) -> None:
        content = of_tiny(stage)
        next(iter(content.values()))[0, 0] = np.nan
        synthetic.write(folder, synthetic.config(8), synthetic.safetensors(content))

    return pinned(stage, change)


def zeros(stage: Stage) -> Person:
    def change(folder: Path) -> None:
        content = {
            name: values * (0 if "lora_B" in name else 1) for name, values in of_tiny(stage).items()
        }
        synthetic.write(folder, synthetic.config(8), synthetic.safetensors(content))

    return pinned(stage, change)


def rank(stage: Stage) -> Person:
    def change(folder: Path) -> None:
        content = synthetic.safetensors(of_tiny(stage, 32))
        synthetic.write(folder, synthetic.config(32), content)

    return pinned(stage, change)


def wrong_base(stage: Stage) -> Person:
    def change(folder: Path) -> None:
        synthetic.adapter(folder)

    return pinned(stage, change)


def golden_gate(stage: Stage) -> Person:
    """A version that its golden set rejects; the old answers alone are right."""
    declare(stage, "2.4.0", "gated")
    stage.run(*APPLY)
    stage.run(*RECONCILE)
    return let_go


def let_go(stage: Stage) -> None:
    """Put the declarations back, and forget the rejection, which other faults would meet."""
    stage.restore_files()
    stage.run("release", "acme-support", "--reason", "scorecard")


def no_gate(stage: Stage) -> Person:
    """A worse version without a gate gets its first share; a person takes it back."""
    stage.client.allowed["acme-support"].add(OTHER)
    declare(stage, "2.4.0")
    stage.run(*APPLY)

    def take_back(stage: Stage) -> None:
        stage.run("rollback", "acme-support", "--reason", "wrong answers")
        let_go(stage)

    return take_back
