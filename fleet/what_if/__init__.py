"""What if: the declared fleet with something changed, to be planned and never applied."""

from fleet.what_if.advisor import diagnose
from fleet.what_if.candidates import Advice, Diagnosis
from fleet.what_if.changes import what_if, what_if_live

__all__ = ["Advice", "Diagnosis", "diagnose", "what_if", "what_if_live"]
