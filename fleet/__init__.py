"""Decides. Pure and synchronous: values in, values out.

Nothing here reads a file, a clock, an environment or a random number; whatever a
decision depends on is an argument. `README.md` beside this file draws the flow.
"""

__version__ = "0.1.0"
