"""plans.explain."""
