"""Gateway: the data plane between clients and servers, and how it is controlled."""
