"""Packing adapters on servers of mixed GPU types: cheapest servers that carry every hour.

A server holds one base, so each base is a group of its own. Its capacity depends on GPU type,
highest rank and number of adapters; replicas of one adapter stand on different servers. Prices
are integers (see `group.PRICE_UNIT`), loads too; budgets count moves and solver nodes.
"""
