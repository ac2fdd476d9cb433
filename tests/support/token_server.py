"""A small OAuth2 token server: client credentials, opaque tokens that expire."""

from __future__ import annotations

import http.server
import json
import secrets
import threading
import time
from urllib.parse import parse_qs

from support.catalog_proxy import Answer, Request, Send

#: The client that the server knows.
CLIENT = ("etl", "etl-secret-word")


class TokenServer:
    """An identity provider with one client.

    Args:
        seconds: how long a token is good.
        scopes: those that it knows; another one is refused, as Keycloak does.
        redirect: where requests for tokens are sent on to, with 307.
    """

    def __init__(
        self, seconds: float = 3600.0, scopes: tuple[str, ...] = (), redirect: str = ""
    ) -> None:
        self.seconds = seconds
        self.scopes, self.redirect = scopes, redirect
        self.issued: dict[str, float] = {}
        self.forms: list[dict[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def uri(self) -> str:
        """Address for tokens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/realms/lake/token"

    def guard(self, request: Request, send: Send) -> Answer:
        """Refuse requests to a catalog without a token that is good; a layer of its proxy."""
        found = {name.lower(): value for name, value in request.headers.items()}
        token = found.get("authorization", "").removeprefix("Bearer ")
        if self.issued.get(token, 0.0) > time.time():
            return send(request)
        error = {"message": "expired or unknown token", "type": "NotAuthorized", "code": 401}
        return Answer(status=401, body=json.dumps({"error": error}).encode())

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()

    def __enter__(self) -> TokenServer:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _answer(self, form: dict[str, str]) -> tuple[int, dict[str, object]]:
        if (form.get("client_id"), form.get("client_secret")) != CLIENT:
            said = "Invalid client or Invalid client credentials"
            return 401, {"error": "invalid_client", "error_description": said}
        if form.get("scope") and form["scope"] not in self.scopes:
            said = f"Invalid scopes: {form['scope']}"
            return 400, {"error": "invalid_scope", "error_description": said}
        token = secrets.token_urlsafe(24)
        self.issued[token] = time.time() + self.seconds
        return 200, {"access_token": token, "expires_in": self.seconds, "token_type": "Bearer"}

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                text = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                form = {name: values[-1] for name, values in parse_qs(text).items()}
                server.forms.append(form)
                server.headers.append(dict(self.headers.items()))
                if server.redirect:
                    self.send_response(307)
                    self.send_header("Location", server.redirect)
                    self.end_headers()
                    return
                status, body = server._answer(form)
                content = json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:
                """Say nothing."""

        return Handler
