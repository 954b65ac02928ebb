"""Every command that a text advises is there, with its options, and none leads in a circle."""

import ast
import json
import re
import shlex
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from fleetctl.advice import completed, given_options
from fleetctl.cli import main
from fleetctl.lazy_group import COMMANDS
from plans.documents.plan_file import load
from plans.render import RENDERERS
from tests.commands import fault
from tests.fleetctl.project_on_disk import REPOSITORY

PACKAGES = ("fleet", "plans", "runtime", "fleetctl")
BEGINS = re.compile(r"(?:^|(?<=`)|(?<=: ))fleetctl (?=[a-z])")
ENDS = re.compile(r"[`\n;|)]|, |\. |\.$|: |$")
SENTENCES = ("writes an Envoy's", "itself failed", "starts vLLM here", "server key")
"""Beginnings of texts that speak of fleetctl, and name no command."""
SHOWN_BY = {"fleet/planning/drift.py", "runtime/operations/machines/outages.py"}
"""Files whose advice `status` and `drift` print themselves."""


def texts(tree: ast.AST) -> Iterator[str]:
    """Yield the strings of a module without docstrings; a value that is filled in is `VALUE`."""
    nodes = [*ast.walk(tree)]
    parts = {id(part) for node in nodes if isinstance(node, ast.JoinedStr) for part in node.values}
    parts |= {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    for node in nodes:
        if isinstance(node, ast.JoinedStr):
            values = (getattr(part, "value", "") for part in node.values)
            yield "".join(value if isinstance(value, str) else "VALUE" for value in values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield "" if id(node) in parts else node.value


@cache
def advised() -> tuple[tuple[str, str], ...]:
    """Return the advised commands, each behind the file that advises it."""
    found = set()
    for path in (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        for text in texts(ast.parse(path.read_text(encoding="utf-8"))):
            for begin in BEGINS.finditer(text):
                end = ENDS.search(text, begin.end())
                line = text[begin.end() : end.start() if end else None]
                found.add((str(path.relative_to(REPOSITORY)), line))
    return tuple(sorted(found))


def test_every_advised_command_can_be_run() -> None:
    commands = [(path, line) for path, line in advised() if not line.startswith(SENTENCES)]
    assert len(commands) > 200
    assert {(path, line): why for path, line in commands if (why := fault(line))} == {}
    assert fault("rollout approve VALUE --speedily") == "no option `--speedily`"
    assert fault("rollout aprove VALUE") == "no command `aprove`"


@pytest.mark.parametrize("path", sorted(SHOWN_BY))
def test_what_status_and_drift_advise_is_another_command(path: str) -> None:
    own = [line.split()[0] for shown, line in advised() if shown == path]
    assert own
    assert not {"status", "drift"} & {*own}


BARE = re.compile(rf"fleetctl (?:{'|'.join(COMMANDS)})\b")
"""Beginnings of commands without the options of a call."""


def test_every_advised_command_is_completed_by_the_options_that_were_given() -> None:
    options = given_options(Path("two fleets"), "prod", {"size": "7"}, Path("/srv/state"))
    typed = "fleetctl -C 'two fleets' --env prod --var size=7 --state-dir /srv/state "
    begins = (*SENTENCES, "demo", "scaffold fleet")
    own = [line for _, line in advised() if not line.startswith(begins)]
    assert len(own) > 200
    for line in own:
        for text in (f"`fleetctl {line}`", f"Helps: fleetctl {line}", f"\n    fleetctl {line}"):
            assert completed(text, options) == text.replace("fleetctl ", typed)
    for line in ("fleetctl itself failed", "fleetctl's own", "fleetctl demo --fake"):
        assert completed(line, options) == line
    assert given_options(Path(), None, {}, Path(".fleetctl")) == ()


@pytest.fixture
def fleet(tmp_path: Path) -> Path:
    """A fleet with an overlay `prod` and routes that cannot be read, in either state folder."""
    shutil.copytree(REPOSITORY / "examples" / "sizing" / "rtx4090", tmp_path / "fleet")
    (tmp_path / "fleet" / "env").mkdir()
    (tmp_path / "fleet" / "env" / "prod.yaml").write_text("{}\n", encoding="utf-8")
    for folder in (".fleetctl", "state"):
        (tmp_path / "fleet" / folder).mkdir()
        (tmp_path / "fleet" / folder / "routes.json").write_text("{", encoding="utf-8")
    return tmp_path / "fleet"


@pytest.mark.parametrize(
    "words",
    [
        "status", "status --format json", "drift", "drift --format json", "drift --format issues",
        "drift --format github", "plan --out plan.json",
        "approve 0123456789abcdef --reason x", "server logs nope", "explain server/nope",
    ],
)  # fmt: skip
@pytest.mark.parametrize("given", ["--env prod --var a=b", "--state-dir state"])
def test_a_pasted_command_acts_on_the_same_environment(
    fleet: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    given: str, words: str,
) -> None:  # fmt: skip
    monkeypatch.chdir(fleet)
    with pytest.raises(SystemExit):
        main([*given.split(), *words.split()])
    shown = capsys.readouterr()
    text = shown.out + shown.err
    assert f"fleetctl {given} " in text
    assert BARE.findall(text) == []
    if words.endswith("json") and "--format" in words:
        json.loads(shown.out)


@pytest.mark.parametrize("form", ["text", "md", "html"])
def test_commands_in_plans_are_completed_in_each_format(form: str) -> None:
    files = [*(REPOSITORY / "tests/stories").glob("*/plan.json")]
    plans = [RENDERERS[form](load(path.read_text("utf-8"))) for path in files]
    found = sum(len(BARE.findall(plan)) for plan in plans)
    whole = [completed(plan, ("--env prod",)) for plan in plans]
    assert found > 10
    assert sum(plan.count("fleetctl --env prod ") for plan in whole) == found
    assert [BARE.findall(plan) for plan in whole if BARE.search(plan)] == []


def test_a_plan_as_json_is_for_apply_and_stays_as_it_is(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = REPOSITORY / "tests/stories/new_version/plan.json"
    with pytest.raises(SystemExit):
        main(["-C", str(fleet), "show", str(saved), "--format", "json"])
    shown = json.loads(capsys.readouterr().out)
    assert "fleetctl rollback acme-support" in str(shown)
    assert "fleetctl -C" not in str(shown)


def test_a_public_text_has_no_folder_of_this_machine(
    fleet: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["-C", str(fleet), "--env", "prod"]
    with pytest.raises(SystemExit):
        main([*at, "drift", "--format", "issues"])
    assert "fleetctl --env prod " in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([*at, "drift"])
    assert f"fleetctl {shlex.join(at)} " in capsys.readouterr().out
