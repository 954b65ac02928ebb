"""plans.documents."""
