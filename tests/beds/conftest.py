"""What tests on beds ask for."""

from tests.beds.boxes import bed
from tests.beds.checkouts import checkout
from tests.beds.engine_bench import box_project, ready, shared_bench, user_bench
from tests.beds.ray_bench import ray_bed, ray_bench

__all__ = [
    "bed", "box_project", "checkout", "ray_bed", "ray_bench", "ready", "shared_bench", "user_bench",
]  # fmt: skip
