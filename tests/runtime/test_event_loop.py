"""A result comes out of its loop without being written out in words."""

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import signal
from runtime import event_loop
signal.signal(signal.SIGINT, signal.default_int_handler)

worded = []

class Large:
    def __repr__(self):
        worded.append(self)
        return "large"

async def looked():
    return Large()

print(type(event_loop.run(looked())).__name__, len(worded))
"""


def test_a_result_is_returned_and_never_put_into_words() -> None:
    command = [sys.executable, "-c", PROGRAM]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.split() == ["Large", "0"], done.stderr
