"""Calibration: sends batches of known size to a running server and fits the throughput law."""

from runtime.calibrate.measure import CalibrationBudget
from runtime.calibrate.run import Calibration, MeasuredRow, calibrate
from runtime.calibrate.target import CalibrationTarget

__all__ = ["Calibration", "CalibrationBudget", "CalibrationTarget", "MeasuredRow", "calibrate"]
