"""plans.compile."""
