"""Temporary keys of an S3 service, asked for by AWS's ``AssumeRole``."""

from __future__ import annotations

import datetime
import hashlib
import hmac
import re
import urllib.request
from collections.abc import Mapping
from urllib.parse import urlencode, urlsplit

import attrs


@attrs.frozen(kw_only=True)
class TemporaryKeys:
    """Keys that a storage service made for a while."""

    access_key: str
    secret_key: str = attrs.field(repr=False)
    session_token: str = attrs.field(repr=False)


def assume_role(endpoint: str, access_key: str, secret_key: str, session: str) -> TemporaryKeys:
    """Return keys for a session of an hour.

    Args:
        session: its name; the keys of each name are others.
    """
    form = {
        "Action": "AssumeRole",
        "Version": "2011-06-15",
        "RoleSessionName": session,
        "DurationSeconds": "3600",
    }
    body = urlencode(form).encode()
    headers = _signed(endpoint, body, access_key, secret_key)
    request = urllib.request.Request(f"{endpoint}/", body, headers)
    with urllib.request.urlopen(request, None, 30) as answer:
        text = answer.read().decode()
    found = [
        re.search(f"<{name}>([^<]+)</{name}>", text)
        for name in ("AccessKeyId", "SecretAccessKey", "SessionToken")
    ]
    access, secret, token = (match[1] for match in found if match)
    return TemporaryKeys(access_key=access, secret_key=secret, session_token=token)


def _signed(endpoint: str, body: bytes, access_key: str, secret_key: str) -> Mapping[str, str]:
    """Return the headers of a request signed as AWS's signature version 4 wants it.

    https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
    """
    moment = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
    headers = {
        "content-type": "application/x-www-form-urlencoded",
        "host": urlsplit(endpoint).netloc,
        "x-amz-date": moment,
    }
    names = ";".join(headers)
    lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
    canonical = f"POST\n/\n\n{lines}\n{names}\n{hashlib.sha256(body).hexdigest()}"
    scope = f"{moment[:8]}/us-east-1/sts/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    return {
        **headers,
        "authorization": (
            f"AWS4-HMAC-SHA256 Credential={access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}"
        ),
    }
