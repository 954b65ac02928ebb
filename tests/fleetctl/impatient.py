"""A command in a process of its own that waits 2 s for a ledger's home and its lock, not 10 and 15.

In a process of its own, since a thread that hangs on a home ends with the process alone.
"""

import subprocess
import sys

from tests.commands import in_the_project
from tests.fleetctl.in_process import Done
from tests.fleetctl.project_on_disk import REPOSITORY, Project

_PROGRAM = """
from runtime.ledger import fallback, file
file.LOCK_S = 2.0
made = fallback.FallbackLedger.__init__
made.__defaults__ = tuple(2.0 if its == fallback.READ_S else its for its in made.__defaults__)
fallback.READ_S = 2.0
from fleetctl.cli import main
main()
"""


def run(project: Project, *arguments: str) -> Done:
    """Run a command on a project to its end."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM, *project.given, *arguments],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    said, warned = (in_the_project(text, *project.given) for text in (done.stdout, done.stderr))
    return Done(done.returncode, said, warned)
