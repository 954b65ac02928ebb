"""The model of a placement: versions, servers, devices and rules, and the state of a search."""
