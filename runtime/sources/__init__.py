"""Brings versions from registries, object stores, the Hub and web servers."""
