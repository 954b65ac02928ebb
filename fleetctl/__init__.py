"""Wires. Click commands that parse options, call, print and exit; they decide nothing."""

from fleet import __version__ as __version__
