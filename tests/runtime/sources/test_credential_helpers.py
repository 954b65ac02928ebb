"""Docker's credential helpers, as programs on the PATH."""

import base64
import json
import os
from pathlib import Path

import pytest

from fleet.errors import LibraryError
from runtime.sources.registry import login_of
from tests.fleetctl.in_process import call
from tests.fleetctl.project_on_disk import Project

HELPER = """\
#!/bin/sh
test "$1" = get || exit 9
read -r name
echo "$name" >>"$(dirname "$0")/asked"
case "$name" in
{cases}
*) echo "credentials not found in native keychain"; exit 1;;
esac
"""
LOGIN = base64.b64encode(b"ci:secret").decode()


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "programs"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def install(programs: Path, name: str, **answers: str) -> None:
    """Write a helper that answers to names of registries, which have `_` for a dot."""
    cases = "\n".join(f"{place.replace('_', '.')}) {answer};;" for place, answer in answers.items())
    file = programs / f"docker-credential-{name}"
    file.write_text(HELPER.format(cases=cases), encoding="utf-8")
    file.chmod(0o755)


def says(user: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': user, 'Secret': secret})}'"


def configured(folder: Path, **content: object) -> Path:
    file = folder / "config.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    return file


def test_the_helper_of_a_registry_goes_before_the_store_and_both_before_the_file(
    programs: Path, tmp_path: Path
) -> None:
    install(programs, "own", r_example=says("ci", "secret"))
    install(programs, "store", r_example=says("x", "y"), q_example=says("ci", "secret"))
    file = configured(
        tmp_path,
        credHelpers={"r.example": "own"},
        credsStore="store",
        auths={"r.example": {"auth": "old"}, "q.example": {}, "s.example": {"auth": LOGIN}},
    )
    assert [login_of(f"{name}.example", file) for name in "rqst"] == [LOGIN, LOGIN, LOGIN, ""]
    assert "https://s.example" in (programs / "asked").read_text("utf-8")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ("echo no; exit 3", "docker-credential-own failed with exit code 3"),
        ("echo hello", "answered something else than a login"),
        ("echo '[1]'", "answered something else than a login"),
        (says("<token>", "refresh"), "gives an identity token, which fleetctl cannot use"),
        (None, "docker-credential-own, which docker's configuration names, is not there"),
    ],
)
def test_a_helper_that_gives_no_login_is_named(
    programs: Path, tmp_path: Path, answer: str | None, said: str
) -> None:
    if answer is not None:
        install(programs, "own", r_example=answer)
    file = configured(tmp_path, credHelpers={"r.example": "own"})
    with pytest.raises(LibraryError) as caught:
        login_of("r.example", file)
    (found,) = caught.value.diagnostics
    assert found.code == "FC3052"
    assert said in found.detail
    assert "refresh" not in str(caught.value)


@pytest.mark.parametrize("name", ["../own", "own;id", "", 7, None])
def test_a_name_that_is_no_name_of_a_program_is_not_run(
    programs: Path, tmp_path: Path, name: object
) -> None:
    install(programs, "own", r_example=says("ci", "secret"))
    assert login_of("r.example", configured(tmp_path, credsStore=name)) == ""
    assert not (programs / "asked").exists()


@pytest.mark.sources
def test_a_closed_registry_is_pushed_to_by_a_helper(
    programs: Path, closed_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = Project.copy(tmp_path / "project", None)
    (tmp_path / "docker").mkdir()
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    configured(tmp_path / "docker", credHelpers={closed_registry: "own"})
    file = programs / "docker-credential-own"
    file.write_text(f"#!/bin/sh\ncat >/dev/null\n{says('ci', 'secret')}\n", encoding="utf-8")
    file.chmod(0o755)
    version, target = "acme-support-tiny-v2.1.0", f"oci://{closed_registry}/acme/support:1"
    done = call(project, "adapter", "push", version, target)
    assert done.returncode == 0, done.stderr
    assert "secret" not in done.stdout + done.stderr
    file.write_text(f"#!/bin/sh\ncat >/dev/null\n{says('ci', 'wrong')}\n", encoding="utf-8")
    assert "[FC3052]" in call(project, "adapter", "push", version, target).stderr
