"""Runs the parts of a round: the error of a part is reported, and the other parts run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from fleet.errors import LockHeldError, problem_of
from runtime.messages import EmitMessage, FailureMessage


@dataclass(slots=True)
class RoundParts:
    """The parts of a round, and whether any has failed."""

    emit: EmitMessage
    exit_code: int = 0
    """1 once a part has failed."""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Report any error that ends the block, and go on behind the block.

        Raises:
            LockHeldError: the lease is another run's, so that this run has to end.
        """
        try:
            yield
        except LockHeldError:
            raise
        except Exception as error:  # noqa: BLE001 (a part may be ended by anything)
            self.exit_code = 1
            shown = (
                replace(problem, detail=f"This ended {name}, and nothing else. {problem.detail}")
                for problem in problem_of(error).diagnostics
            )
            self.emit(FailureMessage(tuple(shown)))
