import itertools
import json
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from fleet.config.files.lockfile import lock_text, parse_lock
from fleet.errors import PlacementError
from fleet.evals.golden_set import read_golden_set
from fleet.history.values import History
from fleet.planning.pipeline import make_plan
from fleet.resources import State
from fleetctl.cli import main
from fleetctl.synthetic import synthesise
from fleetctl.synthetic.population import SyntheticSize
from runtime.operations.change.scaffold import write_files
from runtime.project.load import load_project
from tests.commands import in_the_project
from tests.drawn import long

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
HEADER = "# yaml-language-server: $schema="
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command line; gives exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(list(arguments))
        shown = capsys.readouterr()
        code = caught.value.code
        assert isinstance(code, int)
        return code, shown.out, shown.err

    return call


@pytest.fixture
def project(run: Run, tmp_path: Path) -> str:
    assert run("scaffold", "fleet", str(tmp_path / "agency"))[0] == 0
    return str(tmp_path / "agency")


@pytest.mark.parametrize("engine", ["local", "attach", "fake", "ssh"])
def test_a_scaffolded_fleet_is_valid_and_canonical(run: Run, tmp_path: Path, engine: str) -> None:
    folder = tmp_path / "My Agency-2"
    code, out, err = run(
        "scaffold", "fleet", str(folder), "--engine", engine, "--base", "qwen25_7b"
    )
    assert (code, out) == (0, "")
    assert f"fleetctl -C {folder} scaffold client acme" in err
    code, out, err = run("-C", str(folder), "validate")
    assert (code, out.partition(":")[0], err) == (0, "my_agency_2", "")
    assert run("-C", str(folder), "fmt", "--check")[0] == 0
    fleet = load_project(folder, None, {}).fleet
    assert list(fleet.bases) == ["qwen25_7b"]
    assert [each.engine for each in fleet.hosts.values()] == [engine]
    asked = ("answers", "cut_off", "errors", "first_token", "speed")
    assert fleet.rollouts["careful"].gates == asked
    first = (folder / "fleet.yaml").read_text("utf-8").splitlines()[0]
    assert first.startswith(HEADER)
    assert "properties" in json.loads((folder / first.removeprefix(HEADER)).read_text("utf-8"))
    assert ".fleetctl/" in (folder / ".gitignore").read_text("utf-8")


def test_a_fleet_is_not_written_over_another(run: Run, project: str) -> None:
    before = (Path(project) / "fleet.yaml").read_bytes()
    code, _, err = run("scaffold", "fleet", project, "--name", "other")
    assert code == 1
    assert "never overwrites" in err
    assert (Path(project) / "fleet.yaml").read_bytes() == before


def test_a_fleet_leaves_what_else_is_in_its_folder(run: Run, tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text("mine\n")
    assert run("scaffold", "fleet", str(tmp_path))[0] == 0
    assert (tmp_path / ".gitignore").read_text() == "mine\n"


def test_a_scaffolded_client_is_valid_and_canonical(run: Run, project: str) -> None:
    code, _, err = run("-C", project, "scaffold", "client", "acme", "--tier", "premium")
    assert code == 0
    assert f"fleetctl -C {project} key create acme/prod" in err
    assert run("-C", project, "validate")[0] == 0
    assert run("-C", project, "fmt", "--check")[0] == 0
    assert load_project(Path(project), None, {}).fleet.clients["acme"].tier == "premium"
    text = (Path(project) / "clients" / "acme.yaml").read_text("utf-8")
    assert text.startswith(f"{HEADER}../fleet.schema.json\n")


def test_a_client_of_an_unknown_tier_is_not_left_behind(run: Run, project: str) -> None:
    code, _, err = run("-C", project, "scaffold", "client", "acme", "--tier", "premum")
    assert code == 1
    assert "Did you mean `premium`?" in err
    assert list((Path(project) / "clients").iterdir()) == []


def test_a_client_is_declared_once(run: Run, project: str) -> None:
    assert run("-C", project, "scaffold", "client", "acme")[0] == 0
    assert run("-C", project, "scaffold", "client", "acme")[0] == 1
    (Path(project) / "more.yaml").write_text("clients: {birch: {}}\n")
    code, _, err = run("-C", project, "scaffold", "client", "birch")
    assert (code, "Key given twice" in err) == (1, True)
    assert not (Path(project) / "clients" / "birch.yaml").exists()


def test_a_scaffolded_adapter_lacks_nothing_but_its_bytes(run: Run, project: str) -> None:
    assert run("-C", project, "scaffold", "client", "acme")[0] == 0
    for task in ("support", "faq"):
        arguments = (f"acme/{task}", "--base", "llama3_8b", "--version", "1.0.0")
        code, _, err = run("-C", project, "scaffold", "adapter", *arguments)
        assert code == 0
        assert "not in fleet.lock yet" in err
        assert f"adapter add PATH --as acme-{task}-llama3_8b-v1.0.0" in err
    code, out, _ = run("-C", project, "validate", "--format", "json")
    found = json.loads(out)
    diagnostics = found if isinstance(found, list) else found["diagnostics"]
    assert code == 1
    assert [each["code"] for each in diagnostics] == ["FC1210", "FC1210"]
    written = yaml.safe_load((Path(project) / "clients" / "acme.yaml").read_text("utf-8"))
    assert len(written["clients"]["acme"]["adapters"]["faq"]["smoke"]) == 5
    golden = (Path(project) / "golden" / "faq.jsonl").read_bytes()
    assert len(read_golden_set(golden, "faq.jsonl").items) == 72
    assert run("-C", project, "fmt", "--check")[0] == 0


def test_an_adapter_that_would_be_wrong_leaves_its_file_as_it_was(run: Run, project: str) -> None:
    assert run("-C", project, "scaffold", "client", "acme")[0] == 0
    file = Path(project) / "clients" / "acme.yaml"
    before = file.read_bytes()
    arguments = ("acme/support", "--base", "llama_8b", "--version", "1.0.0")
    code, _, err = run("-C", project, "scaffold", "adapter", *arguments)
    assert code == 1
    assert "Did you mean `llama3_8b`?" in err
    assert file.read_bytes() == before
    assert list(Path(project).glob("golden/*")) == []


def test_a_golden_set_of_the_task_is_asked_and_not_written_over(run: Run, project: str) -> None:
    assert run("-C", project, "scaffold", "client", "acme")[0] == 0
    mine = Path(project) / "golden" / "faq.jsonl"
    mine.parent.mkdir()
    mine.write_text('{"id": "a", "input": "Hello", "expected": "Hi"}\n')
    before = mine.read_bytes()
    given = ("acme/faq", "--base", "llama3_8b", "--version", "1.0.0")
    code, _, err = run("-C", project, "scaffold", "adapter", *given)
    assert (code, "Wrote" in err) == (0, False)
    assert mine.read_bytes() == before
    assert "golden: golden/faq.jsonl" in (Path(project) / "clients/acme.yaml").read_text("utf-8")


@pytest.mark.parametrize(
    ("task", "version", "code", "text"),
    [
        ("birch/faq", "1.0.0", 1, "fleetctl scaffold client birch"),
        ("acme/support", "1.0.0", 1, "Already declared"),
        ("acme", "1.0.0", 64, "CLIENT/TASK"),
        ("acme/faq", "1.0", 64, "--version"),
        ("acme/my-faq", "1.0.0", 64, "Write my_faq."),
        ("acme/", "1.0.0", 64, "TASK"),
    ],
)
def test_an_adapter_that_cannot_be_added_is_told_why(
    run: Run, project: str, task: str, version: str, code: int, text: str
) -> None:
    assert run("-C", project, "scaffold", "client", "acme")[0] == 0
    given = ("--base", "llama3_8b", "--version")
    assert run("-C", project, "scaffold", "adapter", "acme/support", *given, "1.0.0")[0] == 0
    found, _, err = run("-C", project, "scaffold", "adapter", task, *given, version)
    err = in_the_project(err, "-C", project)
    assert (found, text in err) == (code, True)


def test_an_adapter_for_a_client_in_one_line_is_printed_to_be_pasted(
    run: Run, project: str
) -> None:
    (Path(project) / "clients" / "acme.yaml").write_text("clients: {acme: {tier: standard}}\n")
    arguments = ("acme/support", "--base", "llama3_8b", "--version", "1.0.0")
    code, _, err = run("-C", project, "scaffold", "adapter", *arguments)
    assert code == 1
    assert "No place for the entry" in err
    assert 'version: "1.0.0"' in err


def test_nothing_is_added_to_a_fleet_that_is_wrong_or_not_there(
    run: Run, project: str, tmp_path: Path
) -> None:
    code, _, err = run("-C", str(tmp_path), "scaffold", "client", "acme")
    assert (code, "fleetctl scaffold fleet DIR" in err) == (1, True)
    (Path(project) / "more.yaml").write_text("gates: {slow: {metric: p95_ratio, max: 2pp}}\n")
    code, _, err = run("-C", project, "scaffold", "client", "acme")
    assert (code, "FC1214" in err) == (1, True)
    assert list(tmp_path.rglob("acme.yaml")) == []


def synthetic(folder: Path, *, clients: int, adapters: int, gpus: int, seed: int = 1) -> str:
    texts, warning = synthesise(SyntheticSize(clients, adapters, gpus, seed))
    write_files(folder, texts)
    return warning


@pytest.mark.parametrize(
    ("clients", "adapters", "gpus"),
    [(1, 0, 1), (1, 1, 1), (5, 3, 1), (40, 200, 12), *long((3, 30, 50), (120, 1000, 60))],
)
def test_a_synthetic_fleet_is_valid_and_fits(
    tmp_path: Path, clients: int, adapters: int, gpus: int
) -> None:
    assert synthetic(tmp_path, clients=clients, adapters=adapters, gpus=gpus) == ""
    fleet = load_project(tmp_path, None, {}).fleet
    assert (len(fleet.clients), len(fleet.adapters)) == (clients, adapters)
    assert sum(len(each.devices) for each in fleet.hosts.values()) == gpus
    plan = make_plan(fleet, State(), History(), NOON)
    assert plan.held == ()


def test_a_synthetic_fleet_that_cannot_fit_says_so(tmp_path: Path) -> None:
    warning = synthetic(tmp_path, clients=10, adapters=500, gpus=2)
    assert "500 adapters with their replicas take about" in warning
    with pytest.raises(PlacementError):
        make_plan(load_project(tmp_path, None, {}).fleet, State(), History(), NOON)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    wish = SyntheticSize(20, 100, 8, seed=7)
    assert synthesise(wish) == synthesise(wish)
    assert synthesise(wish) != synthesise(SyntheticSize(20, 100, 8, seed=8))


def test_the_synthetic_lock_is_in_the_form_that_fleetctl_writes() -> None:
    text = synthesise(SyntheticSize(20, 100, 24, 1))[0]["fleet.lock"]
    assert lock_text(parse_lock(text)) == text


def test_synthetic_demand_is_lifelike(tmp_path: Path) -> None:
    synthetic(tmp_path, clients=400, adapters=2000, gpus=100)
    fleet = load_project(tmp_path, None, {}).fleet
    tiers = Counter(each.tier for each in fleet.clients.values())
    assert 240 <= tiers["standard"] <= 320
    assert 70 <= tiers["premium"] <= 130
    assert 8 <= tiers["enterprise"] <= 35
    demands = [each.demand for each in fleet.adapters.values() if each.demand]
    assert len(demands) == 2000
    assert len({each.timezone for each in demands}) >= 5
    assert 0.08 <= sum(each.batch is not None for each in demands) / 2000 <= 0.16
    rates = sorted((each.peak_rpm for each in demands), reverse=True)
    assert sum(rates[:200]) > 0.4 * sum(rates)
    assert rates[0] > 50 * rates[1000]
    assert {each.rank for each in fleet.versions.values()} == {8, 16, 32, 64}
    assert len(fleet.versions) > 3000
    work_days = Counter(each.hours for each in demands)
    assert work_days[9, 18] > 2000 / 4


def test_client_names_are_distinct_however_many() -> None:
    files = synthesise(SyntheticSize(1000, 0, 1, 1))[0]
    assert sum(name.startswith("clients/") for name in files) == 1000


def test_the_command_writes_a_fleet_and_never_over_another(run: Run, tmp_path: Path) -> None:
    sizes = ("--clients", "4", "--adapters", "20", "--gpus", "2", "--seed", "3")
    folder = str(tmp_path / "big")
    code, out, err = run("scaffold", "synthetic", *sizes, folder)
    assert (code, out) == (0, "")
    assert "Wrote 8 files" in err
    code, _, err = run("-C", folder, "validate")
    assert (code, err.count("Warning"), "[FC1258]" in err) == (0, 1, True)  # it has no files
    assert run("-C", folder, "fmt", "--check")[0] == 0
    code, _, err = run("scaffold", "synthetic", *sizes, folder)
    assert (code, "never overwrites" in err) == (1, True)


def test_the_command_warns_when_the_gpus_are_too_few(run: Run, tmp_path: Path) -> None:
    sizes = ("--clients", "4", "--adapters", "900", "--gpus", "2")
    code, _, err = run("scaffold", "synthetic", *sizes, str(tmp_path / "big"))
    assert (code, "Warning: 900 adapters" in err) == (0, True)


def test_written_files_never_replace_others(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("mine")
    for texts in itertools.permutations({"a": "1", "b": "2"}.items()):
        with pytest.raises(Exception, match="never overwrites"):
            write_files(tmp_path, dict(texts))
        (tmp_path / "a").unlink(missing_ok=True)
    assert (tmp_path / "b").read_text() == "mine"
