"""An Envoy as a gateway: the files that fleetctl writes for it, and its admin side."""
