"""The life of a request: admitted, routed, tried on servers, answered, counted."""
