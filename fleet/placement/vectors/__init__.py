"""Vector bin packing: construct, improve, bound, prove. Arrays of integers in, arrays out.

Sizes are an array `(items, dimensions)` and capacity an array `(dimensions,)`, both of integers;
an assignment is an array with one bin index for each item. Budgets are counted in moves or solver
nodes, never in seconds, and chance comes from a seeded generator, so that results repeat.
"""
