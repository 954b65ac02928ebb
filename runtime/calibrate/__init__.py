"""Calibration: drives a running server with batches of known size and fits the throughput law.

`schedule` says what to measure, `crowd` sends it, `gauges` reads the server's own figures, `run`
puts them together, `profilefile` keeps the result. Nothing is started, loaded or changed; the
server answers clients meanwhile, more slowly.
"""

from runtime.calibrate.measure import CalibrationBudget
from runtime.calibrate.run import Calibration, MeasuredRow, calibrate
from runtime.calibrate.target import CalibrationTarget

__all__ = ["Calibration", "CalibrationBudget", "CalibrationTarget", "MeasuredRow", "calibrate"]
