"""Servers on the nodes of Ray clusters, as actors, by the cluster's HTTP interfaces alone."""
