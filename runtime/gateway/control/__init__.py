"""Gateways from outside: asked, started, stopped, restarted in turn, and their faults named."""
