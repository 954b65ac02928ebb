"""Frames a script so that its output and exit status are told apart from those of `ssh`.

A status of 255 alone may be that of `ssh`, of the script, or of a script killed by a signal.
"""

import re
from typing import NamedTuple


class ScriptResult(NamedTuple):
    """The result of a script that ran to its end on a host."""

    code: int
    """Exit status; 128 and the signal's number for a script killed by a signal."""
    stdout: str
    stderr: str = ""


def framed(script: str, mark: str) -> bytes:
    """Return the input of `sh -s` that runs a script between two marks, with no input of its own.

    The shell reads the parentheses whole before it runs a line: of a script that arrives cut off,
    nothing is run.
    """
    return (
        f"printf '%s\\n' {mark}\n(export LC_ALL=C\n{script}\n) </dev/null\n"
        f"printf '\\n%s %d\\n' {mark} \"$?\"\n"
    ).encode()


def has_begun(stdout: bytes | bytearray, mark: str) -> bool:
    """Say whether a script has begun."""
    return f"{mark}\n".encode() in stdout


def has_ended(stdout: bytes | bytearray, mark: str) -> bool:
    """Say whether the output of a script is whole."""
    tail = bytes(stdout[-len(mark) - 16 :])
    return re.search(rf"\n{mark} \d+\n\Z".encode(), tail) is not None


def unframed(stdout: bytes | bytearray, mark: str) -> ScriptResult | None:
    """Return the output between the marks, with the status; None: the script has no end.

    What the login shell's start files print before the first mark is dropped.
    """
    pattern = rf"{mark}\n(.*)\n{mark} (\d+)\n\Z".encode()
    found = re.search(pattern, bytes(stdout), re.DOTALL)
    return found and ScriptResult(int(found[2]), found[1].decode(errors="replace"))
