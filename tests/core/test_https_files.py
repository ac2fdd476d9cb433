"""Files behind https://: whole, within the limit, from where was said, or not at all."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path

import attrs
import pytest

from seeknal_core.contract.errors import EngineError
from seeknal_core.engine.files import https
from seeknal_core.engine.files.find import resolve_files
from support.cli import Cli
from support.engines import file_source
from support.https import Answer, HttpsServer, https_server

BODY = b"a,b\n1,x\n2,y\n"


@pytest.fixture
def answers() -> dict[str, Callable[[int], Answer]]:
    return {"/a.csv": lambda _: Answer(body=BODY)}


@pytest.fixture
def server(
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[HttpsServer]:
    monkeypatch.setattr(https, "PAUSE", 0.01)

    def answer(path: str, number: int) -> Answer:
        return answers[path](number) if path in answers else Answer(code=404)

    with https_server(tmp_path, answer) as running:
        monkeypatch.setenv("SSL_CERT_FILE", str(running.ca_file))
        yield running


def fetch(tmp_path: Path, url: str, max_bytes: int | None = None) -> tuple[str, bytes]:
    source = attrs.evolve(file_source("csv"), table=url, max_bytes=max_bytes)
    found = resolve_files(source, tmp_path, tmp_path / "scratch")
    return found.labels[0], found.files[0].read_bytes()


def test_a_file_is_downloaded_and_named_without_its_secrets(
    server: HttpsServer, tmp_path: Path, answers: dict[str, Callable[[int], Answer]]
) -> None:
    answers["/a.csv?token=secret"] = answers["/a.csv"]
    label, content = fetch(tmp_path, f"{server.url}/a.csv?token=secret")
    assert label == f"{server.url}/a.csv"
    assert content == BODY


def test_a_certificate_that_nobody_trusts_is_refused(
    server: HttpsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(EngineError, match="certificate is not trusted") as caught:
        fetch(tmp_path, f"{server.url}/a.csv")
    assert "SSL_CERT_FILE" in caught.value.hint
    assert server.requests == []


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_busy_server_is_asked_once_more(
    server: HttpsServer,
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    code: int,
) -> None:
    busy = Answer(code=code, headers={"Retry-After": "0"})
    answers["/b.csv"] = lambda n: busy if n == 1 else Answer(body=BODY)
    assert fetch(tmp_path, f"{server.url}/b.csv")[1] == BODY
    answers["/c.csv"] = lambda _: busy
    with pytest.raises(EngineError, match=f"the server answered {code}"):
        fetch(tmp_path, f"{server.url}/c.csv")
    assert server.requests.count("/c.csv") == 2


def test_the_pause_is_the_one_that_the_server_wants(
    server: HttpsServer,
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("seeknal_core.engine.files.https.time.sleep", slept.append)
    wants = {"Retry-After": "7"}
    answers["/b.csv"] = lambda n: Answer(code=429, headers=wants) if n == 1 else Answer(body=BODY)
    fetch(tmp_path, f"{server.url}/b.csv")
    assert slept == [7]
    answers["/c.csv"] = lambda _: Answer(code=429, headers={"Retry-After": "3600"})
    with pytest.raises(EngineError, match="wants 3600 s of patience"):
        fetch(tmp_path, f"{server.url}/c.csv")
    assert slept == [7]


@pytest.mark.parametrize("code", [401, 403, 404])
def test_a_refusal_is_not_repeated(
    server: HttpsServer,
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    code: int,
) -> None:
    answers["/b.csv"] = lambda _: Answer(code=code)
    with pytest.raises(EngineError, match=f"the server answered {code}"):
        fetch(tmp_path, f"{server.url}/b.csv")
    assert server.requests == ["/b.csv"]


def test_half_a_file_is_no_file(
    server: HttpsServer, tmp_path: Path, answers: dict[str, Callable[[int], Answer]]
) -> None:
    answers["/b.csv"] = lambda n: Answer(body=BODY, cut=4 if n == 1 else 0)
    assert fetch(tmp_path, f"{server.url}/b.csv")[1] == BODY
    answers["/c.csv"] = lambda _: Answer(body=BODY, cut=4)
    with pytest.raises(EngineError, match="ended after 8 of 12 bytes"):
        fetch(tmp_path, f"{server.url}/c.csv")
    answers["/d.csv"] = lambda _: Answer(body=BODY, length=False)
    with pytest.raises(EngineError, match="does not say how long"):
        fetch(tmp_path, f"{server.url}/d.csv")
    answers["/e.csv"] = lambda _: Answer(body=BODY, headers={"Content-Encoding": "gzip"})
    with pytest.raises(EngineError, match="sends gzip"):
        fetch(tmp_path, f"{server.url}/e.csv")


def test_a_file_beyond_the_limit_is_refused(server: HttpsServer, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="has 12 bytes, the limit is 11"):
        fetch(tmp_path, f"{server.url}/a.csv", max_bytes=11)
    assert fetch(tmp_path, f"{server.url}/a.csv", max_bytes=12)[1] == BODY


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("http://localhost/a.csv", "leads to another scheme, http://"),
        ("file:///etc/passwd", "leads to another scheme, file://"),
        ("ftp://localhost/a.csv", "leads to another scheme, ftp://"),
    ],
)
def test_a_redirect_to_another_scheme_is_not_followed(
    server: HttpsServer,
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    target: str,
    words: str,
) -> None:
    answers["/b.csv"] = lambda _: Answer(code=302, headers={"Location": target})
    with pytest.raises(EngineError, match=words):
        fetch(tmp_path, f"{server.url}/b.csv")


def test_a_redirect_on_the_same_scheme_is_followed_but_not_for_ever(
    server: HttpsServer, tmp_path: Path, answers: dict[str, Callable[[int], Answer]]
) -> None:
    answers["/b.csv"] = lambda _: Answer(code=301, headers={"Location": "/a.csv"})
    assert fetch(tmp_path, f"{server.url}/b.csv") == (f"{server.url}/b.csv", BODY)
    answers["/c.csv"] = lambda _: Answer(code=301, headers={"Location": "/c.csv"})
    with pytest.raises(EngineError, match="more than 5 redirects"):
        fetch(tmp_path, f"{server.url}/c.csv")


def test_a_public_host_may_not_lead_to_a_private_one() -> None:
    with pytest.raises(EngineError, match=r"leads to a private address, 127\.0\.0\.1"):
        https._redirected("source.s", "https://example.org/a", "https://127.0.0.1/secret")
    with pytest.raises(EngineError, match=r"leads to a private address, 169\.254\.169\.254"):
        https._redirected("source.s", "https://example.org/a", "https://169.254.169.254/latest")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://example.org/a.csv", "is not encrypted"),
        ("https:///a.csv", "names no host"),
        ("https://example.org/*.csv", "can't list files"),
        ("gs://bucket/a.csv", "can't be read from gs://"),
    ],
)
def test_other_urls_are_refused_before_anything_is_asked(
    tmp_path: Path, url: str, words: str
) -> None:
    with pytest.raises(EngineError, match=words):
        fetch(tmp_path, url)


def test_plain_http_works_on_this_machine(tmp_path: Path) -> None:
    with https_server(tmp_path, lambda *_: Answer(body=BODY), tls=False) as server:
        assert fetch(tmp_path, f"{server.url}/a.csv")[1] == BODY


def test_a_silent_server_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(https, "TIMEOUT", 0.1)
    monkeypatch.setattr(https, "PAUSE", 0.01)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(EngineError, match="no answer within"):
            fetch(tmp_path, f"http://127.0.0.1:{port}/a.csv")


def test_a_run_reads_a_file_behind_https_once_by_its_content(
    server: HttpsServer, tmp_path: Path, answers: dict[str, Callable[[int], Answer]]
) -> None:
    (tmp_path / "seeknal_project.yml").write_text("name: p\n")
    (tmp_path / "seeknal").mkdir()
    node = tmp_path / "seeknal" / "s.yml"
    text = f"kind: source\nname: s\nsource: csv\ntable: {server.url}/a.csv\n"
    right = hashlib.sha256(BODY).hexdigest()
    node.write_text(text + f"params: {{sha256: {right}}}\n")
    seeknal = Cli(cwd=tmp_path, environ={"SSL_CERT_FILE": str(server.ca_file)})
    assert "computed" in seeknal("run").out
    assert "1 reused" in seeknal("run").out
    answers["/a.csv"] = lambda _: Answer(body=BODY + b"3,z\n")
    assert "is another file than the one that was meant" in seeknal("run", code=1).err
    node.write_text(text)
    assert "1 computed" in seeknal("run").out
    node.write_text(text + "params: {sha256: abc}\n")
    assert "params.sha256: is not 64 hexadecimal digits" in seeknal("check", code=2).err


@pytest.mark.parametrize("gives", ["etag", "modified", "weak", "recent", "nothing"])
def test_a_file_that_did_not_change_is_downloaded_once(
    server: HttpsServer,
    tmp_path: Path,
    answers: dict[str, Callable[[int], Answer]],
    gives: str,
) -> None:
    """Where the server names its bytes; what it gives then is held to the digest, too."""
    root = tmp_path / "p"
    (root / "seeknal").mkdir(parents=True)
    (root / "seeknal_project.yml").write_text("name: p\n")
    digest = hashlib.sha256(BODY).hexdigest()
    source = f"kind: source\nname: a\nsource: csv\ntable: {server.url}/a.csv\n"
    (root / "seeknal/a.yml").write_text(f"{source}params: {{sha256: {digest}}}\n")
    headers = {
        "etag": {"ETag": '"1"'},
        "modified": {"Last-Modified": "Mon, 01 Jan 2024 00:00:00 GMT"},
        "weak": {"ETag": 'W/"1"'},
        "recent": {"Last-Modified": formatdate(usegmt=True)},
        "nothing": {},
    }[gives]
    answers["/a.csv"] = lambda number: (
        Answer(body=BODY, headers=headers)
        if number == 1 or gives not in ("etag", "modified")
        else Answer(code=304, headers=headers)
    )
    seeknal = Cli(cwd=root, environ={"SSL_CERT_FILE": str(server.ca_file)})
    query = ("query", "SELECT count(*) AS n FROM a", "--json")
    for _ in range(2):
        seeknal("run")
        assert seeknal(*query).json()["rows"] == [{"n": 2}]
    sent = [one for one in server.conditions if one]
    assert sent == ([next(iter(headers.values()))] if gives in ("etag", "modified") else [])
    # Other bytes, or another digest: downloaded as ever.
    answers["/a.csv"] = lambda _: Answer(body=BODY + b"3,z\n", headers=headers)
    assert "is another file than the one that was meant" in seeknal("run", code=1).said
    (root / "seeknal/a.yml").write_text(source)
    seeknal("run")
    assert seeknal(*query).json()["rows"] == [{"n": 3}]
