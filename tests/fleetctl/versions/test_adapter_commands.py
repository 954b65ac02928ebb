import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleet.config.files.lockfile import parse_lock
from fleet.names import AdapterName
from fleetctl.cli import main
from runtime.library.inspect import inspect
from runtime.library.layout import versions
from tests.runtime.library import synthetic

QUICKSTART = Path(__file__).parents[3] / "examples" / "quickstart"
NAME = "acme-support-tiny-v2.1.0"
FLEET = """
fleet: little
bases: {tiny: {model: models/base/tiny}}
hosts: {laptop: {engine: fake, devices: {cpu0: {kind: cpu, memory: 8GiB}}}}
clients: {acme: {adapters: {support: {base: tiny, version: "2.1.0"}}}}
"""
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fleet whose only version is not in the library yet."""
    root = tmp_path / "project"
    synthetic.base(root / "models" / "base" / "tiny")
    (root / "fleet.yaml").write_text(FLEET, encoding="utf-8")
    return root


@pytest.fixture
def run(project: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line in the project; gives exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(["-C", str(project), *arguments])
        shown = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return call


def test_adding_the_version_that_a_fleet_names_makes_the_fleet_valid(
    run: Run, project: Path, tmp_path: Path
) -> None:
    code, _, err = run("validate")
    assert (code, "FC1210" in err) == (1, True)
    code, out, err = run("adapter", "add", str(synthetic.adapter(tmp_path / "out")), "--as", NAME)
    assert (code, out) == (0, "")
    assert err.startswith(f"Added {NAME}: rank 4, digest ")
    assert run("validate")[0] == 0
    assert (project / "models/adapters/acme/support-v2.1.0/adapter_config.json").is_file()


def test_adding_again_says_so_and_other_bytes_are_refused(run: Run, tmp_path: Path) -> None:
    first = str(synthetic.adapter(tmp_path / "out"))
    other = str(synthetic.adapter(tmp_path / "again", seed=1))
    assert run("adapter", "add", first, "--as", NAME)[0] == 0
    code, _, err = run("adapter", "add", first, "--as", NAME)
    assert (code, err) == (
        0,
        f"{NAME} is there already, with the same bytes. Nothing to do.\n",
    )
    code, _, err = run("adapter", "add", other, "--as", NAME)
    assert code == 1
    assert "Version exists with other bytes" in err
    assert "--as acme-support-tiny-v2.1.1" in err


def test_what_is_added_is_told_as_json(run: Run, project: Path, tmp_path: Path) -> None:
    source = synthetic.adapter(tmp_path / "out")
    (source / "optimizer.pt").write_bytes(b"x")
    code, out, err = run("adapter", "add", str(source), "--as", NAME, "--format", "json")
    told = json.loads(out)
    locked = parse_lock((project / "fleet.lock").read_text("utf-8")).adapters[NAME]
    assert code == 0
    assert (told["outcome"], told["digest"], told["rank"]) == ("added", locked.digest, 4)
    assert "Left out, not part of a version: optimizer.pt" in err


def test_a_refused_adapter_is_told_with_every_reason(run: Run, tmp_path: Path) -> None:
    source = synthetic.adapter(tmp_path / "out", use_dora=True, bias="all")
    code, out, err = run("adapter", "add", str(source), "--as", NAME)
    assert (code, out) == (1, "")
    assert "[FC3105]" in err
    assert "[FC3107]" in err


@pytest.mark.parametrize(
    "name", ["acme-support-v2.1.0", "acme-support-tiny-2.1.0", "acme-sup-port-tiny-v2.1.0", "x"]
)
def test_a_name_of_another_form_is_wrong_usage(run: Run, tmp_path: Path, name: str) -> None:
    source = str(synthetic.adapter(tmp_path / "out"))
    code, _, err = run("adapter", "add", source, "--as", name)
    assert code == 64
    assert "acme-support-llama3_8b-v2.1.0" in err


def test_a_base_that_is_not_declared_is_named_with_the_nearest(run: Run, tmp_path: Path) -> None:
    source = str(synthetic.adapter(tmp_path / "out"))
    code, _, err = run("adapter", "add", source, "--as", "acme-support-tinny-v1.0.0")
    assert code == 1
    assert "Did you mean `tiny`?" in err


def test_a_base_without_its_folder_is_known_from_the_lock(
    run: Run, project: Path, tmp_path: Path
) -> None:
    source = str(synthetic.adapter(tmp_path / "out"))
    assert run("adapter", "add", source, "--as", NAME)[0] == 0
    shutil.rmtree(project / "models" / "base")
    assert run("adapter", "add", source, "--as", "acme-faq-tiny-v1.0.0")[0] == 0
    (project / "fleet.lock").unlink()
    code, _, err = run("adapter", "add", source, "--as", "acme-faq-tiny-v1.1.0")
    assert code == 1
    assert "Base's dimensions unknown" in err


def test_versions_are_listed_by_alias_with_rank_size_accuracy_and_digest(
    run: Run, project: Path, tmp_path: Path
) -> None:
    source = synthetic.adapter(tmp_path / "out")
    (source / "evals").mkdir()
    (source / "evals" / "golden.json").write_text('{"accuracy": 0.965, "n": 200}')
    for name in (NAME, "acme-support-tiny-v2.10.0", "birch-faq-tiny-v1.0.0"):
        assert run("adapter", "add", str(source), "--as", name)[0] == 0
    synthetic.adapter(project / "models/adapters/birch/faq-v1.1.0")
    shutil.rmtree(project / "models/adapters/acme/support-v2.10.0")
    digest = parse_lock((project / "fleet.lock").read_text("utf-8")).adapters[NAME].digest[:12]
    code, out, _ = run("adapter", "list")
    assert code == 0
    assert out == (
        "  VERSION  BASE  RANK     SIZE  ACCURACY  DIGEST\n"
        "acme-support\n"
        f"  2.1.0    tiny     4  27.8 KB    96.5 %  {digest}\n"
        f"  2.10.0   tiny     4  27.8 KB         -  {digest}  not in the library here\n"
        "\n"
        "birch-faq\n"
        f"  1.0.0    tiny     4  27.8 KB    96.5 %  {digest}\n"
        "  1.1.0    ?        -        -         -  -             not in the lock\n"
    )
    rows = json.loads(run("adapter", "list", "birch", "--format", "json")[1])
    assert [(each["adapter"], each["in_lock"]) for each in rows] == [
        ("birch-faq-tiny-v1.0.0", True),
        ("birch-faq-v1.1.0", False),
    ]
    assert len(json.loads(run("adapter", "list", "acme-support", "--format", "json")[1])) == 2


def test_an_empty_library_says_how_to_begin(run: Run, project: Path) -> None:
    code, out, err = run("adapter", "list")
    assert (code, out) == (0, "")
    assert f"fleetctl -C {project} adapter add" in err


def test_a_version_is_shown_with_its_training_and_results(run: Run, tmp_path: Path) -> None:
    source = synthetic.adapter(tmp_path / "out")
    (source / "training.json").write_text('{"seed": 210, "data_sha256": "abc"}')
    (source / "evals").mkdir()
    (source / "evals" / "golden.json").write_text('{"accuracy": 0.965, "slices": {"a": {"n": 9}}}')
    assert run("adapter", "add", str(source), "--as", NAME)[0] == 0
    code, out, _ = run("adapter", "show", NAME)
    assert code == 0
    for line in ("  seed         210", "    slices.a.n  9", "  none in the ledger"):
        assert line in out.splitlines()
    shown = json.loads(run("adapter", "show", NAME, "--format", "json")[1])
    assert shown["training"]["data_sha256"] == "abc"
    assert shown["evals"]["golden"]["accuracy"] == 0.965
    assert shown["deployments"] == []


def test_showing_a_version_that_is_not_there_names_the_nearest(run: Run, tmp_path: Path) -> None:
    assert run("adapter", "add", str(synthetic.adapter(tmp_path / "o")), "--as", NAME)[0] == 0
    code, _, err = run("adapter", "show", "acme-support-tiny-v2.1.1")
    assert code == 1
    assert f"Did you mean `{NAME}`?" in err


def test_verify_fails_when_a_byte_was_changed(run: Run, project: Path, tmp_path: Path) -> None:
    assert run("adapter", "add", str(synthetic.adapter(tmp_path / "o")), "--as", NAME)[0] == 0
    assert run("adapter", "verify") == (0, "1 as pinned\n", "")
    assert run("adapter", "verify", NAME)[0] == 0
    weights = project / "models/adapters/acme/support-v2.1.0/adapter_model.safetensors"
    weights.chmod(0o644)
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    code, out, _ = run("adapter", "verify")
    assert code == 1
    assert out.startswith(f"changed   {NAME}: its digest is ")
    assert out.endswith("1 changed\n")
    code, out, _ = run("adapter", "verify", NAME, "--format", "json")
    assert (code, json.loads(out)[0]["state"]) == (1, "changed")


def test_verifying_a_version_that_is_not_pinned_is_an_error(run: Run) -> None:
    code, _, err = run("adapter", "verify", NAME)
    assert code == 1
    assert "No such version" in err


def test_every_adapter_of_the_quickstart_is_pinned_and_passes_preflight() -> None:
    lock = parse_lock((QUICKSTART / "fleet.lock").read_text("utf-8"))
    shape = lock.bases["tiny"]
    found = list(versions(QUICKSTART / "models"))
    assert len(found) >= 14
    for client, task, version, folder in found:
        name = str(AdapterName(client, task, "tiny", version))
        facts, warnings = inspect(folder, shape, "tiny", "models/base/tiny")
        assert (facts, warnings) == (lock.adapters[name].facts, ())
    assert len(lock.adapters) == len(found)
