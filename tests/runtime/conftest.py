"""The real server that tests of the gateway and of rollouts share."""

from tests.runtime.gateway.live import vllm

__all__ = ["vllm"]
