"""The usage log: one row for each request, written, read, summed up, copied between machines."""
