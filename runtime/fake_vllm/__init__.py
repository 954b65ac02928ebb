"""A vLLM that needs no vLLM: the same command line, HTTP answers and manners, made-up texts.

It is a server like any other, so whatever works against it works through the same code as
against the real one. What it imitates was measured on vLLM 0.32; one conformance suite
runs on both. In tests it can also run inside the process, with faults on request.
"""

from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.flags import FakeConfig
from runtime.fake_vllm.state import FakeModelServer, InjectedFaults

__all__ = ["FakeConfig", "FakeModelServer", "InjectedFaults", "fake_app"]
