"""Render the pages of the dashboard from the documents of their facts; pure.

FleetSpec + PlacementResult -> hosts -> document
Bill -> cost_documents | invoice_documents -> documents
page, document -> render -> HTML
"""

from plans.dashboard.hosts import hosts
from plans.dashboard.pages import cost_documents, invoice_documents, render, stylesheet

__all__ = ["cost_documents", "hosts", "invoice_documents", "render", "stylesheet"]
