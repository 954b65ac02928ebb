"""Scripts that run inside other environments; they import nothing of fleetctl."""
