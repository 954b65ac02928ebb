"""runtime.rollback."""
