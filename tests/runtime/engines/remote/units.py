"""A server of a box, with its launch and its record."""

from fleet.hardware import DeviceSpec, HostSpec
from fleet.resources import Server, ServerFlags
from fleet.vllm import LaunchCommand, launch_of
from runtime.engines.launch_records import LaunchRecord

FLAGS = ServerFlags(
    model="/models/my llama", served_name="llama3", max_loras=8, max_lora_rank=32, max_cpu_loras=24,
    extra=(("enforce-eager", ""),),
)  # fmt: skip
SERVER = Server("llama3-box1-gpu0", "llama3", "box1", ("gpu0",), 8001, FLAGS.digest, FLAGS)
HOST = HostSpec("box1", "local", devices=(DeviceSpec("gpu0", "rtx4090_24g", 24 << 30, 0, 8001),))
_made = launch_of(SERVER, HOST, python="/opt/vllm/bin/python", launch="0123456789ab")
assert _made is not None
LAUNCH: LaunchCommand = _made
RECORD = LaunchRecord.of(SERVER, FLAGS, "http://127.0.0.1:8001", "0123456789ab").model_copy(
    update={"arguments": LAUNCH.arguments}
)
