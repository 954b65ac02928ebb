"""Capture from its declaration to golden sets, and what never holds captured text."""

import json
import re
import stat
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from fleet.history import History
from fleet.planning import make_plan
from fleet.resources import State
from fleetctl.cli import main
from plans.render import RENDERERS
from runtime.project.load import load_project
from runtime.usage.captured import FOLDER, CapturedItem, CaptureWriter
from tests.broken.project import ACME, valid, write

NOW = datetime.now(UTC)
AGREED = ACME.replace(
    "    keys:", '    capture: {consent: "Ann, 2026-11-20", share: 10%}\n    keys:'
)
WITH_GOLDEN = ACME.replace(
    "        latency:", "        golden: golden/acme.jsonl\n        latency:"
)
FAR = "listen: '127.0.0.1:8080', admin: 'https://far.example.com', secret: env:FAR"
CANARY = "canary of a user"
Run = Callable[..., tuple[int, str, str]]


def captured(state: Path, asked: str, answer: str, **other: str) -> None:
    body = {"model": "m", "cache_salt": "acme", "messages": [{"role": "user", "content": asked}]}
    item = CapturedItem(
        other.get("time", NOW.isoformat()), other.get("id", "1"), "acme-support", "v",
        "/v1/chat/completions", other.get("user", ""), "", 5,
        msgspec.Raw(json.dumps(body).encode()), answer,
    )  # fmt: skip
    CaptureWriter(state, "main").write("acme", item, 30)


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    write(tmp_path, valid())
    (tmp_path / ".fleetctl").mkdir(mode=0o700)

    def call(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(["-C", str(tmp_path), *arguments])
        shown = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, shown.out, shown.err

    return call


def test_a_reviewer_sees_in_the_plan_that_capture_begins_and_ends(tmp_path: Path) -> None:
    def planned(acme: str, live: State) -> tuple[str, State]:
        write(tmp_path, valid() | {"clients/acme.yaml": acme})
        plan = make_plan(load_project(tmp_path, None, {}).fleet, live, History(), NOW)
        routes = {change.address: change.after for change in plan.changes if change.after}
        return RENDERERS["text"](plan), State(resources={**live.resources, **routes})

    text, off = planned(ACME, State())
    assert "capture" not in text
    text, on = planned(AGREED, off)
    assert "premium   capture none -> 10 % of the text, kept 30 days" in text
    assert "capture: 10 % of the text, kept 30 days (new)" in text
    text, _ = planned(ACME, on)
    assert "premium   capture 10 % of the text, kept 30 days -> none" in text


def test_exported_text_is_a_golden_set(run: Run, tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"
    captured(state, CANARY, "Hello \u202e.", id="1")
    captured(state, CANARY, "Hello \u202e.", id="2")
    captured(state, "Other?", "Yes.", id="3", time="2026-11-01T00:00:00+00:00")
    export = ("usage", "export", "--client", "acme", "--as")
    code, out, err = run(*export, "golden", "--since", "2026-11-02")
    assert (code, out.count("\n"), out.isascii()) == (0, 1, True)
    assert err == "Exported 1 item; left out 0 requests.\n"
    golden = run(*export, "golden", "--alias", "acme-support")[1]
    assert [json.loads(line)["id"] for line in golden.splitlines()] == ["3", "1"]
    write(tmp_path, {"clients/acme.yaml": WITH_GOLDEN, "golden/acme.jsonl": golden})
    assert "has 2 independent items" in run("validate")[2]
    write(tmp_path, {"golden/acme.jsonl": f"{golden}{{}}\n"})
    assert "FC1303" in run("validate")[2]  # so the set above was read whole
    last = json.loads(run(*export, "training")[1].splitlines()[-1])["messages"][-1]
    assert last == {"role": "assistant", "content": "Hello \u202e."}
    assert run(*export, "training", "--alias", "acme-triage")[1] == ""


def test_a_golden_set_grows_by_what_it_does_not_ask_yet(run: Run, tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"
    captured(state, "First?", "Yes.", id="1", user="ann")
    export = ("usage", "export", "--client", "acme", "--as", "golden")
    write(tmp_path, {"golden/acme.jsonl": run(*export)[1]})
    captured(state, "Second?", "No.", id="2", user="ann")
    captured(state, "Third?", "No.", id="3", user="bo")
    captured(state, "Fourth?", "No.", id="4", user="bo")
    code, more, err = run(*export, "--beside", "golden/acme.jsonl")
    assert (code, err) == (0, "Exported 3 items; left out 1 request.\n")
    found = [json.loads(line) for line in more.splitlines()]
    assert [(item["id"], item["group"]) for item in found] == [("2", "1"), ("3", "3"), ("4", "3")]
    assert "ann" not in more


def test_what_is_forgotten_or_over_is_gone(run: Run, tmp_path: Path) -> None:
    state = tmp_path / ".fleetctl"
    captured(state, CANARY, "1", user="ann")
    captured(state, "of bo", "2", user="bo")
    captured(state, "of long ago", "3", time="2020-01-01T00:00:00+00:00")
    forget = ("usage", "forget", "--client", "acme")
    assert run(*forget)[0] == 64  # nobody is asked, nothing deleted
    assert run("usage", "ingest")[0] == 0

    def text() -> bytes:
        return b"".join(path.read_bytes() for path in (state / FOLDER).rglob("*.jsonl"))

    assert (b"long ago" in text(), CANARY.encode() in text()) == (False, True)
    found = run(*forget, "--user", "ann", "--yes")
    assert found[:2] == (0, "Deleted 1 captured request of acme that name ann.\n")
    assert (CANARY.encode() in text(), b"of bo" in text()) == (False, True)
    assert run(*forget, "--yes")[1] == "Deleted 1 captured request of acme.\n"
    assert [*(state / FOLDER).iterdir()] == []
    ledger = (state / "ledger.jsonl").read_text("utf-8")
    lines = [json.loads(line) for line in ledger.splitlines()]
    assert [line["data"] | {"entry_id": ""} for line in lines] == [
        {"client": "acme", "items": 1, "of_user": of_user, "entry_id": ""}
        for of_user in (True, False)
    ]
    assert not {"ann", "bo", CANARY} & set(re.findall(r'[^"]+', ledger))
    shown = run("history")[1]
    assert "deleted 1 captured request of acme that name a user" in shown
    assert lines[0]["by"] in shown


@pytest.mark.parametrize(
    ("gateways", "places"),
    [
        ("main: {listen: '127.0.0.1:8080'}", []),
        (f"far: {{{FAR}}}", ["clients/acme.yaml:5:5"]),
        (
            f"far: {{{FAR}}}, edge: {{listen: '127.0.0.1:8081', kind: envoy}}",
            ["clients/acme.yaml:5:5"],
        ),
        (f"far: {{{FAR}}}, main: {{listen: '127.0.0.1:8081'}}", []),
    ],
)
def test_capture_that_no_gateway_does_is_told(
    tmp_path: Path, gateways: str, places: list[str]
) -> None:
    main = '  main: {listen: "127.0.0.1:8080"}'
    assert main in valid()["fleet.yaml"]
    declared = valid()["fleet.yaml"].replace(main, f"  {{{gateways}}}")
    write(tmp_path, valid() | {"fleet.yaml": declared, "clients/acme.yaml": AGREED})
    warnings = load_project(tmp_path, None, {}).warnings
    assert [str(found.place) for found in warnings if found.code == "FC1255"] == places


def test_a_backup_leaves_captured_text_out_and_says_so(run: Run, tmp_path: Path) -> None:
    captured(tmp_path / ".fleetctl", CANARY, CANARY)
    file = tmp_path / "backup.tar.gz"
    code, _, err = run("state", "backup", str(file), "--with-keys")
    assert (code, "captured" in err.partition("Left out:")[2]) == (0, True), err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    with tarfile.open(file) as members:
        for member in members.getmembers():
            content = members.extractfile(member)
            assert content is None or CANARY.encode() not in content.read()
