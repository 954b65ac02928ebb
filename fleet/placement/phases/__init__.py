"""The steps of the search for a placement, from the servers that run to those that are bought."""
