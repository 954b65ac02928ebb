"""Plans a changed fleet, never to be applied; advises changes with which a fleet fits.

Layer 7, beside `maintenance`, above planning: every advice was planned with before it is given.
Pure.
"""

from fleet.what_if.advisor import diagnose
from fleet.what_if.candidates import Advice, Diagnosis
from fleet.what_if.changes import what_if, what_if_live
from fleet.what_if.loss_advisor import LossDiagnosis, diagnose_losses
