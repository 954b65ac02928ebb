"""validate reads along what is otherwise read too late: golden sets and templates of notices."""

import json
from pathlib import Path

import pytest

from tests.broken.project import valid, write
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.project_on_disk import Project

ITEM = '{"id": "a", "input": "hello", "expected": "hi"}\n'


def items(number: int, size: int = 0) -> str:
    """Return a golden set, with `size` in groups of so many items."""
    lines = (
        {"id": f"i{at}", "input": f"ask {at}", "expected": "hi"}
        | ({"group": f"g{at // size}"} if size else {})
        for at in range(number)
    )
    return "".join(f"{json.dumps(line)}\n" for line in lines)


GATE = "accuracy: {metric: accuracy_drop, max: 3pp}"
OURS = "notify: {webhook: env:HOOK, template: note.j2%s}\n"


@pytest.mark.parametrize(
    ("notify", "template", "says"),
    [
        (OURS % "", "{{ it.event }}: {{ it.alias", "FC1251 note.j2:1:1 end of print statement"),
        (OURS % "", "x\n{% if it.event %}", "FC1251 note.j2:2:1"),
        (OURS % "", "{{ it.to }}", "of `alert`: UndefinedError"),
        (OURS % ", events: [rolled_back]", "{{ it.smoke.passed }}", ""),
        (OURS % ", events: [undecided]", "{{ it.percent / 0 }}", "ZeroDivisionError"),
        (OURS % "", None, "FC1250 fleet.yaml"),
        (OURS % ", events: [rolledback]", "x", "rolled_back"),
        (OURS % "", "{{ it.event }} {{ it.alias }}", ""),
    ],
)
def test_a_template_is_tried_before_it_is_needed(
    tmp_path: Path, notify: str, template: str | None, says: str
) -> None:
    done = validated(tmp_path, {"note.j2": template} if template is not None else {}, notify)
    assert done.returncode == (1 if says else 0), done.stderr
    assert all(word in done.stdout + done.stderr for word in says.split(" ", 2)), done.stderr


@pytest.mark.parametrize(
    ("template", "says"),
    [
        ("{{ it.alias }} is back on {{ it.to }}", ""),
        ("{{ it.alias }}: {{ it.cause }}", "'dict object' has no attribute 'cause'"),
    ],
)
def test_a_client_s_template_sees_what_a_client_may_see(
    tmp_path: Path, template: str, says: str
) -> None:
    files = {"c.j2": template}
    given = valid()["clients/acme.yaml"]
    text = given.replace(
        "    tier:", "    notify: {webhook: env:HOOK, template: c.j2}\n    tier:", 1
    )
    assert text != given
    done = validated(tmp_path, files | {"clients/acme.yaml": text}, "")
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in done.stderr
    assert ("FC1251" in done.stderr) is bool(says)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (items(80), ""),
        (items(75), "`accuracy` asks for 3 pp on `golden/x.jsonl`, which has 75 independent items"),
        (items(75), "Write `max: auto`, 10 pp here, or bring the set to 76 items or more"),
        (items(80, size=2), "which has 40 independent items"),
        (items(19), "fewer than 20 independent items. No version could pass. Bring the set to 76"),
        ("\n", "no item to ask"),
        (ITEM + ITEM, "golden/x.jsonl:2:1"),
        (ITEM + "{", "golden/x.jsonl:2:2"),
        ('{"id": "a", "input": "hello"}', "`expected` is missing"),
        (ITEM + ITEM.replace('"a"', '"b"'), "`b` asks and expects what another item does"),
        ('{"id": "a", "input": "hello", "metric": "judge"}', "FC1249"),
    ],
)
def test_a_golden_set_is_read_line_by_line(tmp_path: Path, content: str, says: str) -> None:
    acme = valid()["clients/acme.yaml"]
    assert "        latency:" in acme
    text = acme.replace("        latency:", "        golden: golden/x.jsonl\n        latency:", 1)
    done = validated(tmp_path, {"clients/acme.yaml": text, "golden/x.jsonl": content}, "")
    assert done.returncode == (1 if says else 0), done.stderr
    assert says in " ".join(done.stderr.split())


def test_a_gate_that_cannot_score_its_golden_set_is_told_at_its_key(tmp_path: Path) -> None:
    acme = valid()["clients/acme.yaml"]
    text = acme.replace("        latency:", "        golden: golden/x.jsonl\n        latency:", 1)
    files = {"clients/acme.yaml": text, "golden/x.jsonl": ITEM}
    fleet = valid()["fleet.yaml"]
    files["fleet.yaml"] = fleet.replace(GATE, GATE.replace("}", ", score: numeric}"), 1)
    assert files["fleet.yaml"] != fleet
    done = validated(tmp_path, files, "")
    assert done.returncode == 1
    assert "FC1254" in done.stderr
    assert "`numeric` cannot score `a` of golden/x.jsonl: `expected` is a number" in done.stderr


def validated(root: Path, files: dict[str, str], more: str) -> Done:
    whole = valid()
    whole["fleet.yaml"] += more
    write(root, whole | files)
    return call(Project(root, ()), "validate")
