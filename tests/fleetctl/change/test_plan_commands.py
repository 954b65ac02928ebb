import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fleetctl.cli import main
from plans.documents import live_file, plan_file

STORY = Path(__file__).parents[2] / "stories" / "new_version"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A fleet with one new version to roll out, and what is live."""
    shutil.copytree(STORY, tmp_path / "project")
    return tmp_path / "project"


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


def live(project: Path) -> tuple[str, str]:
    return "--live", str(project / "live.json")


def test_a_plan_is_shown_and_saved_and_shown_again(run: Run, project: Path) -> None:
    file = project / "plan.json"
    code, out, err = run("plan", *live(project), "--out", str(file))
    assert code == 0
    assert "route/acme-support" in out
    assert f"fleetctl -C {project} apply {file}" in err
    assert plan_file.load(file.read_text("utf-8")).changes
    again, shown, made = run("show", str(file))
    assert (again, shown) == (0, out)
    assert made.startswith("Made 2")


def test_the_command_that_carries_a_plan_out_has_the_options_of_the_plan(
    run: Run, project: Path
) -> None:
    (project / "env").mkdir()
    (project / "env" / "night.yaml").write_text("defaults: {keep_versions: 3}\n", "utf-8")
    given = ("--env", "night", "--var", "shift=2", "--state-dir", str(project / "my state"))
    code, _, err = run(*given, "plan", *live(project), "--out", str(project / "plan.json"))
    assert code == 0, err
    assert f"fleetctl {shlex.join(('-C', str(project), *given))} apply {project}/plan.json" in err


def test_the_exit_code_says_that_changes_are_due_only_when_asked(run: Run, project: Path) -> None:
    assert run("plan", *live(project))[0] == 0
    assert run("plan", *live(project), "--detailed-exitcode")[0] == 2
    nobody = ("--select", "adapter=dune-extract")
    assert run("plan", *live(project), "--detailed-exitcode", *nobody)[0] == 0


def test_a_selection_says_what_it_leaves_out(run: Run, project: Path) -> None:
    code, out, _ = run("plan", *live(project), "--select", "adapter=dune-extract")
    assert code == 0
    assert out.startswith("No changes.")
    assert "Only adapter=dune-extract was selected" in out
    assert "acme" in out


@pytest.mark.parametrize(
    ("selection", "hint"),
    [("client=acmee", "acme"), ("adapter=acme-suport", "acme-support")],
)
def test_a_slip_in_a_selection_is_no_empty_plan(
    run: Run, project: Path, selection: str, hint: str
) -> None:
    code, out, err = run("plan", *live(project), "--select", selection)
    assert (code, out) == (1, "")
    assert f"you mean `{hint}`?" in err.replace("\n", " ")


@pytest.mark.parametrize(
    ("selection", "hint"), [("foo", "Write client=NAME"), ("cleint=acme", "Did you mean `client`?")]
)
def test_a_selection_of_another_form_is_wrong_usage(
    run: Run, project: Path, selection: str, hint: str
) -> None:
    code, out, err = run("plan", *live(project), "--select", selection)
    assert (code, out) == (64, "")
    assert hint in err.replace("\n", " ")


def test_the_observed_state_can_be_saved_and_planned_from(run: Run, project: Path) -> None:
    saved = project / "saved.json"
    _, first, _ = run("plan", *live(project), "--save-live", str(saved))
    _, second, _ = run("plan", "--live", str(saved))
    assert first == second
    given = (project / "live.json").read_text("utf-8")
    assert live_file.load(saved.read_text("utf-8")) == live_file.load(given)


@pytest.mark.parametrize("form", ["text", "md", "json", "html"])
def test_every_format_is_on_stdout_alone(run: Run, project: Path, form: str) -> None:
    code, out, err = run("plan", *live(project), "--format", form)
    assert code == 0
    assert "acme" in out
    assert err == ""


@pytest.mark.parametrize("form", ["md", "html", "json"])
def test_where_there_is_no_plan_the_document_says_why(run: Run, project: Path, form: str) -> None:
    declared = project / "clients" / "acme.yaml"
    declared.write_text(declared.read_text().replace("2.2.0", "9.9.9"))
    code, out, err = run("plan", *live(project), "--format", form)
    assert (code, "Error: Version is not in the lock [FC1210]" in err) == (1, True)
    if form == "json":
        document = json.loads(out)
        assert (document["format"], document["fleet"]) == ("fleetctl-no-plan", "agency")
        assert [problem["code"] for problem in document["diagnostics"]] == ["FC1210"]
    else:
        begins = {"md": "<!-- fleetctl:plan fleet=agency v=1 -->\n### ⛔ No plan", "html": "<!doc"}
        assert out.startswith(begins[form])
        assert "Error: Version is not in the lock [FC1210]" in out
        assert "clients/acme.yaml:" in out


def test_a_changed_plan_file_is_refused(run: Run, project: Path) -> None:
    file = project / "plan.json"
    run("plan", *live(project), "--out", str(file))
    document = json.loads(file.read_text("utf-8"))
    document["decisions"]["changes"].pop()
    file.write_text(json.dumps(document), encoding="utf-8")
    code, out, err = run("show", str(file))
    assert (code, out) == (1, "")
    assert "Plan was changed after it was made" in err


@pytest.mark.parametrize("name", ["missing.json", "binary.json"])
def test_a_file_that_cannot_be_read_is_named(run: Run, project: Path, name: str) -> None:
    (project / "binary.json").write_bytes(b"\xff\xfe\x00")
    code, _, err = run("show", str(project / name))
    assert code == 1
    assert name in err
    assert "Traceback" not in err


def test_a_plan_is_not_left_half_written(run: Run, project: Path) -> None:
    code, _, err = run("plan", *live(project), "--out", str(project / "no" / "plan.json"))
    assert code == 1
    assert "cannot be written" in err
    run("plan", *live(project), "--out", str(project / "plan.json"))
    assert [each.name for each in project.glob(".plan.json*")] == []


def test_explain_and_graph(run: Run, project: Path) -> None:
    code, out, _ = run("explain", "acme-support", *live(project))
    assert code == 0
    assert out.startswith("route/acme-support\n")
    run("plan", *live(project), "--out", str(project / "plan.json"))
    for form, start in (("dot", "digraph"), ("mermaid", "flowchart"), ("json", "{")):
        code, out, _ = run("graph", "--plan", str(project / "plan.json"), "--format", form)
        assert code == 0
        assert out.startswith(start)


@pytest.mark.parametrize("name", ["plan", "show", "explain", "graph"])
def test_each_command_gives_examples(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    assert code == 0
    assert f"Examples: fleetctl {name}" in " ".join(out.split())


@pytest.mark.parametrize("name", ["adapter", "gateway", "key", "scaffold", "server"])
def test_each_group_gives_examples_of_its_commands(run: Run, name: str) -> None:
    code, out, _ = run(name, "--help")
    examples = out.partition("Examples:")[2].strip().splitlines()
    assert code == 0
    assert len(examples) > 1
    assert all(each.strip().startswith("fleetctl ") and name in each for each in examples)
