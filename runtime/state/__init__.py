"""State: the home that all checkouts of a fleet share. A file per home."""
