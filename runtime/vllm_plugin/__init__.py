"""Holds the resolver: a distribution of its own, which vLLM loads and fleetctl never imports."""
