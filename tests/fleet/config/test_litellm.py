"""Names that a LiteLLM proxy gives to the adapters of its servers."""

from typing import Any

import pytest

from fleet.config import proxy_names
from fleet.errors import FleetError

PLACE = {"api_base": "http://10.0.0.5:8000/v1/", "api_key": "os.environ/KEY"}


def entry(name: Any = "acme", model: Any = "hosted_vllm/acme-lora", **more: Any) -> dict[str, Any]:
    return {"model_name": name, "litellm_params": {"model": model, **PLACE, **more}}


def test_names_and_servers_are_read_and_the_rest_is_listed() -> None:
    document = {
        "model_list": [
            entry(weight=2),
            entry("birch", "openai/birch/lora"),
            entry("second", "hosted_vllm/acme-lora"),
            entry("gpt", "openai/gpt-4o", api_base=None),
            entry("elsewhere", api_base="os.environ/VLLM"),
            entry("other", "bedrock/claude"),
            "no map",
        ],
        "litellm_settings": {},
    }
    found = proxy_names(document, "config.yaml")
    url = "http://10.0.0.5:8000"
    assert found.asked == {(url, "acme-lora"): "acme", (url, "birch/lora"): "birch"}
    assert found.urls == (url,)
    left = "\n".join(found.left_out)
    for name in ("`weight`", "`second`", "`gpt`", "`elsewhere`", "`other`"):
        assert name in left
    assert "`litellm_settings`" in left


@pytest.mark.parametrize("document", [{}, {"model_list": []}, {"model_list": "x"}])
def test_a_file_without_a_server_of_vllm_is_refused(document: dict[str, Any]) -> None:
    with pytest.raises(FleetError, match="No vLLM server"):
        proxy_names(document, "config.yaml")
