"""The real server that gateways' tests share."""

from tests.runtime.gateway.live import vllm

__all__ = ["vllm"]
