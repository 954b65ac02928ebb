"""Backups of a state folder: the archive, and its way back into place."""
