"""Secrets planted in every source are found in no output of any command, nor in any file.

Each secret is another text. Commands run in all their formats, also those that fail, on a fleet of
the fake engine behind a gateway.
"""

import json
import os
import re
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import click
import pytest

from fleet.environment import server_key
from runtime.engines.launch_records import LaunchRecords
from tests.fleetctl.in_process import Done, call
from tests.fleetctl.program.test_help import commands
from tests.fleetctl.project_on_disk import Project
from tests.fleetctl.webhook import Webhook, webhook
from tests.ports import free_port

ENVIRONMENT = {
    "CANARY_KEY": "canary-0-client-key-of-acme",
    "CANARY_OPERATOR": "canary-1-operator-secret",
    "CANARY_JUDGE": "canary-2-key-of-the-judge",
    "CANARY_SERVERS": "canary-8-secret-of-the-servers",
    "UNRELATED_API_KEY": "canary-3-of-nobody",
}
HOOK = "canary-4-in-the-path-of-a-webhook"
LITERAL = "canary-5-written-into-a-file"
USERINFO = "canary-6"
WRONG = "canary-7-a-key-that-nobody-has"
SET = "golden/support.jsonl"
SECRET_FILES = ("keys/*", "operator.secret", "cache/preflight/key")
"""Where secrets belong, in the state folder."""
ARGUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "adapter add": (("models/adapters/acme/support-v2.1.0", "--as", "acme-support-tiny-v9.0.0"),),
    "adapter show": (("acme-support-tiny-v2.1.0",),),
    "apply": (("plan.json", "--yes"), ("--auto", "--yes")),
    "calibrate": (("tiny-laptop-cpu0", "--rounds", "1", "--minutes", "0"),),
    "config show": ((), ("--origin",), ("clients.acme",)),
    "eval import": (("results.json", "--from", "inspect", "--as", "acme-support-tiny-v2.1.0"),),
    "eval judge": (("labels.jsonl", "--client", "acme"),),
    "eval run": (
        ("acme-support", "--golden", SET),
        ("acme-support", *f"--golden {SET} --url http://127.0.0.1:9 --key env:CANARY_KEY".split()),
    ),
    "eval show": (("nothing",),),
    "evidence show": (("1",),),
    "explain": (("acme-support",), ("key/acme/ci",), ("FC6011",)),
    "freeze": (("--reason", "canary test"),),
    "gateway restart": (("--wait", "0s"),),
    "gateway run": (("nothing",),),
    "gateway start": (("main",),),
    "key create": (("acme/prod",), ("--all",)),
    "pack": (("nothing.vbp",),),
    "plan": ((), ("--out", "plan.json")),
    "reconcile": (("--once",),),
    "release": (("acme-support",),),
    "retrain claim": (("acme-support", "--reason", "r"),),
    "retrain release": (("acme-support", "--reason", "r"),),
    "retrain run": (("acme-support",),),
    "rollback": (("acme-support",), ("acme-support", "--drill")),
    "rollout advance": (("acme-support", "--reason", "r"),),
    "rollout pause": (("acme-support", "--for", "1h"),),
    "scaffold adapter": (("acme/new", "--base", "tiny", "--version", "1.0.0"),),
    "scaffold client": (("newcomer",),),
    "scaffold fleet": (("made",),),
    "scaffold synthetic": (("many", "--clients", "2", "--adapters", "4", "--gpus", "1"),),
    "server logs": (("tiny-laptop-cpu0",),),
    "server stop": (("nothing",),),
    "show": (("plan.json",),),
    "state backup": (("backup.tar.gz", "--force"),),
    "state restore": (("backup.tar.gz", "--force"),),
    "trust add": (("https://gw.test", "--secret", "env:CANARY_OPERATOR"),),
    "trust remove": (("https://gw.test",),),
    "watch": (("--once",),),
}
"""Arguments by command; other commands get the alias `acme-support` for a required one."""
LAST = ("gateway stop", "server stop")
"""Commands that end what others need."""


@dataclass(frozen=True)
class Planted:
    project: Project
    secrets: tuple[str, ...]
    hook: Webhook
    said: dict[str, Done] = field(default_factory=dict)
    """Output by command line."""

    def run(self, *arguments: str) -> Done:
        done = call(self.project, *arguments)
        self.said[" ".join(arguments)] = done
        return done

    def found_in(self, text: bytes | str) -> list[str]:
        raw = text.encode() if isinstance(text, str) else text
        return [secret for secret in self.secrets if secret.encode() in raw]


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Planted]:
    with pytest.MonkeyPatch.context() as patch, webhook() as hook:
        for name, value in ENVIRONMENT.items():
            patch.setenv(name, value)
        patch.setenv("CANARY_HOOK", f"{hook.url}/{HOOK}")
        project = Project.copy(tmp_path_factory.mktemp("fleet") / "project", None)
        patch.chdir(project.root)
        _declare(project)
        made = Planted(project, (*ENVIRONMENT.values(), HOOK, WRONG, *_made(project)), hook)
        assert made.run("gateway", "start").returncode == 0
        first = made.run("apply", "--auto", "--yes")
        assert first.returncode == 0, first.stderr
        acme = project.root / "clients/acme.yaml"
        acme.write_text(acme.read_text("utf-8").replace('"2.1.0"', '"2.2.0"'), "utf-8")
        assert made.run("apply", "--auto", "--yes").returncode == 0
        made = Planted(project, tuple({*made.secrets, *_made(project)}), hook, made.said)
        yield made
        project.clean_up()


def _made(project: Project) -> list[str]:
    """Return the secrets that fleetctl made: keys of clients and servers, and the operator's."""
    state, secret = project.root / ".fleetctl", ENVIRONMENT["CANARY_SERVERS"]
    files = (path for pattern in ("keys/*", "operator.secret") for path in state.glob(pattern))
    records = LaunchRecords(state / "servers").all()
    keys = (server_key(secret, record.name, record.served_launch) for record in records)
    return [*(path.read_text("utf-8").strip() for path in files), *keys]


def _declare(project: Project) -> None:
    fleet, acme = project.root / "fleet.yaml", project.root / "clients/acme.yaml"
    text = fleet.read_text("utf-8")
    admin = f'admin: "http://127.0.0.1:{free_port()}", secret: env:CANARY_OPERATOR}}'
    text = re.sub(r'main: \{listen: "([0-9.:]+)"\}', rf'main: {{listen: "\1", {admin}', text)
    assert "CANARY_OPERATOR" in text
    judge = "{url: http://127.0.0.1:9, model: m, key: env:CANARY_JUDGE}"
    text += "servers_secret: env:CANARY_SERVERS\n"
    text += f"notify: {{webhook: env:CANARY_HOOK}}\nevals: {{judge: {judge}}}\n"
    fleet.write_text(text, "utf-8")
    keys = "prod: file:.fleetctl/keys/acme-prod\n"
    shown = acme.read_text("utf-8")
    assert keys in shown
    shown = shown.replace(keys, f"{keys}      ci: env:CANARY_KEY\n")
    told = "    notify: {webhook: env:CANARY_HOOK, events: [rolled_back]}\n    keys:"
    acme.write_text(shown.replace("    keys:", told), "utf-8")


def _ask(planted: Planted, key: str, body: dict[str, object]) -> str:
    """Return head and body of a gateway's answer."""
    text = (planted.project.root / "fleet.yaml").read_text("utf-8")
    port = text.partition('listen: "127.0.0.1:')[2].partition('"')[0]
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return f"{reply.headers}{reply.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.headers}{error.read().decode()}"


def _lines(command: tuple[str, ...], found: click.Command) -> Iterator[tuple[str, ...]]:
    """Yield the command lines of a command: each of its arguments in each of its formats."""
    name = " ".join(command)
    required = any(isinstance(p, click.Argument) and p.required for p in found.params)
    given = ARGUMENTS.get(name, (("acme-support",) if required else (),))
    formats = next((p.type for p in found.params if "--format" in p.opts), None)
    for arguments in given:
        yield (*command, *arguments)
        for form in formats.choices if isinstance(formats, click.Choice) else ():
            yield (*command, *arguments, "--format", form)


def test_no_command_prints_a_secret_in_any_format(planted: Planted) -> None:
    every = [
        (path[1:], command) for path, command in commands() if not isinstance(command, click.Group)
    ]
    every.sort(key=lambda pair: (" ".join(pair[0]) in LAST, " ".join(pair[0]) != "plan"))
    for key in (ENVIRONMENT["CANARY_KEY"], WRONG):
        for body in ({"model": "acme-support", "messages": [{"role": "user", "content": "Hi"}]},
                     {"model": "nothing"}, {"model": ["x"]}):  # fmt: skip
            assert planted.found_in(_ask(planted, key, dict(body))) == []
    ran = set()
    for path, command in every:
        for line in _lines(path, command):
            planted.run(*line)
            ran.add(" ".join(path))
    assert ran == {" ".join(path) for path, _ in every}
    assert any(HOOK in path for path, _ in planted.hook.documents), "the webhook was never used"
    leaks = {
        line: planted.found_in(done.stdout + done.stderr)
        for line, done in planted.said.items()
        if planted.found_in(done.stdout + done.stderr)
    }
    assert leaks == {}
    succeeded = [line for line, done in planted.said.items() if done.returncode == 0]
    assert len(succeeded) > len(planted.said) / 2, planted.said


def test_no_file_holds_a_secret_but_those_of_secrets(planted: Planted) -> None:
    state = planted.project.root / ".fleetctl"
    own = {path for pattern in SECRET_FILES for path in state.glob(pattern)}
    files = [
        path
        for path in planted.project.root.rglob("*")
        if path.is_file() and not path.is_symlink() and path not in own
    ]
    assert {"ledger.jsonl", "routes.json", "usage.jsonl", "plan.json", "log"} <= {
        path.name for path in files
    }
    assert {str(path): planted.found_in(path.read_bytes()) for path in files
            if planted.found_in(path.read_bytes())} == {}  # fmt: skip
    with tarfile.open(planted.project.root / "backup.tar.gz") as archive:
        for member in archive:
            stream = archive.extractfile(member)
            assert stream is not None
            assert planted.found_in(stream.read()) == [], member.name


def test_no_command_line_of_a_process_holds_a_secret(planted: Planted) -> None:
    lines = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            lines.append((folder / "cmdline").read_bytes())
        except OSError:
            continue
    ours = [line for line in lines if str(planted.project.root).encode() in line]
    assert [planted.found_in(line) for line in lines if planted.found_in(line)] == []
    assert ours or os.name != "posix"


BROKEN = {
    "a literal key": ("prod: file:.fleetctl/keys/acme-prod", f"prod: {LITERAL}"),
    "a literal key beside a syntax error": (
        "prod: file:.fleetctl/keys/acme-prod",
        f"prod: {LITERAL} [: {{",
    ),
    "a syntax error in the next line": (
        "prod: file:.fleetctl/keys/acme-prod",
        f"prod: {LITERAL}\n     ci: [",
    ),
    "a literal key in a flow map": (
        "prod: file:.fleetctl/keys/acme-prod",
        f"prod: {{a: {LITERAL}}}",
    ),
    "a key given twice": (
        "prod: file:.fleetctl/keys/acme-prod",
        f"prod: file:a\n      prod: {LITERAL}",
    ),
    "a password in a webhook": (
        "webhook: env:CANARY_HOOK",
        f"webhook: https://user:{USERINFO}@hooks.example/x",
    ),
    "a list of keys": ("prod: file:.fleetctl/keys/acme-prod", f"- {LITERAL}"),
    "a key as a number": ("prod: file:.fleetctl/keys/acme-prod", f"prod: !!int {LITERAL}"),
    "a key for a map": (
        "keys:\n      prod: file:.fleetctl/keys/acme-prod\n      ci: env:CANARY_KEY",
        f"keys: {LITERAL}",
    ),
    "a key for a map, quoted and long": (
        "keys:\n      prod: file:.fleetctl/keys/acme-prod\n      ci: env:CANARY_KEY",
        f'"keys": "{LITERAL}-and-more-than-forty-characters-of-it"',
    ),
    "keys in flow": (
        "keys:\n      prod: file:.fleetctl/keys/acme-prod\n      ci: env:CANARY_KEY",
        f"keys: {{prod: {LITERAL}, ci: [}}",
    ),
    "an unquoted tab": ("prod: file:.fleetctl/keys/acme-prod", f"\tprod: {LITERAL}"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_declarations_are_quoted_without_their_secret(planted: Planted, name: str) -> None:
    old, new = BROKEN[name]
    file = planted.project.root / "clients/acme.yaml"
    before = file.read_text("utf-8")
    assert old in before
    file.write_text(before.replace(old, new), "utf-8")
    try:
        for form in ("text", "json", "github", "sarif"):
            shown = call(planted.project, "validate", "--format", form)
            assert shown.returncode == 1
            assert LITERAL not in shown.stdout + shown.stderr
            assert USERINFO not in shown.stdout + shown.stderr
        for command in ("plan", "status", "fmt", "reconcile --once", "config show"):
            shown = call(planted.project, *command.split())
            assert LITERAL not in shown.stdout + shown.stderr, command
            assert USERINFO not in shown.stdout + shown.stderr, command
    finally:
        file.write_text(before, "utf-8")
