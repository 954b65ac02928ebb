"""Plans a changed fleet, never to be applied; advises changes with which a fleet fits.

Layer 7, beside `maintenance`, above planning: every advice was planned with before it is given.
Pure.
"""

from fleet.advice.candidates import Advice, Diagnosis
from fleet.advice.changes import what_if, what_if_live
from fleet.advice.trial import LossDiagnosis, diagnose, diagnose_losses
