"""Checks, prepares, lists and heals hosts and servers; changes the hosts that are trusted."""
