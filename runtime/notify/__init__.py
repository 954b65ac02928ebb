"""Sends notices: webhook, mail, Alertmanager. Knows no fleet and writes nothing."""
