"""Calibration: sends batches of known size to a running server and fits the throughput law."""

from runtime.calibrate.measure import CalibrationBudget, CalibrationTarget
from runtime.calibrate.run import (
    FOLDER,
    Calibration,
    MeasuredRow,
    calibrate,
    file_name,
    profile_text,
)

__all__ = [
    "FOLDER",
    "Calibration",
    "CalibrationBudget",
    "CalibrationTarget",
    "MeasuredRow",
    "calibrate",
    "file_name",
    "profile_text",
]
