"""What if: the declared fleet with something changed, to be planned and never applied."""

from fleet.whatif.change import what_if, what_if_live
from fleet.whatif.refusals import EXAMPLES

__all__ = ["EXAMPLES", "what_if", "what_if_live"]
