"""Engines: what fleetctl needs from the servers of a host. One file per engine."""
