"""HTTP/1.1 on both sides of the gateway; the only modules that know a socket."""
