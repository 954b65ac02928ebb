"""Decides. Pure and synchronous: values in, values out.

No module of this package reads a file, a clock, an environment or a random number: all that a
decision depends on is an argument. `README.md` beside this file draws the layers.
"""

__version__ = "0.1.0"
