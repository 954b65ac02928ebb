"""Execute: walks a plan's steps, journals before and after, verifies at the end."""

from runtime.execute.context import ExecutionContext
from runtime.execute.outcome import ApplyOutcome, StepOutcome, StepResult
from runtime.execute.run import execute

__all__ = ["ApplyOutcome", "ExecutionContext", "StepOutcome", "StepResult", "execute"]
