"""Engines: operations on the servers of a host. A file per engine."""
