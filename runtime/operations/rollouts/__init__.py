"""Rollouts and upgrades of servers: marks, freezes, failed gates, rollbacks and their drills."""
