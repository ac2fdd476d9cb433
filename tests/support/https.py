"""An HTTPS server with certificates of its own, which answers as a test tells it to.

The keys serve tests on this machine only. They were made once (valid from 2020 to 2120), since
a test environment need not have a tool that makes certificates.
"""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

CA = """\
-----BEGIN CERTIFICATE-----
MIIBYzCCAQmgAwIBAgIBATAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1TZWVrbmFs
IHRlc3RzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAYMRYwFAYD
VQQDDA1TZWVrbmFsIHRlc3RzMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAELbQE
puPTaBQB1Oz0k+oaUPpe0XzL4/+ECJL3u87zbqAKMQgRrxEkW095WCoVzEg97bXs
tpcDvojIWLrX7NHP/aNCMEAwDwYDVR0TAQH/BAUwAwEB/zAOBgNVHQ8BAf8EBAMC
AQYwHQYDVR0OBBYEFAXDeNDbQlFKJdSZiNpxPxG3Y72mMAoGCCqGSM49BAMCA0gA
MEUCIAiBtMWWQgJtxqqPN8gFTEbUD13HW+p1+r2ji/286NfRAiEAl6VsXFiEfEQu
rDbk9fc7D0lKYqH8hKin94NGgY/hCts=
-----END CERTIFICATE-----
"""

_CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIBAjAKBggqhkjOPQQDAjAYMRYwFAYDVQQDDA1TZWVrbmFs
IHRlc3RzMCAXDTIwMDEwMTAwMDAwMFoYDzIxMjAwMTAxMDAwMDAwWjAUMRIwEAYD
VQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQPz9VX+T4t
6LLMRgkWov9K0/mgSv8JuLyMMsjL/8A50gbVmuPUCzO1B0h61HykvxXbQyr0T8V8
MfIyw0xvM2AKo34wfDAJBgNVHRMEAjAAMBoGA1UdEQQTMBGCCWxvY2FsaG9zdIcE
fwAAATATBgNVHSUEDDAKBggrBgEFBQcDATAfBgNVHSMEGDAWgBQFw3jQ20JRSiXU
mYjacT8Rt2O9pjAdBgNVHQ4EFgQURNHC7vQgM3OpRAAQP5CabbBD1xQwCgYIKoZI
zj0EAwIDSAAwRQIhALJhMChU3DOP8p17E7CyZTV7J7UM8ODuKDzcS3gjgSmYAiAe
csRU/T5H6zZU7cwdV5vV+TAd9KqyRWFvQM7aCcz9lw==
-----END CERTIFICATE-----
"""

_KEY = """\
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIB7amxwj19887PHxTAx9ahuFIhZnR7TwKeT1p+b8kF14oAoGCCqGSM49
AwEHoUQDQgAED8/VV/k+LeiyzEYJFqL/StP5oEr/Cbi8jDLIy//AOdIG1Zrj1Asz
tQdIetR8pL8V20Mq9E/FfDHyMsNMbzNgCg==
-----END EC PRIVATE KEY-----
"""


@attrs.frozen(kw_only=True)
class Answer:
    """What the server says. ``cut`` is how many bytes of the body it leaves out."""

    body: bytes = b""
    code: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict)
    cut: int = 0
    length: bool = True


@attrs.frozen(kw_only=True)
class HttpsServer:
    """A running server. ``answer`` is called with the path and the number of the request to it.

    ``conditions`` are those of each request, empty where it has none.
    """

    port: int
    requests: list[str]
    conditions: list[str]
    url: str
    ca_file: Path


@contextlib.contextmanager
def https_server(
    folder: Path, answer: Callable[[str, int], Answer], *, tls: bool = True
) -> Iterator[HttpsServer]:
    """Serve on a free port of this machine until the block ends."""
    requests: list[str] = []
    conditions: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            asked = ("If-None-Match", "If-Modified-Since")
            conditions.append("".join(self.headers.get(name, "") for name in asked))
            found = answer(self.path, requests.count(self.path))
            self.send_response(found.code)
            for name, value in found.headers.items():
                self.send_header(name, value)
            if found.length:
                self.send_header("Content-Length", str(len(found.body)))
            self.end_headers()
            self.wfile.write(found.body[: len(found.body) - found.cut])
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    ca_file = folder / "ca.pem"
    ca_file.write_text(CA)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        pair = folder / "server.pem"
        pair.write_text(_CERTIFICATE + _KEY)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pair)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    port = server.server_address[1]
    scheme = "https" if tls else "http"
    try:
        yield HttpsServer(
            port=port,
            requests=requests,
            conditions=conditions,
            url=f"{scheme}://localhost:{port}",
            ca_file=ca_file,
        )
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
