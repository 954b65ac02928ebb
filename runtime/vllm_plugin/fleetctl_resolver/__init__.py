"""A plug-in of vLLM: the adapters of fleetctl answer at once after a restart, and no other does."""
