"""The example fleets' models are what their records say, and can be made again."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
QUICKSTART = ROOT / "examples" / "quickstart"
LIBRARY = QUICKSTART / "models"
BASE = LIBRARY / "base" / "tiny"
VERSIONS = sorted(path.parent for path in LIBRARY.glob("adapters/*/*-v*/adapter_config.json"))
GOLDEN = sorted(ROOT.glob("examples/*/golden/*.jsonl"))
DEFECTIVE = {
    "acme/support-v2.3.0",
    "acme/support-v2.4.0",
    "corvid/dates-v0.9.0",
    "corvid/dates-v1.2.0",
}


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def record(folder: Path, name: str) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / name).read_text(encoding="utf-8"))
    return read


def version_id(folder: Path) -> str:
    return folder.relative_to(LIBRARY / "adapters").as_posix()


def run_in_training(program: str) -> str:
    """Run a program that imports the training modules, which need no torch as far as data goes."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", program],
        cwd=QUICKSTART / "training",
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


@pytest.mark.parametrize(("base", "home"), [("tiny", "quickstart"), ("smollm2", "smollm2")])
def test_the_golden_sets_are_what_their_seeds_draw(base: str, home: str, tmp_path: Path) -> None:
    run_in_training(
        f"import golden, pathlib; golden.write({base!r}, pathlib.Path({str(tmp_path)!r}))"
    )
    committed = {path.name: path.read_bytes() for path in GOLDEN if path.parts[-3] == home}
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == committed


def test_a_version_is_recorded_with_the_recipe_that_the_roster_gives() -> None:
    told = run_in_training(
        "import json, roster; print(json.dumps({r.folder: [r.generator, r.seed, r.steps, r.batch,"
        " r.learning_rate, r.rank, r.defect] for r in roster.ROSTERS['tiny']}))"
    )
    keys = ("generator", "seed", "steps", "batch", "learning_rate", "rank", "defect")
    recorded = {version_id(f): [record(f, "training.json")[key] for key in keys] for f in VERSIONS}
    assert recorded == json.loads(told)


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_golden_set_has_200_questions_each_once(path: Path) -> None:
    items = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert len(items) == 200
    assert len({item["id"] for item in items}) == 200
    assert len({item["input"] for item in items}) == 200
    assert all(set(item) == {"id", "input", "expected"} for item in items)


@pytest.mark.parametrize("folder", VERSIONS, ids=version_id)
def test_a_version_is_tied_to_its_golden_set_and_its_base(folder: Path) -> None:
    evals, training = record(folder, "evals/golden.json"), record(folder, "training.json")
    assert evals["golden_sha256"] == sha256(QUICKSTART / evals["golden"])
    assert evals["evaluated_on"].startswith("vllm ")
    assert evals["accuracy"] == pytest.approx(evals["correct"] / evals["n"], abs=1e-4)
    assert sum(part["n"] for part in evals["slices"].values()) == evals["n"] == 200
    assert training["base_sha256"] == sha256(BASE / "model.safetensors")
    assert record(folder, "adapter_config.json")["base_model_name_or_path"] == "tiny"


@pytest.mark.parametrize("folder", VERSIONS, ids=version_id)
def test_a_version_is_good_unless_its_record_names_a_defect(folder: Path) -> None:
    accuracy = record(folder, "evals/golden.json")["accuracy"]
    defect = record(folder, "training.json")["defect"]
    assert (defect is not None) == (version_id(folder) in DEFECTIVE)
    assert accuracy < 0.9 if defect else accuracy >= 0.95


def test_there_are_six_good_adapters_of_three_clients_and_they_fit_a_repository() -> None:
    good = [version_id(f) for f in VERSIONS if record(f, "training.json")["defect"] is None]
    tasks = {name.rpartition("-v")[0] for name in good}
    assert len(tasks) >= 6
    assert len({task.partition("/")[0] for task in tasks}) >= 3
    size = sum(path.stat().st_size for path in LIBRARY.rglob("*") if path.is_file())
    assert size <= 5_500_000


@pytest.mark.live
@pytest.mark.proof
def test_an_adapter_trained_again_is_as_accurate_within_two_points(
    tmp_path: Path, vllm_python: Path
) -> None:
    name, version = "evergreen-pii-tiny-v1.2.0", "adapters/evergreen/pii-v1.2.0"
    script = QUICKSTART / "training" / "train.py"
    again = ("--base-folder", BASE, "--out", tmp_path, "--threads", "1")
    for what in ("adapter", "score"):
        done = subprocess.run(
            [vllm_python, script, what, name, *again],
            check=True,
            capture_output=True,
            text=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"},
        )
    accuracy = json.loads(done.stdout.splitlines()[-1])["accuracy"]
    committed, made = LIBRARY / version, tmp_path / version
    assert accuracy == pytest.approx(record(committed, "evals/golden.json")["accuracy"], abs=0.02)
    assert (
        record(made, "training.json")["data_sha256"]
        == record(committed, "training.json")["data_sha256"]
    )
