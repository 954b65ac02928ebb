"""Takes a request through its life: admitted, routed, tried on servers, answered, counted."""
