"""Reads the files of a project: YAML, lock, overlays merged, and the shape of all."""
