"""Render the pages of the dashboard from the documents of their facts; pure.

FleetSpec + PlacementResult -> hosts -> document
page, document -> render -> HTML
"""

from plans.dashboard.pages import hosts, render, stylesheet

__all__ = ["hosts", "render", "stylesheet"]
