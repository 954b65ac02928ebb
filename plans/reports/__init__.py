"""plans.reports."""
