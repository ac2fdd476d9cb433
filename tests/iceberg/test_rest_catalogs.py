"""How a REST catalog is found, asked and read: address, answers, tokens, hosts, keys."""

from __future__ import annotations

import json
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import pyarrow as pa
import pyarrow.fs as fs
import pytest

from seeknal_core.errors import BackendError, Unreachable, WriteRefused
from seeknal_core.types import ConnectionSpec, Since, redact
from seeknal_iceberg import plugin
from seeknal_iceberg.connection.profile import resolve
from seeknal_iceberg.connection.rest.answers import endpoints_of
from seeknal_iceberg.connection.storage.access import Offer, decide
from seeknal_iceberg.write import aws_names
from support import catalog_failing as failing
from support import catalog_layers as ways
from support import catalog_names as names
from support.catalog_asking import editing, refusal
from support.catalog_modes import in_mode, rest_backing
from support.catalog_proxy import Answer, CatalogProxy, Layer, Request, Send, answer, path
from support.iceberg import Bench
from support.processes import free_port
from support.rest_server import RestServer
from support.token_server import CLIENT, TokenServer

if TYPE_CHECKING:
    from support.lake import LakeServer

ROWS = {"id": [1, 2]}
LAKEKEEPER = ("LAKEKEEPER_URI", "LAKEKEEPER_WAREHOUSE")
KEYCLOAK = ("KEYCLOAK_TOKEN_URL", "KEYCLOAK_CLIENT_ID", "KEYCLOAK_CLIENT_SECRET")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RestServer]:
    """A catalog as the specification says, with tables in a folder."""
    with RestServer(tmp_path / "server") as made:
        yield made


def journey(tmp_path: Path, options: dict[str, Any], name: str = "lake") -> Bench:
    """Write, read, promote and drop a table."""
    bench = Bench({"catalog": options}, tmp_path / name)
    try:
        target = bench.target("sales.orders")
        bench.write(target, ROWS)
        promotion = bench.promotion()
        promotion.stage(target, {"id": [3]})
        promotion.publish()
        promotion.discard()
        assert [row["id"] for row in bench.rows(target)] == [3]
        for owned in plugin.list_owned(bench.context):
            plugin.drop_target(bench.context, owned)
    finally:
        bench.close()
    return bench


def answering(server: RestServer, *layers: Layer) -> CatalogProxy:
    """Put ways of answering before the server."""
    return CatalogProxy(server.uri, layers)


# Answers.


_FIELDS = {
    "config": ("defaults", "overrides", "endpoints"),
    "table": ("config", "storage-credentials"),
    "tables": ("config", "storage-credentials", "next-page-token"),
    "namespaces": ("next-page-token",),
    "namespace": ("properties",),
}


@pytest.mark.parametrize("nothing", [None, "", [], {}])
def test_null_absent_and_empty_fields_are_one(
    server: RestServer, tmp_path: Path, nothing: object
) -> None:
    def emptied(fields: tuple[str, ...], what: str) -> Layer:
        return editing(lambda body: body.update(dict.fromkeys(fields, nothing)), what)

    layers = [emptied(fields, what) for what, fields in _FIELDS.items()]
    with answering(server, *layers) as proxy:
        journey(tmp_path, {**server.catalog_options(), "uri": proxy.uri})


@pytest.mark.parametrize(
    ("what", "change", "words"),
    [
        ("table", {"metadata": {"format-version": 2}}, "the request for a table"),
        ("table", {"storage-credentials": "x"}, "storage-credentials"),
        ("config", {"defaults": ["x"]}, "defaults that are no mapping"),
        ("config", {"overrides": {"prefix": {"x": 1}}}, "overrides.prefix that is no text"),
        ("config", {"overrides": {"uri": ["x"]}}, "overrides.uri that is no text"),
        ("namespaces", {"namespaces": [5]}, "namespaces.0"),
        ("tables", {"identifiers": [{"name": 1}]}, "identifiers.0"),
    ],
)
def test_a_malformed_answer_ends_as_one_sentence(
    server: RestServer, tmp_path: Path, what: str, change: dict[str, Any], words: str
) -> None:
    Bench({"catalog": server.catalog_options()}, tmp_path / "a").write(
        (before := Bench({"catalog": server.catalog_options()}, tmp_path / "b")).target("sales.x"),
        ROWS,
    )
    before.close()
    with answering(server, editing(lambda body: body.update(change), what)) as proxy:
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path / "c")
        asking: tuple[Callable[[], object], ...] = (
            lambda: bench.inspect(bench.target("sales.x")),
            lambda: plugin.check_connection(bench.context),
            lambda: plugin.list_owned(bench.context),
        )
        said = ""
        for ask in asking:
            try:
                ask()
            except BackendError as error:
                said = str(error)
                break
        bench.close()
    assert words in said
    assert "lake" in said or "sales.x" in said
    assert "\n" not in said and "pydantic" not in said


def test_a_configuration_that_is_nested_without_end_is_one_sentence(
    server: RestServer, tmp_path: Path
) -> None:
    with CatalogProxy(server.uri) as proxy:
        proxy.rule(path("/v1/config"), answer(200, body="[" * 100_000 + "]" * 100_000))
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path / "a")
        with pytest.raises(BackendError, match="no configuration of an Iceberg catalog"):
            plugin.check_connection(bench.context)
        bench.close()


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("[" * 100_000, "without an access_token that can be sent"),
        ('{"access_token": 7}', "without an access_token that can be sent"),
        ('{"access_token": "a\\nb"}', "without an access_token that can be sent"),
        ("<html>sign in</html>", "without an access_token that can be sent"),
        ('{"access_token": "good", "expires_in": 1e999}', ""),
        ('{"access_token": "good", "expires_in": "²"}', ""),
        (json.dumps({"access_token": "good", "expires_in": 10**400}), ""),
    ],
)
def test_an_odd_answer_of_a_token_server_is_one_sentence_or_does_no_harm(
    server: RestServer, tmp_path: Path, body: str, words: str
) -> None:
    with CatalogProxy(server.uri) as proxy:
        proxy.rule(path("/oauth/tokens"), answer(200, body=body))
        options = {**server.catalog_options(), "credential": "etl:word"}
        options["oauth2-server-uri"] = f"{proxy.uri}v1/oauth/tokens"
        bench = Bench({"catalog": options}, tmp_path / "a")
        if words:
            with pytest.raises(BackendError, match=words):
                plugin.check_connection(bench.context)
        else:
            plugin.check_connection(bench.context)
        bench.close()


def test_a_token_with_a_line_end_is_called_so(server: RestServer, tmp_path: Path) -> None:
    for options in ({"token": "word-a\nb"}, {"token": "wörd-€"}, {"header.X-Key": "word-a\nb"}):
        bench = Bench({"catalog": {**server.catalog_options(), **options}}, tmp_path / "a")
        with pytest.raises(BackendError, match="can't be sent") as caught:
            plugin.check_connection(bench.context)
        assert "token" in caught.value.hint
        assert "word-a" not in str(caught.value)
        bench.close()


def test_endpoints_are_understood_however_they_are_written() -> None:
    listed = [
        "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "post /catalog/v1/{prefix}/transactions/commit",
        "GET /v1/namespaces/{ns}",
        "QUERY /v1/{prefix}/x", "nonsense", "GET /v2/tables",
    ]  # fmt: skip
    assert {str(each) for each in endpoints_of(listed) or ()} == {
        "GET /v1/{prefix}/namespaces/{namespace}/tables/{table}",
        "POST /v1/{prefix}/transactions/commit",
        "GET /v1/{prefix}/namespaces/{namespace}",
    }
    assert endpoints_of([]) is None and endpoints_of(None) is None


# The address.


@pytest.mark.parametrize("written", ["", "catalog/", "catalog"])
def test_a_catalog_below_its_address_is_found(
    server: RestServer, tmp_path: Path, written: str, caplog: pytest.LogCaptureFixture
) -> None:
    with answering(server, names.Prefix("0198-a3", "/catalog")) as proxy:
        journey(tmp_path, {**server.catalog_options(), "uri": proxy.uri + written})
        said = [each.getMessage() for each in caplog.records if "write that as uri" in each.message]
        assert len(said) == (0 if written else 1)


def test_an_address_without_a_catalog_is_said_with_usual_paths(
    server: RestServer, tmp_path: Path
) -> None:
    with answering(server, names.Prefix("x", "/api/catalog")) as proxy:
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path)
        with pytest.raises(BackendError, match="no Iceberg catalog at") as caught:
            plugin.check_connection(bench.context)
        assert "/api/catalog (Polaris)" in caught.value.hint
        bench.close()


def test_a_version_at_the_end_of_an_address_is_told(server: RestServer, tmp_path: Path) -> None:
    def knows(request: Request, send: Send) -> Answer:
        if not request.path.startswith("/catalog/v1/") or "/v1/v1/" in request.path:
            return Answer(status=404)
        if "/v1/catalog/" in request.path:
            return Answer(status=404)
        return send(attrs.evolve(request, path=request.path.removeprefix("/catalog")))

    with answering(server, knows) as proxy:
        written = f"{proxy.uri}catalog/v1/"
        bench = Bench({"catalog": {**server.catalog_options(), "uri": written}}, tmp_path)
        with pytest.raises(BackendError, match="no Iceberg catalog at") as caught:
            plugin.check_connection(bench.context)
        bench.close()
        assert caught.value.hint.endswith(f"{proxy.uri}catalog")
        journey(tmp_path, {**server.catalog_options(), "uri": caught.value.hint.split(": ")[-1]})


def test_a_page_of_what_stands_before_a_catalog_is_not_the_catalogs_word(
    server: RestServer, tmp_path: Path
) -> None:
    def page(request: Request, send: Send) -> Answer:
        return Answer(status=403, body=b"<html>no</html>")

    with answering(server, page) as proxy:
        options = {**server.catalog_options(), "uri": proxy.uri, "warehouse": "shop"}
        bench = Bench({"catalog": options}, tmp_path)
        with pytest.raises(BackendError) as caught:
            plugin.check_connection(bench.context)
        assert str(caught.value).endswith("with no answer of an Iceberg catalog: HTTP 403")
        assert "connections.lake.catalog.uri" in caught.value.hint
        bench.close()


def test_a_catalog_without_tls_is_told(server: RestServer, tmp_path: Path) -> None:
    options = {**server.catalog_options(), "uri": server.uri.replace("http://", "https://")}
    bench = Bench({"catalog": options}, tmp_path)
    with pytest.raises(BackendError, match="no TLS connection") as caught:
        plugin.check_connection(bench.context)
    assert "http://" in caught.value.hint and "verify_tls" not in caught.value.hint
    bench.close()


def test_a_warehouse_that_is_not_there_is_the_catalogs_own_word(
    server: RestServer, tmp_path: Path
) -> None:
    layer = names.Prefix("0198-a3", "/catalog", {"shop": server.warehouse})
    with answering(server, layer) as proxy:
        options = {**server.catalog_options(), "uri": f"{proxy.uri}catalog", "warehouse": "shpo"}
        bench = Bench({"catalog": options}, tmp_path)
        with pytest.raises(BackendError, match="Warehouse shpo not found"):
            plugin.check_connection(bench.context)
        bench.close()
        journey(tmp_path, {**options, "warehouse": "shop"})


# Tokens, and where they go.


def _secured(tokens: TokenServer, **more: str) -> dict[str, str]:
    return {"credential": ":".join(CLIENT), "oauth2-server-uri": tokens.uri, **more}


@pytest.mark.parametrize("scope", ["", "lakekeeper"])
def test_a_token_comes_from_the_identity_provider_once_and_is_renewed(
    server: RestServer, tmp_path: Path, scope: str
) -> None:
    with TokenServer(seconds=1.5, scopes=("lakekeeper",)) as tokens:
        with answering(server, tokens.guard) as proxy:
            options = {**server.catalog_options(), "uri": proxy.uri, **_secured(tokens)}
            if scope:
                options["scope"] = scope
            bench = Bench({"catalog": options}, tmp_path)
            target = bench.target("sales.orders")
            bench.write(target, ROWS)
            assert len(tokens.issued) == 1 or not scope
            time.sleep(1.6)
            bench.write(target, {"id": [4]})
            assert len(tokens.issued) >= 2
            assert [row["id"] for row in bench.rows(target)] == [4]
            bench.close()
        assert all("Authorization" not in headers for headers in tokens.headers)
        assert tokens.forms[-1].get("scope", "") == scope


def test_a_token_that_the_catalog_forgets_is_renewed(server: RestServer, tmp_path: Path) -> None:
    with TokenServer() as tokens, answering(server, tokens.guard) as proxy:
        options = {**server.catalog_options(), "uri": proxy.uri, **_secured(tokens)}
        bench = Bench({"catalog": options}, tmp_path)
        bench.write(bench.target("sales.a"), ROWS)
        tokens.issued.clear()
        bench.write(bench.target("sales.a"), {"id": [5]})
        bench.close()
        assert len(tokens.issued) == 1


def test_a_wrong_secret_is_one_message_without_it(server: RestServer, tmp_path: Path) -> None:
    with TokenServer() as tokens:
        options = {**server.catalog_options(), **_secured(tokens), "credential": "etl:wr0ng-word"}
        bench = Bench({"catalog": options}, tmp_path)
        with pytest.raises(BackendError) as caught:
            plugin.check_connection(bench.context)
        bench.close()
    said = str(caught.value) + caught.value.hint
    assert "refuses the credentials: invalid_client" in said and tokens.uri in said
    assert "wr0ng-word" not in said


def test_a_token_server_that_is_away_is_named(server: RestServer, tmp_path: Path) -> None:
    with TokenServer() as tokens:
        options = {**server.catalog_options(), **_secured(tokens)}
    bench = Bench({"catalog": options}, tmp_path)
    with pytest.raises(Unreachable, match=r"token server .* does not answer"):
        plugin.check_connection(bench.context)
    bench.close()


@attrs.frozen
class _Redirect:
    """Sends requests on to another host."""

    where: str

    def __call__(self, request: Request, send: Send) -> Answer:
        return Answer(status=307, headers={"Location": self.where + request.path.lstrip("/")})


def test_nothing_is_sent_to_hosts_that_the_profile_does_not_name(
    server: RestServer, tmp_path: Path
) -> None:
    def says_another_address(body: Any) -> None:
        body.setdefault("overrides", {}).update(
            {
                "uri": other.uri, "oauth2-server-uri": f"{other.uri}tokens",
                "py-io-impl": "os.path.FileIO", "header.Authorization": "Bearer theirs",
            }
        )  # fmt: skip

    with (
        CatalogProxy(server.uri) as other,
        TokenServer() as tokens,
        TokenServer(redirect=f"{other.uri}tokens") as sending_on,
        answering(server, tokens.guard, editing(says_another_address, "config")) as proxy,
        answering(server, _Redirect(other.uri)) as moved,
    ):
        options = {**server.catalog_options(), "uri": proxy.uri, **_secured(tokens)}
        journey(tmp_path, options)
        for changed in (
            {**options, "uri": moved.uri},
            {**options, "oauth2-server-uri": sending_on.uri},
        ):
            bench = Bench({"catalog": changed}, tmp_path / "x")
            with pytest.raises(BackendError, match="redirects to") as caught:
                plugin.check_connection(bench.context)
            assert "uri" in caught.value.hint
            bench.close()
        assert other.requests == []


def test_without_a_token_none_is_sent(server: RestServer, tmp_path: Path) -> None:
    with answering(server) as proxy:
        journey(tmp_path, {**server.catalog_options(), "uri": proxy.uri})
        assert all("Authorization" not in request.headers for request in proxy.requests)


# Signed requests.


def test_requests_are_signed_for_aws(server: RestServer, tmp_path: Path) -> None:
    from botocore.auth import SigV4Auth
    from botocore.awsrequest import AWSRequest
    from botocore.credentials import Credentials

    refused: list[str] = []

    def verify(request: Request, send: Send) -> Answer:
        found = {name.lower(): value for name, value in request.headers.items()}
        given = found.get("authorization", "")
        if "SignedHeaders=" not in given:
            return refusal(403, "Missing Authentication Token", "ForbiddenException")
        names = given.partition("SignedHeaders=")[2].partition(",")[0].split(";")
        where, _, query = request.path.partition("?")
        pairs = [pair.partition("=")[::2] for pair in query.split("&") if pair]
        again = AWSRequest(
            method=request.method,
            url=f"http://{found['host']}{where}" + (f"?{query}" if query else ""),
            data=request.body,
            headers={name: found[name] for name in names if name != "host"},
        )
        again.context["timestamp"] = found["x-amz-date"]
        auth = SigV4Auth(Credentials("AKIDEXAMPLE", "the-secret-key"), "glue", "eu-west-1")
        canonical = auth.canonical_request(again)
        signature = auth.signature(auth.string_to_sign(again, canonical), again)
        if f"Signature={signature}" not in given or pairs != sorted(pairs):
            refused.append(request.path)
            return refusal(403, "The signature does not match", "ForbiddenException")
        return send(request)

    with answering(server, verify) as proxy:
        options = {
            **server.catalog_options(), "uri": proxy.uri, "rest.sigv4-enabled": True,
            "rest.signing-name": "glue", "rest.signing-region": "eu-west-1",
            "client.access-key-id": "AKIDEXAMPLE", "client.secret-access-key": "the-secret-key",
        }  # fmt: skip
        journey(tmp_path, options)
        bench = Bench({"catalog": {**options, "client.secret-access-key": "wrong"}}, tmp_path)
        with pytest.raises(BackendError, match="signature does not match"):
            plugin.check_connection(bench.context)
        bench.close()


# Keys.

VENDED = {
    "s3.access-key-id": "VENDED", "s3.secret-access-key": "vended-secret",
    "s3.session-token": "vended-token", "s3.endpoint": "http://table:1", "s3.region": "r-table",
}  # fmt: skip


def test_keys_of_the_profile_win_as_one_unit(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = Offer.of({**VENDED, "py-io-impl": "x.Y", "s3.remote-signing-enabled": "true"}, ())
    profile = {"s3.access-key-id": "MINE", "s3.secret-access-key": "mine"}
    got = decide(profile, {"s3.endpoint": "http://catalog:1"}, offer, "s3://b/t")
    assert not got.vended and not got.signed_only
    assert got.properties == {
        **profile, "s3.endpoint": "http://table:1", "s3.region": "r-table",
    }  # fmt: skip
    mine = decide({**profile, "s3.endpoint": "http://mine:1"}, {}, offer, "s3://b/t").properties
    assert mine["s3.endpoint"] == "http://mine:1"
    client = {"client.access-key-id": "MINE", "client.secret-access-key": "mine"}
    assert "s3.access-key-id" not in decide(client, {}, offer, "s3://b/t").properties


def test_vended_keys_come_by_the_longest_prefix_then_from_config() -> None:
    near = {"s3.access-key-id": "NEAR", "s3.secret-access-key": "near"}
    far = {"s3.access-key-id": "FAR", "s3.secret-access-key": "far", "s3.session-token": "t"}
    offer = Offer.of(VENDED, [("s3://b/", far), ("s3a://b/t/", near), ("s3://other/", far)])
    got = decide({}, {}, offer, "s3://b/t/data/f.parquet")
    assert got.properties["s3.access-key-id"] == "NEAR" and got.vended
    assert "s3.session-token" not in got.properties  # config's is another unit's
    assert decide({}, {}, offer, "s3://b/u").properties["s3.access-key-id"] == "FAR"
    assert decide({}, {}, offer, "s3://c/u").properties["s3.access-key-id"] == "VENDED"


def test_remote_signing_alone_is_refused_but_not_beside_aws_keys(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer = Offer.of({"s3.signer.uri": "http://c/", "s3.remote-signing-enabled": "true"}, ())
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    assert decide({}, {}, offer, "s3://b/t").signed_only
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    assert not decide({}, {}, offer, "s3://b/t").signed_only


def test_a_named_endpoint_has_a_region_without_asking_aws(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    got = decide({}, {"s3.endpoint": "http://s3:1"}, Offer(), "s3://b/t").properties
    assert got["s3.region"] == "us-east-1"
    assert "s3.region" not in decide({}, {}, Offer(), "s3://b/t").properties


def test_remote_signing_is_refused_with_both_ways_out(lake: LakeServer, tmp_path: Path) -> None:
    with rest_backing(tmp_path / "server", lake) as backing, in_mode("signing", backing) as made:
        keys = {k: v for k, v in made.catalog_options().items() if not k.startswith("s3.")}
        bench = Bench({"catalog": keys}, tmp_path)
        with pytest.raises(BackendError, match="remote signing") as caught:
            bench.write(bench.target("sales.orders"), ROWS)
        assert "s3.access-key-id" in caught.value.hint
        assert "STS" in caught.value.hint
        with_keys = Bench({"catalog": made.catalog_options()}, tmp_path)
        with_keys.write(with_keys.target("sales.orders"), ROWS)
        with_keys.close()
        with pytest.raises(BackendError, match="remote signing") as checked:
            plugin.check_connection(bench.context)
        assert checked.value.hint == caught.value.hint
        bench.close()


def test_a_table_that_no_keys_open_is_not_called_damaged(lake: LakeServer, tmp_path: Path) -> None:
    """Nobody is told to replace its rows, for nothing is wrong with them."""
    with rest_backing(tmp_path / "server", lake) as backing, in_mode("signing", backing) as made:
        with_keys = Bench({"catalog": made.catalog_options()}, tmp_path)
        target = with_keys.target("sales.orders")
        written = with_keys.write(target, ROWS)
        with_keys.close()
        keys = {k: v for k, v in made.catalog_options().items() if not k.startswith("s3.")}
        bench = Bench({"catalog": keys}, tmp_path)
        since = Since(version=written.version, rows=2, mark=written.mark)
        for act in (
            lambda: plugin.changes_since(bench.context, (target,), (since,)),
            lambda: bench.write(target, ROWS),
        ):
            with pytest.raises(BackendError, match="remote signing") as caught:
                act()
            assert "cannot be read" not in str(caught.value)
            assert "STS" in caught.value.hint
        bench.close()


def test_a_check_fails_where_the_keys_of_the_profile_open_nothing(
    lake: LakeServer, tmp_path: Path
) -> None:
    with rest_backing(tmp_path / "server", lake) as backing:
        right = Bench({"catalog": backing.options}, tmp_path)
        right.write(right.target("sales.orders"), ROWS)
        right.close()
        wrong = {**backing.options, "s3.secret-access-key": "wrong-secret-word"}
        bench = Bench({"catalog": wrong}, tmp_path)
        with pytest.raises(BackendError, match=r"files of sales\.orders can't be read") as caught:
            plugin.check_connection(bench.context)
        assert "s3.access-key-id, s3.secret-access-key" in caught.value.hint
        assert "wrong-secret-word" not in f"{caught.value} {caught.value.hint}"
        bench.close()
        gone = {**backing.options, "s3.endpoint": f"http://127.0.0.1:{free_port()}"}
        bench = Bench({"catalog": gone}, tmp_path)
        with pytest.raises(BackendError, match="storage does not answer") as unanswered:
            plugin.check_connection(bench.context)
        assert "connections.lake.catalog.s3.endpoint" in unanswered.value.hint
        bench.close()


def test_keys_that_end_in_the_middle_of_a_copy_are_renewed(
    lake: LakeServer, tmp_path: Path
) -> None:
    """Also where their end is not told, and the storage refuses them."""
    with rest_backing(tmp_path / "server", lake) as backing, in_mode("vended", backing) as made:
        vending = next(each for each in made.proxy._layers if hasattr(each, "_seconds"))
        vending._seconds = 4.0
        told = editing(
            lambda body: body.get("config", {}).pop("s3.session-token-expires-at-ms", None),
            "table", "tables",
        )  # fmt: skip
        made.proxy._layers = (told, _untold, *made.proxy._layers)
        bench = Bench({"catalog": made.catalog_options()}, tmp_path)
        target = bench.target("sales.orders")
        bench.write(target, ROWS)
        table = bench.table(target)
        with table.io.new_output(f"{table.location()}/data/late.bin").create() as stream:
            stream.write(b"a" * 100)
            time.sleep(4.5)
            stream.write(b"b" * 100)
        with table.io.new_input(f"{table.location()}/data/late.bin").open() as stream:
            assert stream.read(100) == b"a" * 100
            time.sleep(4.5)
            assert stream.read() == b"b" * 100
        table.io.delete(f"{table.location()}/data/late.bin")
        bench.close()


def _untold(request: Request, send: Send) -> Answer:
    answer = send(request)
    if b"expires-at-ms" not in answer.body:
        return answer
    body = json.loads(answer.body)
    for each in body.get("storage-credentials") or ():
        each["config"].pop("s3.session-token-expires-at-ms", None)
    return attrs.evolve(answer, body=json.dumps(body).encode())


def test_vended_secrets_are_in_no_file_and_no_message(
    lake: LakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    secrets: set[str] = set()

    def listen(request: Request, send: Send) -> Answer:
        answer = send(request)
        found = re.findall(
            r'"s3\.(?:secret-access-key|session-token)": "([^"]+)"', answer.body.decode()
        )
        secrets.update(word for word in found if word != "useless")
        return answer

    caplog.set_level(logging.DEBUG, "seeknal")
    with rest_backing(tmp_path / "server", lake) as backing, in_mode("vended", backing) as made:
        made.proxy._layers = (listen, *made.proxy._layers)
        bench = Bench({"catalog": made.catalog_options()}, tmp_path / "project")
        target = bench.target("sales.orders")
        promotion = bench.promotion()
        promotion.stage(target, ROWS)
        bench.close()
        # Another command ends it: nothing of the first one's keys is left.
        bench = Bench({"catalog": made.catalog_options()}, tmp_path / "project")
        promotion.discard(bench)
        bench.close()
        assert len(secrets) >= 4
        assert redact(" ".join(secrets)) == " ".join(["***"] * len(secrets))
        left = lake.file_system().get_file_info(
            fs.FileSelector(backing.warehouse.removeprefix("s3://"), recursive=True)
        )
        assert [info.path for info in left if info.type == fs.FileType.File] == []
    for file in (tmp_path / "project" / "target").rglob("*"):
        if file.is_file():
            assert not any(secret.encode() in file.read_bytes() for secret in secrets)
    assert not any(secret in caplog.text for secret in secrets)


# Older projects, and pyiceberg's own file.


def _older(monkeypatch: pytest.MonkeyPatch, values: Sequence[str]) -> None:
    for name, value in zip((*LAKEKEEPER, *KEYCLOAK), values, strict=True):
        monkeypatch.setenv(name, value)


def _resolved(options: dict[str, Any]) -> dict[str, Any]:
    connection = resolve(ConnectionSpec(name="lake", type="iceberg", options=options), "/p")
    return {
        name: value if isinstance(value, str) else value.reveal()
        for name, value in connection.properties
    }


def test_older_projects_variables_are_defaults_that_are_named(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _older(monkeypatch, ["http://lk:8181", "shop", "http://kc/token", "me", "my-secret-word"])
    caplog.set_level(logging.WARNING)
    written: tuple[dict[str, Any], ...] = ({}, {"catalog": {}}, {"catalog": {"type": "rest"}})
    for options in written:
        got = _resolved(options)
        assert (got["uri"], got["warehouse"]) == ("http://lk:8181", "shop")
        assert got["credential"] == "me:my-secret-word"
        assert got["oauth2-server-uri"] == "http://kc/token"
    assert "LAKEKEEPER_URI" in caplog.text and "my-secret-word" not in caplog.text
    caplog.clear()
    mine = {"uri": "http://c", "warehouse": "w", "token": "t0ken"}
    got = _resolved({"catalog": mine})
    assert (got["uri"], got["warehouse"], got.get("credential")) == ("http://c", "w", None)
    assert not caplog.records
    assert "sqlite" in _resolved({"warehouse": "./warehouse"})["uri"]


def test_a_secret_of_older_projects_goes_to_no_other_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _older(monkeypatch, ["http://lk:8181", "shop", "http://kc/token", "me", "my-secret-word"])
    monkeypatch.delenv("KEYCLOAK_TOKEN_URL")
    assert "credential" not in _resolved({"catalog": {"uri": "http://c"}})


def test_pyicebergs_own_file_is_not_read(tmp_path: Path) -> None:
    text = "catalog:\n  default:\n    uri: http://127.0.0.1:1/theirs\n"
    (tmp_path / ".pyiceberg.yaml").write_text(text + "max-workers: nonsense\nbad: [x\n", "utf-8")
    code = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from support.iceberg import Bench
bench = Bench({"warehouse": "./warehouse"}, Path(sys.argv[2]))
target = bench.target("sales.orders")
bench.write(target, {"id": [1]})
print(bench.count(target))
bench.close()
"""
    env = {"HOME": str(tmp_path), "PYICEBERG_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    support = str(Path(__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-c", code, support, str(tmp_path / "project")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "1", done.stderr


# The walk.


def test_a_check_walks_the_catalog_and_writes_only_when_asked(
    server: RestServer, tmp_path: Path
) -> None:
    layers = (names.Prefix("0198-a3", "/catalog"), ways.NoPurge(403), ways.SoftDelete())
    with answering(server, *layers, failing.NoMultiTable(404, listed=True)) as proxy:
        options = {**server.catalog_options(), "uri": f"{proxy.uri}catalog/"}
        bench = Bench({"catalog": options}, tmp_path)
        said = plugin.check_connection(bench.context)
        assert said.startswith("rest catalog, 0 namespaces\nconfiguration: http://127.0.0.1")
        assert "prefix 0198-a3" in said and "one table at a time" in said
        assert not proxy.count(path("", "POST", "DELETE", "PUT"))
        for _ in range(2):
            said = plugin.check_connection(bench.context, write=True)
            assert "a namespace and a table were made, read and dropped" in said
            assert "purge: refused" in said and "seeknal_check stays for now" in said
        bench.close()
    assert server.catalog.list_namespaces() == [("seeknal_check",)]
    assert not any(server.catalog.list_tables(each) for each in server.catalog.list_namespaces())


def test_checks_that_write_at_once_do_not_meet(server: RestServer, tmp_path: Path) -> None:
    benches = [Bench({"catalog": server.catalog_options()}, tmp_path) for _ in range(3)]

    def check(bench: Bench) -> str:
        try:
            return plugin.check_connection(bench.context, write=True)
        finally:
            bench.close()

    with ThreadPoolExecutor(len(benches)) as pool:
        for said in pool.map(check, benches):
            assert "a namespace and a table were made, read and dropped" in said
    assert server.catalog.list_namespaces() == []


def test_a_check_says_how_new_tables_are_made(server: RestServer, tmp_path: Path) -> None:
    for layers, words in (
        ((names.NoStagedCreate(),), "_seeknal_new_"),
        ((names.NoStagedCreate(501), names.NoRename()), "doesn't rename one"),
    ):
        with answering(server, *layers) as proxy:
            bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path)
            assert words in plugin.check_connection(bench.context, write=True)
            bench.close()
    assert server.catalog.list_namespaces() == []


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (("sales", "a+b"), "don't take the name 'a+b'"),
        (("sales", "Orders"), "'Orders'"),
        (("Sales", "orders"), "'Sales'"),
        (("sales", "o" * 256), "255 characters"),
        (("eu", "sales", "orders"), "one level"),
        (("sales", "_orders"), "'_orders'"),
    ],
)
def test_a_name_that_aws_refuses_is_told_beforehand(parts: tuple[str, ...], words: str) -> None:
    with pytest.raises(WriteRefused) as refused:
        aws_names.check_aws("s3tables", parts)
    assert words in f"{refused.value} {refused.value.hint}"
    aws_names.check_aws("s3tables", ("sales", "o" * 255))
    aws_names.check_aws("glue", ("sales", "_orders"))


@pytest.mark.parametrize(
    ("options", "option"),
    [
        ({"token": "wrong"}, "connections.lake.catalog.token"),
        ({}, "token, or credential (client id and secret), under connections.lake.catalog"),
    ],
)
def test_a_wrong_token_is_told_by_its_option(
    tmp_path: Path, options: dict[str, str], option: str
) -> None:
    with RestServer(tmp_path / "server", tokens=True) as server:
        found = {k: v for k, v in server.catalog_options().items() if not k.startswith("oauth2")}
        found.pop("credential")
        bench = Bench({"catalog": {**found, **options}}, tmp_path)
        with pytest.raises(BackendError, match="refuses the credentials") as refused:
            plugin.check_connection(bench.context)
        assert option in refused.value.hint
        bench.close()


@pytest.mark.parametrize("status", [400, 403, 404])
@pytest.mark.parametrize("warehouse", ["nowhere", ""])
def test_a_wrong_warehouse_is_told_by_its_option(
    server: RestServer, tmp_path: Path, status: int, warehouse: str
) -> None:
    def knows(request: Request, send: Send) -> Answer:
        if "/v1/config" in request.path:
            return refusal(status, "no such warehouse", "NoSuchWarehouseException")
        return send(request)

    with answering(server, knows) as proxy:
        options = {"type": "rest", "uri": proxy.uri, "warehouse": warehouse}
        options = {name: value for name, value in options.items() if value}
        bench = Bench({"catalog": options}, tmp_path)
        with pytest.raises(BackendError) as refused:
            plugin.check_connection(bench.context)
        assert "connections.lake.catalog.warehouse" in refused.value.hint
        assert "no such warehouse" in str(refused.value)
        bench.close()


@pytest.mark.parametrize(
    ("refused", "right"),
    [
        (path("/namespaces$", "POST"), "create a namespace"),
        (path("/tables$", "POST"), "create a table and write to it"),
        (path("/tables/probe", "DELETE"), "drop a table"),
    ],
)
def test_a_check_names_the_right_that_is_missing(
    server: RestServer, tmp_path: Path, refused: Any, right: str
) -> None:
    def forbid(request: Request, send: Send) -> Answer:
        if refused(attrs.evolve(request, path=request.path.partition("?")[0])):
            return refusal(403, "principal is not allowed", "ForbiddenException")
        return send(request)

    with answering(server, forbid) as proxy:
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path)
        with pytest.raises(BackendError, match=f"the right to {right} is missing"):
            plugin.check_connection(bench.context, write=True)
        bench.close()


@pytest.mark.parametrize("landed", [False, True])
def test_a_check_waits_for_a_catalog_that_is_busy(
    server: RestServer, tmp_path: Path, landed: bool
) -> None:
    answers = failing.failures(500) if landed else failing.waits(503)
    sometimes = failing.Sometimes(answers, failing.is_commit, every=9, landed=landed)
    with answering(server, sometimes) as proxy:
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path)
        said = plugin.check_connection(bench.context, write=True)
        assert "a namespace and a table were made, read and dropped" in said
        bench.close()


@pytest.mark.parametrize("often", [2, 3])
def test_a_table_that_is_begun_is_asked_for_again_after_a_500(
    server: RestServer, tmp_path: Path, often: int
) -> None:
    def begins(request: Request, _: object) -> bool:
        return b'"stage-create":true' in request.body

    fails = failing.Sometimes(failing.failures(500), begins, every=1, landed=False, most=often)
    with answering(server, fails) as proxy:
        bench = Bench({"catalog": {**server.catalog_options(), "uri": proxy.uri}}, tmp_path)
        target = bench.target("sales.orders")
        if often < 3:
            bench.write(target, ROWS)
            assert bench.count(target) == 2
        else:
            with pytest.raises(Unreachable, match="the proxy lost the answer"):
                bench.write(target, ROWS)
        bench.close()


def test_a_check_looks_at_a_tables_files(server: RestServer, tmp_path: Path) -> None:
    bench = Bench({"catalog": server.catalog_options()}, tmp_path)
    target = bench.target("sales.orders")
    bench.write(target, pa.table(ROWS))
    assert "the files of sales.orders can be read" in plugin.check_connection(bench.context)
    bench.close()
