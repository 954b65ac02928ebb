"""A gateway that is an Envoy, from declarations to answers."""

import json
import signal
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import REPOSITORY, Project
from tests.runtime.gateway.envoy_stage import PROGRAM, needs_envoy

pytestmark = needs_envoy
ALIAS = "acme-support"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The quickstart fleet behind an Envoy, applied before that runs."""
    made = Project.copy(tmp_path_factory.mktemp("envoy") / "project", None)
    file = made.root / "fleet.yaml"
    text = file.read_text(encoding="utf-8")
    start = text.index("listen:", text.index("gateways:"))
    file.write_text(f"{text[:start]}kind: envoy, {text[start:]}", encoding="utf-8")
    plan = call(made, "plan")
    assert "is an Envoy: it assigns users to versions by another hash" in plan.stdout
    assert "Lost in translation to Envoy, gateway main:\n" in plan.stdout
    done = call(made, "apply", "--auto", "--yes")
    assert done.returncode == 0, done.stderr
    yield made
    made.clean_up()


@pytest.fixture(scope="module")
def envoy(project: Project) -> Iterator[str]:
    """The URL at which `gateway run` has Envoy answer."""
    (status,) = json.loads(call(project, "gateway", "status", "--format", "json").stdout)
    assert (status["kind"], status["revision"]) == ("envoy", None)
    log = (project.root / "envoy.log").open("wb")
    with (
        log,
        subprocess.Popen(
            project.command("gateway", "run"), cwd=REPOSITORY, stdout=log, stderr=log
        ) as process,
    ):
        try:
            while not (shown := rows(project)[0])["revision"]:
                assert process.poll() is None, (project.root / "envoy.log").read_text()
            yield f"http://{shown['listen']}"
        finally:
            process.send_signal(signal.SIGTERM)


def rows(project: Project) -> list[dict[str, object]]:
    return list(json.loads(call(project, "gateway", "status", "--format", "json").stdout))


def key(project: Project) -> str:
    return (project.root / ".fleetctl/keys/acme-prod").read_text(encoding="utf-8").strip()


def answered_by(project: Project, url: str) -> str:
    body = {"model": ALIAS, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
    request = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {key(project)}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return str(reply.headers["x-fleetctl-version"])


def test_an_envoy_serves_what_is_applied_rolled_back_and_compiled(
    project: Project, envoy: str, tmp_path: Path
) -> None:
    assert answered_by(project, envoy) == f"{ALIAS}-tiny-v2.1.0"
    path = project.root / "clients" / "acme.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace('version: "2.1.0"', 'version: "2.2.0"'), encoding="utf-8")
    done = call(project, "apply", "--auto", "--yes")  # drains on what Envoy says is at work
    assert done.returncode == 0, done.stderr
    (row,) = rows(project)
    assert row["revision"] == row["newest"] != 1
    assert {answered_by(project, envoy) for _ in range(200)} == {
        f"{ALIAS}-tiny-v2.1.0",
        f"{ALIAS}-tiny-v2.2.0",
    }
    shown = call(project, "status", "--client", "acme").stdout
    assert "% seen), 2.1.0 90 % (" in shown
    assert "of 200 requests" in shown
    back = call(project, "rollback", ALIAS, "--reason", "wrong refunds")
    assert back.returncode == 0, back.stderr
    assert {answered_by(project, envoy) for _ in range(20)} == {f"{ALIAS}-tiny-v2.1.0"}
    (row,) = rows(project)
    assert row["revision"] == row["newest"]
    assert "is an Envoy" in call(project, "gateway", "start").stderr
    refused = call(project, "gateway", "stop", "main")
    assert (refused.returncode, "fleetctl gateway run main" in refused.stderr) == (1, True)

    printed = call(project, "compile", "--target", "envoy")
    secret = key(project)
    whole = json.loads(printed.stdout)
    assert (printed.returncode, secret in printed.stdout + printed.stderr) == (0, False)
    assert '"credentials"' not in printed.stdout
    assert len(whole["static_resources"]["clusters"]) == 1
    file = tmp_path / "whole.json"
    file.write_text(printed.stdout.replace("/etc/envoy", str(tmp_path)), encoding="utf-8")
    checked = subprocess.run(
        [str(PROGRAM), "--mode", "validate", "-c", str(file)], capture_output=True, check=False
    )
    assert checked.returncode == 0, checked.stderr[-2000:]
    for lost in ("hash", "in clear", "2^53", "SIGKILL", "work in progress"):
        assert lost in printed.stderr
    out = tmp_path / "envoy"
    written = call(project, "compile", "--target", "envoy", "--out", str(out))
    assert "no Envoy runs on it here, start one: envoy -c" in written.stderr
    assert written.stdout == ""
    assert secret in (out / "routes.json").read_text(encoding="utf-8")
    assert (out / "routes.json").stat().st_mode & 0o077 == 0
    elsewhere = call(project, "compile", "--target", "envoy", "--out", str(out), "--seen-at", "/e")
    assert "envoy -c /e/envoy.json" in elsewhere.stderr
    assert str(out) not in (out / "envoy.json").read_text(encoding="utf-8")

    unknown = call(project, "compile", "--target", "envoy", "--gateway", "mian")
    assert (unknown.returncode, "main" in unknown.stderr) == (1, True)
    printed = call(project, "compile", "--target", "litellm")
    listed = json.loads(printed.stdout)["model_list"]
    assert ALIAS in {each["model_name"] for each in listed}
    assert "Clients are NOT kept apart" in printed.stderr
    written = call(project, "compile", "--target", "litellm", "--out", str(tmp_path / "litellm"))
    assert "litellm --config" in written.stderr
    written_file = (tmp_path / "litellm" / "config.yaml").read_bytes()
    assert yaml.safe_load(written_file)["model_list"] == listed
