"""Makes a bucket, which the client of sources never does."""

import hashlib
import hmac
import urllib.request
from datetime import UTC, datetime


def create_bucket(url: str) -> None:
    """Make the bucket, which obstore does not; signed by the credentials of the variables."""

    host, now = url.removeprefix("http://"), datetime.now(UTC)
    day, stamp = now.strftime("%Y%m%d"), now.strftime("%Y%m%dT%H%M%SZ")
    empty = hashlib.sha256(b"").hexdigest()
    headers = f"host:{host}\nx-amz-content-sha256:{empty}\nx-amz-date:{stamp}\n"
    signed = "host;x-amz-content-sha256;x-amz-date"
    request = f"PUT\n/models\n\n{headers}\n{signed}\n{empty}"
    scope = f"{day}/default/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = b"AWS4sk"
    for part in (day, "default", "s3", "aws4_request"):
        key = hmac.new(key, part.encode(), "sha256").digest()
    signature = hmac.new(key, text.encode(), "sha256").hexdigest()
    made = urllib.request.Request(f"{url}/models", method="PUT", headers={
        "x-amz-date": stamp, "x-amz-content-sha256": empty,
        "Authorization": f"AWS4-HMAC-SHA256 Credential=ak/{scope}, SignedHeaders={signed}, "
        f"Signature={signature}",
    })  # fmt: skip
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(made) as answer:
        assert answer.status == 200
