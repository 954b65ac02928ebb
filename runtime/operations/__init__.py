"""Use cases: what a command does, without the command line. See README.md."""
