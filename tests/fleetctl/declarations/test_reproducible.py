"""The same bytes for shuffled declarations, any hash seed, and two versions of Python."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from fleet.packing.solver import available
from tests.drawn import drawn, examples

REPOSITORY = Path(__file__).parents[3]
SECOND = REPOSITORY / ".venv-second" / "bin" / "python"
SHUFFLES = examples(2, 3)
SEEDS = ("1", "random")[-examples(1, 2) :]
EMPTY = {"format": "fleetctl-live", "format_version": "1.0", "resources": []}
ORDERED = {
    "weights": "stages follow each other",
    "smoke": "inputs are asked in this order, and shown in it",
    "retrain": "a command and its arguments",
}
"""Lists whose order is meant; that of all others, and of all mappings, means nothing."""
EVENTS = ["undecided", "rolled_back", "drifted", "drill_failed", "gate_failed"]


def packed_fleets(pythons: list[Path]) -> set[str]:
    """Return what a fleet of 30 is packed to, on each Python."""
    fleet = REPOSITORY / "tests" / "fleet" / "packing" / "instances" / "fleet_30.json"
    return {
        subprocess.check_output(
            [python, "-m", "fleetctl", "pack", str(fleet), "--effort", "proof", "--json"],
            cwd=REPOSITORY, text=True, stderr=subprocess.DEVNULL,
        )
        for python in pythons
    }  # fmt: skip


def shuffled(value: Any, draw: Random) -> Any:
    """Shuffle the keys of all mappings, and all lists but those whose order is meant."""
    if isinstance(value, dict):
        keys = draw.sample(list(value), len(value))
        return {key: value[key] if key in ORDERED else shuffled(value[key], draw) for key in keys}
    if isinstance(value, list):
        return [shuffled(each, draw) for each in draw.sample(value, len(value))]
    return value


def enriched(folder: Path) -> None:
    """Declare everything beside that is a list, or whose order meant something once."""
    path = folder / "fleet.yaml"
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    card = declared["hosts"]["node001"]["devices"]["gpu0"]
    # More than ten, so that `cuda10` comes after `cuda9`; two of them make a server.
    declared["hosts"]["node001"]["devices"] = {f"cuda{each}": card for each in range(11)}
    declared["hosts"]["node002"]["port"] = 11000
    declared["bases"]["qwen3_8b"]["tensor_parallel"] = 2
    declared["bases"]["qwen3_8b"]["flags"] = {"enforce-eager": True, "seed": 7, "block-size": 16}
    for spare, kind in (("node003", "odd_a"), ("node004", "odd_b")):  # one warning each
        odd = {"gpu0": {"kind": kind, "memory": "80GiB"}, "gpu1": {"kind": kind, "memory": "1GiB"}}
        declared["hosts"][spare] = {
            "engine": "fake", "port": 12000 + 10 * int(spare[-1]), "devices": odd,
            "reserved_for": ["rare", "unheard_of"],
        }  # fmt: skip
    declared["tiers"] |= {"rare": {}, "unheard_of": {}}
    declared["rollouts"]["careful"] |= {
        "no_promote": ["Fri 16:00-Mon 08:00", "Wed 12:00-Wed 13:00"]
    }
    declared["notify"] = {"webhook": "env:HOOK", "events": EVENTS}
    declared["compiled_for"] = ["litellm", "envoy"]
    declared["defaults"]["retrain"] = ["python", "train.py", "{alias}", "{folder}"]
    path.write_text(yaml.safe_dump(declared, sort_keys=False), encoding="utf-8")
    path = folder / "clients" / "amber_bank.yaml"
    client = yaml.safe_load(path.read_text(encoding="utf-8"))
    its = client["clients"]["amber_bank"]
    its["notify"] = {"webhook": "env:THEIRS", "events": EVENTS}
    its["keys"] = {"test": "env:TEST_KEY", "prod": "env:PROD_KEY"}
    its["adapters"]["faq"] |= {
        "avoid": ["node004", "node003"],
        "apart": ["birch_labs", "amber_bank-faq2", "cobalt_law"],
        "format": {"labels": ["yes", "no", "perhaps"]},
    }
    path.write_text(yaml.safe_dump(client, sort_keys=False), encoding="utf-8")


def written(folder: Path, original: Path, shuffle: int) -> Path:
    """Write a shuffled copy of a declared fleet and of what is packed."""
    draw = Random(shuffle)  # noqa: S311
    shutil.copytree(original, folder / "fleet")
    for path in sorted((folder / "fleet").rglob("*.yaml")):
        declared = yaml.safe_load(path.read_text(encoding="utf-8"))
        text = yaml.safe_dump(shuffled(declared, draw), sort_keys=False)
        path.write_text(text, encoding="utf-8")
    (folder / "empty.json").write_text(json.dumps(EMPTY), encoding="utf-8")
    items = "\n".join(str(3 + each * 7 % 5) for each in range(24))
    (folder / "classes.bpps").write_text(
        f"24 2 20 10\n-3 2 12\n-1 4 12\n{items}\n", encoding="utf-8"
    )
    head, *rows = vectors()
    text = "\n".join([*head, *draw.sample(rows, len(rows))]) + "\n"
    (folder / "vectors.vbp").write_text(text, encoding="utf-8")
    return folder


def vectors() -> list[Any]:
    """Return the head and the rows of a file that is packed by moves."""
    draw = Random(7)  # noqa: S311
    rows = [" ".join(str(draw.randint(10, 60)) for _ in range(6)) + " 1" for _ in range(30)]
    return [["6", " ".join(["100"] * 6), "30"], *rows]


@drawn
@pytest.mark.needs("second-python")
def test_plans_and_packings_are_the_same_bytes_on_two_pythons(tmp_path: Path) -> None:
    pythons = [Path(sys.executable), SECOND]
    original = tmp_path / "original"
    size = ["--clients", "12", "--adapters", "40", "--gpus", "12", "--seed", "1"]
    subprocess.run(
        [sys.executable, "-m", "fleetctl", "scaffold", "synthetic", *size, str(original)],
        cwd=REPOSITORY, capture_output=True, check=True,
    )  # fmt: skip
    enriched(original)
    folders = [str(written(tmp_path / f"{number}", original, number)) for number in range(SHUFFLES)]
    versions, answers, plans = set(), set(), set()
    running = [
        subprocess.Popen(
            [python, REPOSITORY / "tests" / "fleetctl" / "reproduce.py", *folders], text=True,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
            cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )
        for python in pythons
        for seed in SEEDS
    ]  # fmt: skip
    for process in running:
        output, errors = process.communicate()
        assert process.returncode == 0, errors[-2000:]
        lines = output.splitlines()
        assert len(lines) == SHUFFLES
        plans.add(" ".join(line.split()[0] for line in lines))
        answers |= {line.split(maxsplit=1)[1] for line in lines}
    for python in pythons:
        code = "import sys; print(sys.version_info[:2])"
        versions.add(subprocess.check_output([python, "-c", code], text=True))
    assert len(versions) == 2
    assert len(packed_fleets(pythons)) == 1
    assert len(plans) == 1
    assert len(answers) == 1
    assert len(set(answers.pop().split())) == 4
    assert available()
