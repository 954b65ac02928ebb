"""`plan --offline` and `validate` open no connection and read no secret, whatever is declared."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from fleetctl.lazy_group import COMMANDS, FOR_FORKS
from runtime.ci import fork_of
from tests.attacks.conftest import Listener, call, declare, limited
from tests.attacks.test_secrets import DECLARED, SECRET, attached, gateway

NOTHING = {"format": "fleetctl-live", "format_version": "1.0", "resources": []}
NO_SOCKET = """
import os, sys
EVENTS = ("socket.connect", "socket.bind", "socket.getaddrinfo", "socket.gethostbyname",
          "socket.sendto", "socket.sendmsg", "socket.gethostbyaddr", "socket.__new__")
def refuse(event, arguments):
    if event in EVENTS:
        os.write(2, f"OPENED {event} {arguments}".encode())
        os._exit(99)
sys.addaudithook(refuse)
"""
"""Ends the process at the first socket or look-up of a name."""


def _live(root: Path, document: Any) -> Path:
    path = root / "live.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    return path


def _each(lines: list[list[str]]) -> str:
    """Return Python that runs command lines one after another and then ends the process."""
    return (
        f"{NO_SOCKET}\nfrom fleetctl.cli import main\n"
        f"for line in {lines!r}:\n"
        "    try:\n        main(line)\n    except SystemExit as left:\n"
        "        assert left.code in (0, 1, 2), (line, left.code)\n"
        "os._exit(0)\n"
    )


def test_no_option_of_plan_offline_opens_a_socket(project: Path, canary: str) -> None:
    (project / "clients").mkdir()
    (project / "clients" / "acme.yaml").write_text(
        "clients: {acme: {keys: {prod: 'env:CANARY'}, adapters: {}}}\n"
    )
    live = _live(project, NOTHING)
    at = ["-C", str(project), "plan", "--offline"]
    options = [
        [],
        ["--live", str(live)],
        ["--live", str(live), "--out", str(project / "plan.json")],
        ["--all", "--detailed-exitcode"],
        ["--what-if", "utilization 50%"],
        ["--repack", "--effort", "balanced", "--max-moves", "3"],
        *(["--format", form] for form in ("text", "md", "json", "html")),
    ]
    done = limited(project, "plan", before=_each([[*at, *option] for option in options]))
    assert (done.code, "OPENED" in done.text) == (0, False)
    assert canary not in (project / "plan.json").read_text()


def test_no_option_of_validate_opens_a_socket(project: Path) -> None:
    declared = [text.replace("PORT", "9") for text in DECLARED.values()]
    roots = []
    for number, text in enumerate(declared):
        root = project.parent / f"p{number}"
        (root / "env").mkdir(parents=True)
        declare(root, text)
        (root / "env" / "prod.yaml").write_text("tiers: {standard: {retrain_every: 30d}}\n")
        roots.append(root)
    lines = [["-C", str(root), "validate", *more] for root in roots for more in ([], ["--strict"])]
    lines += [["-C", str(root), "--env", "prod", "validate"] for root in roots]
    lines += [["-C", str(roots[0]), "--var", "x=y", "validate", "--format", "json"]]
    done = limited(project, "validate", before=_each([*filter(_is_known, lines)]))
    assert (done.code, "OPENED" in done.text) == (0, False)


def _is_known(line: list[str]) -> bool:
    from fleetctl.commands.declarations import validate  # noqa: PLC0415 (a command)

    known = {name for option in validate.params for name in option.opts}
    return {word for word in line if word.startswith("--")} <= {*known, "--env", "--var"}


@pytest.mark.parametrize("name", DECLARED)
def test_plan_offline_contacts_nothing_and_ends(
    name: str, project: Path, listener: Listener, canary: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIL", f"http://evil.test:{listener.port}/{canary}")
    declare(project, DECLARED[name].replace("PORT", str(listener.port)))
    done = call(project, "plan", "--offline")
    said = done.stderr.startswith("Offline: no connection is opened, no secret is read;")
    assert said or done.code == 1
    assert listener.received == []
    assert not (project / ".fleetctl" / "operator.secret").exists()


def test_plan_offline_contacts_not_even_this_machine(project: Path, listener: Listener) -> None:
    url = f"http://127.0.0.1:{listener.port}"
    declare(project, attached(url) + gateway(url))
    done = call(project, "plan", "--offline")
    assert done.code == 0
    assert "server/big: not asked" in done.stdout
    assert listener.received == []


@pytest.mark.parametrize("form", ["text", "md"])
def test_without_a_live_state_nothing_is_said_to_be_as_declared(project: Path, form: str) -> None:
    done = call(project, "plan", "--offline", "--format", form)
    assert done.code == 0
    assert "No changes" not in done.stdout
    assert "Nothing was observed" in done.stdout
    assert "the live state is unknown" in done.stderr


def test_with_a_live_state_the_plan_is_that_of_the_state(project: Path) -> None:
    live = _live(project, NOTHING)
    offline = call(project, "plan", "--offline", "--live", str(live), "--format", "json")
    online = call(project, "plan", "--online", "--live", str(live), "--format", "json")
    assert json.loads(offline.stdout)["plan_id"] == json.loads(online.stdout)["plan_id"]
    assert f"the live state is taken from {live}" in offline.stderr
    assert online.stderr == ""


def test_plan_offline_reads_no_key_and_no_variable(project: Path, canary: str) -> None:
    os.mkfifo(project / "key")  # a reader would wait for ever
    (project / "clients").mkdir()
    (project / "clients" / "acme.yaml").write_text(
        "clients: {acme: {keys: {prod: 'file:key', other: 'env:CANARY'}, adapters: {}}}\n"
    )
    declare(project, gateway("${env:CANARY}", f"secret: {SECRET}"))
    text = (project / "fleet.yaml").read_text()
    (project / "fleet.yaml").write_text(text.replace("models/base/tiny", "'${env:CANARY}/x'"))
    live = _live(project, NOTHING)
    for form in ("text", "json", "md", "html"):
        done = call(project, "plan", "--offline", "--live", str(live), "--format", form)
        assert done.code == 0
        assert canary not in done.text


def _event(head: Any, base: Any = 1) -> Mapping[str, Any]:
    return {"pull_request": {"head": {"repo": head}, "base": {"repo": {"id": base}}}}


EVENTS: dict[str, tuple[str, Any, bool]] = {
    "another repository": ("pull_request", _event({"id": 2}), True),
    "the same repository": ("pull_request", _event({"id": 1}), False),
    "a deleted fork": ("pull_request", _event(None), True),
    "a head without an id": ("pull_request", _event({}), True),
    "with the secrets of the base": ("pull_request_target", _event({"id": 2}), True),
    "a review": ("pull_request_review", _event({"id": 2}), True),
    "a comment on a review": ("pull_request_review_comment", _event({"id": 2}), True),
    "a run after another": (
        "workflow_run",
        {"workflow_run": {"head_repository": {"id": 2}}, "repository": {"id": 1}},
        True,
    ),
    "a run after one of the same": (
        "workflow_run",
        {"workflow_run": {"head_repository": {"id": 1}}, "repository": {"id": 1}},
        False,
    ),
    "a push": ("push", {}, False),
    "no file": ("pull_request", None, True),
    "no JSON": ("pull_request", "{", True),
    "a list": ("pull_request", [], True),
    "a deep file": ("pull_request", "[" * 100_000, True),
    "another form": ("pull_request", {"pull_request": "x"}, True),
}


@pytest.mark.parametrize("name", EVENTS)
def test_the_branch_of_a_fork_is_told_by_the_event(name: str, tmp_path: Path) -> None:
    event, document, is_fork = EVENTS[name]
    path = tmp_path / "event.json"
    if document is not None:
        path.write_text(document if isinstance(document, str) else json.dumps(document))
    found = fork_of({"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(path)})
    assert bool(found) is is_fork


@pytest.mark.parametrize(
    ("source", "target", "is_fork"),
    [("2", "1", True), ("1", "1", False), ("2", "", True), ("", "1", False), ("", "", False)],
)
def test_the_branch_of_a_fork_is_told_by_the_merge_request(
    source: str,
    target: str,
    is_fork: bool,  # noqa: FBT001
) -> None:
    names = ("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "CI_MERGE_REQUEST_PROJECT_ID")
    given = dict(zip(names, (source, target), strict=True))
    assert bool(fork_of(given)) is is_fork


@pytest.mark.parametrize("option", ["", "--online"])
def test_offline_is_the_default_for_a_fork_and_said(
    option: str, project: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2")
    monkeypatch.setenv("CI_MERGE_REQUEST_PROJECT_ID", "1")
    declare(project, gateway(f"http://127.0.0.1:{listener.port}"))
    listener.may_be_called = bool(option)
    done = call(project, *filter(None, ["plan", option]))
    assert bool(listener.received) is bool(option)
    says = "Offline for the branch of a fork (CI_MERGE_REQUEST_SOURCE_PROJECT_ID is another project"
    assert (says in done.stderr) is not bool(option)


@pytest.fixture
def of_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a job on the branch of a fork."""
    monkeypatch.setenv("CI_MERGE_REQUEST_SOURCE_PROJECT_ID", "2")
    monkeypatch.setenv("CI_MERGE_REQUEST_PROJECT_ID", "1")


@pytest.mark.usefixtures("of_a_fork", "canary")
@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_is_offline_or_refused_for_a_fork(
    name: str, project: Path, listener: Listener
) -> None:
    url = f"http://127.0.0.1:{listener.port}"
    declare(project, attached(url) + gateway("${env:CANARY}", f"secret: {SECRET}"))
    more = {"explain": ["server/big"]}.get(name, [])
    done = call(project, name, *more)
    assert listener.received == []
    assert ("FC1278" in done.stderr) is (name not in FOR_FORKS)
    if name in ("diagnose", "draw", "explain", "graph", "plan"):
        assert "Offline for the branch of a fork (CI_MERGE_REQUEST_SOURCE" in done.stderr


def _with(**fields: Any) -> dict[str, Any]:
    return {**NOTHING, **fields}


SERVER = {
    "kind": "server", "name": "tiny-laptop-cpu0", "base": "tiny", "host": "laptop",
    "devices": ["cpu0"], "port": 8100, "digest": None,
}  # fmt: skip
HOSTILE: dict[str, Any] = {
    "empty": "",
    "null": "null",
    "a list": "[]",
    "text": '"x"',
    "not JSON": "{",
    "YAML": "resources: []",
    "deep": "[" * 100_000,
    "deep in a field": json.dumps(NOTHING)[:-2] + "[" * 100_000,
    "many digits": json.dumps(NOTHING)[:-1] + ', "boots": ' + "9" * 10_000 + "}",
    "no format": {"resources": []},
    "a plan": _with(format="fleetctl-plan"),
    "a later format": _with(format_version="9.0"),
    "no version": _with(format_version=None),
    "an unknown field": _with(command="touch marker"),
    "resources that are none": _with(resources={"a": 1}),
    "a resource of no kind": _with(resources=[{"name": "x"}]),
    "a resource of an unknown kind": _with(resources=[{"kind": "program", "name": "x"}]),
    "a resource twice": _with(resources=[SERVER, SERVER]),
    "many servers on a device": _with(
        resources=[{**SERVER, "name": f"s{number}", "port": number} for number in range(300)]
    ),
    "a server on a device many times": _with(resources=[{**SERVER, "devices": ["cpu0"] * 300}]),
    "a server with a wrong port": _with(resources=[{**SERVER, "port": "8100"}]),
    "a server with NaN": json.dumps(_with(resources=[{**SERVER, "port": float("nan")}])),
    "a server with more": _with(resources=[{**SERVER, "python": "/bin/sh"}]),
    "unknown servers as a list": _with(unknown_servers=["a"]),
    "notes as text": _with(notes="x"),
    "a fault without a text": _with(gateways={"main": {}}),
    "gateways as a list": _with(gateways=["main"]),
    "a byte that is no text": "\udcff",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_live_state_is_an_error_of_ours(name: str, project: Path) -> None:
    document = HOSTILE[name]
    text = document if isinstance(document, str) else json.dumps(document)
    (project / "live.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    done = call(project, "plan", "--offline", "--live", str(project / "live.json"))
    assert (done.code, done.stdout) == (1, "")
    assert "FC" in done.stderr
