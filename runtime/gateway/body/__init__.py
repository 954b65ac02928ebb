"""Bodies of requests and answers: paths, fields, streams and errors of each API."""
