"""Bodies, paths and keys that a client may try in order to reach other clients' data."""

import gzip

from tests.runtime.gateway.stage import ACME, GLOBEX, OLD, OTHERS

MESSAGES = b'"messages":[{"role":"user","content":"hi"}]'


def body(members: bytes) -> bytes:
    return b"{" + members + b"," + MESSAGES + b"}"


FOREIGN: dict[str, bytes] = {
    "a foreign alias": body(b'"model":"globex-dates"'),
    "a foreign version": body(f'"model":"{OTHERS}"'.encode()),
    "a version of its own": body(f'"model":"{OLD}"'.encode()),
    "the base": body(b'"model":"tiny"'),
    "an unknown name": body(b'"model":"globex-dated"'),
    "no name": body(b'"model":""'),
    "a name with a space": body(b'"model":"acme-support "'),
    "other letters": body(b'"model":"Acme-Support"'),
    "a name with a null byte": body(b'"model":"acme-support\\u0000"'),
    "an escaped foreign name": body(b'"model":"globex\\u002ddates"'),
    "an escaped key": body(b'"mod\\u0065l":"globex-dates"'),
    "a nested own name": body(b'"metadata":{"model":"acme-support"},"model":"globex-dates"'),
    "a path": body(b'"model":"acme-support/../globex-dates"'),
    "a pattern": body(b'"model":"*"'),
    "a name that looks the same": body('"model":"\u0430cme-support"'.encode()),
    "a name in wide letters": body('"model":"\uff41cme-support"'.encode()),
    "a name with an invisible letter": body('"model":"acme-support\u200b"'.encode()),
    "a line end": body(b'"model":"acme-support\\n"'),
    "a name with a base": body(b'"model":"tiny:acme-support"'),
    "a folder": body(b'"model":"/store/globex-dates-tiny-v1.0.0"'),
    "an own name in other fields": body(
        b'"model":"globex-dates","lora":"acme-support","adapter_id":"acme-support"'
    ),
}
MALFORMED: dict[str, bytes] = {
    "two models, the foreign one last": body(b'"model":"acme-support","model":"globex-dates"'),
    "two models, the foreign one first": body(b'"model":"globex-dates","model":"acme-support"'),
    "two models, one escaped": body(b'"model":"acme-support","\\u006dodel":"globex-dates"'),
    "two models, one a prefix": body(b'"model":"acme-support","model":"acme-support-2"'),
    "two equal models": body(b'"model":"acme-support","model":"acme-support"'),
    "another field twice": body(b'"model":"acme-support","user":"a","user":"b"'),
    "no model": b"{" + MESSAGES + b"}",
    "only a nested model": body(b'"metadata":{"model":"acme-support"}'),
    "a list": body(b'"model":["acme-support","globex-dates"]'),
    "an object": body(b'"model":{"a":"acme-support"}'),
    "a number": body(b'"model":1'),
    "null": body(b'"model":null'),
    "a byte order mark": b"\xef\xbb\xbf" + body(b'"model":"acme-support"'),
    "UTF-16": body(b'"model":"acme-support"').decode().encode("utf-16"),
    "bytes that are no UTF-8": body(b'"model":"acme-support","user":"\xff"'),
    "a lone surrogate": body(b'"model":"\\ud800"'),
    "two documents": body(b'"model":"acme-support"') + body(b'"model":"globex-dates"'),
    "a list of bodies": b"[" + body(b'"model":"acme-support"') + b"]",
    "a comment": b"/* */" + body(b'"model":"acme-support"'),
    "no JSON": b"model=acme-support",
    "an overlong encoding": body(b'"model":"acme-support","x":"\xc0\xaf"'),
    "a surrogate in UTF-8": body(b'"model":"acme-support","x":"\xed\xa0\x80"'),
    "not a number": body(b'"model":"acme-support","x":NaN'),
    "single quotes": body(b"'model':'acme-support'"),
    "a comma too many": body(b'"model":"acme-support",'),
    "two models with spaces": body(b'"model": "acme-support", "model": "globex-dates"'),
    "two models, one with spaces": body(b'"model": "globex-dates","model":"acme-support"'),
    "a name that quotes another": body(
        b'"model":"acme-support","x\\":1,\\"model":"globex-dates","model":"acme-support"'
    ),
    "a null byte": body(b'"model":"acme-support\x00globex-dates"'),
    "compressed": gzip.compress(body(b'"model":"acme-support"')),
    "nothing": b"",
    "deep nesting": body(b'"model":"acme-support","x":' + b"[" * 99_999 + b"]" * 99_999),
    "log probabilities of the prompt": body(b'"model":"acme-support","echo":true,"logprobs":1'),
}

CONVERSATIONS: dict[str, bytes] = {
    "the answer before": b'"previous_response_id":"resp_1"',
    "the answer before, escaped": b'"previous_response\\u005fid":"resp_1"',
    "a conversation": b'"conversation":{"id":"globex"}',
    "a conversation by its name": b'"conversation":"globex"',
    "in the background": b'"background":true',
    "in the background, as a number": b'"background":1',
    "tools of another server": b'"tools":[{"type":"mcp","server_url":"http://10.0.0.1"}]',
    "tools of another server, escaped": b'"tools":[{"t\\u0079pe":"m\\u0063p"}]',
    "tools of another server, spaced": b'"tools" : [ { "type" :\n "mcp" } ]',
    "tools of the server": b'"tools":[{"type":"function","name":"f"},{"type":"code_interpreter"}]',
    "tools called almost like own ones": b'"tools":[{"type":"functions"}]',
    "tools of no kind": b'"tools":[{"type":""}]',
}
"""Members of a body that ask for conversations kept by the server, or for tools of the server."""
OWN_TOOLS = (
    b'"tools":[{"type":"function","name":"f","description":"say \\"type\\":\\"mcp\\"","parameters":'
    b'{"type":"object","properties":{"type":{"type":"string"},"a":{"type":["null","integer"]}}}},'
    b'{"type":"custom","name":"g","format":{"type":"text"}}]'
)
PATHS = [
    "/v1/load_lora_adapter",
    "/v1/unload_lora_adapter",
    "/adapters",
    "/invocations",
    "/tokenize",
    "/metrics",
    "/docs",
    "/-/config",
    "/-/table",
    "/v1/responses/resp_1",
    "/v1/messages/batches",
    "/v1//chat/completions",
    "/v1/chat/completions/../../load_lora_adapter",
    "/v1/chat/completions/..%2f..%2fload_lora_adapter",
    "/V1/chat/completions",
    "/v1/chat/completions/",
    "/",
    "/v1/chat%2Fcompletions",
    "/v1/%63hat/completions",
    "//v1/chat/completions",
    "/v1/chat/completions;x=1",
    "/v1/chat/completions%00",
    "/v1/chat/completions%3Fx",
    "/v1/embeddings/x",
    "/v1/audio/transcriptions",
    "/server_info",
    "/sleep",
]

NO_KEY = [
    {"Authorization": "Bearer wrong"},
    {"Authorization": f"Bearer {ACME}x"},
    {"Authorization": f"Basic {ACME}"},
    {"Authorization": ACME},
    {"Authorization": "Bearer"},
    {"Authorization": ""},
    {"Authorization": f"Bearer {ACME}, Bearer {GLOBEX}"},
    {"X-Api-Key": f"Bearer {ACME}"},
    {"X-Api-Key": f"{ACME}x"},
    {"X-Api-Key": ""},
    {"Api-Key": ACME},
    {"Proxy-Authorization": f"Bearer {ACME}"},
    {"Cookie": f"Authorization=Bearer {ACME}"},
    {"Authorization": f"Bearer {ACME.upper()}"},
    {"Authorization": "Bearer " + "a" * 4000},
]
