"""An engine of fleetctl whose servers load adapters by PUT and DELETE."""
