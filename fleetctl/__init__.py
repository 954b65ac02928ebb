"""Wires. Click commands that parse options, call, print and exit; they decide nothing."""

__version__ = "0.1.0"
