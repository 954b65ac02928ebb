"""How far the clocks of two machines may differ."""

from datetime import timedelta
from typing import Final

SKEW: Final = timedelta(minutes=1)
