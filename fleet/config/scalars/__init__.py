"""Reads the scalars of the declarations: durations, sizes, percents, hours, versions, secrets.

A type reads its YAML form a single time, at the edge, and raises an error that shows the right
form. The error's type is a code of `fleet/codes.py`.
"""
