"""Hosts, servers and what is wrong with them: checked, prepared, listed, healed, trusted."""
