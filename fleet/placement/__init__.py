"""Placement: which server holds which adapter version, and with what flags servers start.

What is loaded stays where it is as long as that is valid; the rest is packed. `place` is the one
entry; how it searches is its own business.
"""

from fleet.placement.outcome import Placement
from fleet.placement.place import place
from fleet.placement.search import Search

__all__ = ["Placement", "Search", "place"]
