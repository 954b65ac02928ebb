"""What a supervisor of others does with a server of fleetctl's: the same line, started again."""

import os
import signal
import subprocess
from pathlib import Path

from runtime.engines.launch_records import LaunchRecord
from runtime.processes import environment


def kill_and_restart(record: LaunchRecord, folder: Path, log: Path) -> "subprocess.Popen[bytes]":
    """Kill all processes of a server; start its command line again in the same environment."""
    leader = record.leader()
    assert leader is not None
    variables = environment(leader)
    for process in record.processes():
        os.kill(process, signal.SIGKILL)
    while record.processes():
        os.sched_yield()
    with log.open("ab") as output:
        return subprocess.Popen(
            record.arguments,
            env=variables,
            cwd=folder,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
