"""Estimates memory and throughput of servers, and the demand of adapters by hour.

Layer 3, above `vllm`. Callers hand in bases, devices, flags and loads; placement, checks, forecasts
and `explain` use the same law. Pure.
"""

from fleet.capacity.calibration import (
    PROFILE_FORMAT,
    WORST_RESIDUAL,
    Point,
    fit,
    parse_profile,
    speed_of,
)
from fleet.capacity.decode_law import (
    estimate_speed,
    largest_batch,
    prompt_seconds,
    step_seconds,
    step_under_load,
)
from fleet.capacity.demand import (
    DEMAND_FILE,
    HOURS,
    IDLE,
    USER_DAYS,
    Load,
    ObservedDemand,
    Recording,
    carried_on,
    hourly_rpm,
    load_of,
    parse_recorded_demand,
    peak_hour,
    record_demand,
    recorded_demand_text,
    without_demand,
)
from fleet.capacity.server import (
    NO_PROMISES,
    NO_REQUEST_MIX,
    USUAL_PROMPT_WEIGHT,
    DeviceMemory,
    LatencyTarget,
    RequestMix,
    ServerShape,
    Throughput,
    keeps,
    least_bytes,
    memory_of,
    request_mix_of,
    shape_of,
    throughput_of,
)
