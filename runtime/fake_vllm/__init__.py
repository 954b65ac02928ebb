"""A fake vLLM: the same command line, HTTP answers and limits, with made-up texts.

The imitated behaviour was measured on vLLM 0.32; one conformance suite runs on both. Tests can run
the fake server inside their process, and inject faults.
"""

from runtime.fake_vllm.app import fake_app
from runtime.fake_vllm.state import FakeConfig, FakeModelServer, InjectedFaults

__all__ = ["FakeConfig", "FakeModelServer", "InjectedFaults", "fake_app"]
