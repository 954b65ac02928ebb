"""Ask an alias through the gateway, as a client's application would; standard library only.

    python examples/ask.py --key-file KEY acme-support "I was charged twice for May."

Prints the answer and the version that gave it.
"""

import argparse
import json
import sys
import urllib.error
import urllib.request
from pathlib import Path


def ask(url: str, key: str, alias: str, text: str, user: str = "") -> tuple[str, str]:
    """Return the answer and the name of the adapter version that gave it.

    Raises:
        urllib.error.HTTPError: the gateway or the server refused.
    """
    body = {
        "model": alias,
        "messages": [{"role": "user", "content": text}],
        "temperature": 0,
        "max_tokens": 48,
    }
    if user:
        body["user"] = user
    request = urllib.request.Request(  # noqa: S310 (the URL is the operator's own gateway)
        f"{url}/v1/chat/completions",
        data=json.dumps(body).encode(),
        headers={"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:  # noqa: S310
        answer = json.load(reply)
        version = reply.headers.get("x-fleetctl-version", "?")
    return answer["choices"][0]["message"]["content"], version


def main() -> None:
    """Ask once and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("alias")
    parser.add_argument("text")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--user", default="", help="keeps a user on one version during a canary")
    arguments = parser.parse_args()
    key = arguments.key_file.read_text(encoding="utf-8").strip()
    try:
        text, version = ask(arguments.url, key, arguments.alias, arguments.text, arguments.user)
    except urllib.error.HTTPError as error:
        sys.exit(f"HTTP {error.code}: {error.read().decode(errors='replace')}")
    print(f"{text}\n  -- {version}")


if __name__ == "__main__":
    main()
