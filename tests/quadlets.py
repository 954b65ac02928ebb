"""Quadlet files through the generator of podman, which makes units of them."""

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

GENERATOR = Path("/usr/lib/systemd/user-generators/podman-user-generator")


def generated(text: str) -> str:
    """Return the unit of a Quadlet file, which its first line names.

    Raises:
        ValueError: podman refuses the file; with what it says.
    """
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        environment = {**os.environ, "QUADLET_UNIT_DIRS": folder}
        command = [str(GENERATOR), "-dryrun", "-user"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def words_of(unit: str) -> list[str]:
    """Return the command that systemd runs for a unit, without variables of its own."""
    (line,) = [line for line in unit.splitlines() if line.startswith("ExecStart=")]
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line[10:])]
