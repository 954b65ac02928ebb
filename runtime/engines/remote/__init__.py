"""Reaches hosts by SSH, keeps their servers by systemd, and brings them files by digest."""
