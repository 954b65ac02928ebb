"""Execute: walks a plan's steps, journals before and after, verifies at the end."""

from runtime.execute.outcome import Outcome, Result, Verdict
from runtime.execute.run import execute
from runtime.execute.world import World

__all__ = ["Outcome", "Result", "Verdict", "World", "execute"]
