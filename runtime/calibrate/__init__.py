"""Calibration: sends batches of known size to a running server and fits the throughput law."""
