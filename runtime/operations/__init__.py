"""runtime.operations."""
