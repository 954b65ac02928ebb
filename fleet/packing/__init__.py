"""Pack items into bins and adapters onto servers: numbers only, no fleet.

Prices, loads and sizes are integers. Budgets count moves and solver nodes, never seconds, and
random draws come from a seed, so that results repeat.
"""

from fleet.packing.bins import pack_setups, pack_vectors
from fleet.packing.bounds import PricedBase, configuration_bound, lower_bound, whole_servers_bound
from fleet.packing.instances import read_fleet, read_setups, read_vectors
from fleet.packing.problem import PRICE_UNIT, Effort, Instance, Reals, Stock
from fleet.packing.servers import pack, pack_servers
