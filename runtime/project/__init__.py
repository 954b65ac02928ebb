"""runtime.project."""
