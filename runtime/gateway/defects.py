"""Defects of the gateway itself: a client is told little, the log of the process all."""

import sys
import traceback
from contextlib import suppress

from runtime.gateway import refusals
from runtime.gateway.refusals import RefusalError


def told(error: Exception) -> RefusalError:
    """Return what a client is told of an error: a refusal is one, anything else is our defect."""
    if isinstance(error, RefusalError):
        return error
    tell_of(error)
    return refusals.failed()


def tell_of(error: BaseException) -> None:
    """Tell of a defect, with its place."""
    tell("".join(traceback.format_exception(error)))


def tell(text: str) -> None:
    """Write to the log of the process, which often lies on a disk that is full just then."""
    with suppress(OSError, ValueError):
        sys.stderr.write(text if text.endswith("\n") else f"{text}\n")
        sys.stderr.flush()
