"""The command line called in this process: the same code and exit codes, a tenth of the time."""

import contextlib
import io
from dataclasses import dataclass

import pytest

from fleetctl.cli import main
from tests.commands import in_the_project
from tests.fleetctl.project_on_disk import Project


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def call(project: Project, *arguments: str, actor: str = "me") -> Done:
    """Run a command on a project for an actor; advice reads as in the project's folder."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GITHUB_ACTOR", actor)
        with (
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            pytest.raises(SystemExit) as left,
        ):
            main([*project.given, *arguments])
    code = left.value.code
    said, warned = (in_the_project(text.getvalue(), *project.given) for text in (out, err))
    return Done(code if isinstance(code, int) else 1, said, warned)
