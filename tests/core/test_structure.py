"""The strict converter."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Literal

import attrs
import pytest

from seeknal_core.contract.errors import OptionError
from seeknal_core.contract.options import Filled, Mistake, duration, nearest, structure
from seeknal_core.contract.types import Mode, Secret


@attrs.frozen(kw_only=True)
class Catalog:
    uri: str
    retries: int = 3


@attrs.frozen(kw_only=True)
class Options:
    host: str
    port: int = 5432
    ratio: float = 0.5
    embedded: bool = False
    password: Secret | None = None
    mode: Mode = Mode.FULL
    level: Literal["low", "high"] = "low"
    catalog: Catalog | None = None
    keys: tuple[str, ...] = ()
    lookback: timedelta | int = 0
    properties: Mapping[str, str | int | bool] = attrs.field(factory=dict)
    app_name: str = attrs.field(default="", metadata={"key": "app-name", "aliases": ("app",)})


@attrs.frozen(kw_only=True)
class Open:
    host: str = ""
    others: Mapping[str, object] = attrs.field(factory=dict, metadata={"rest": True})


@attrs.frozen(kw_only=True)
class Positive:
    size: int = attrs.field()

    @size.validator
    def _check(self, _: object, value: int) -> None:
        if value < 1:
            raise ValueError("size is less than 1")


def mistakes(mapping: Mapping[str, object], cls: type = Options, path: str = "") -> list[str]:
    with pytest.raises(OptionError) as caught:
        structure(mapping, cls, path=path)
    return [str(problem) for problem in caught.value.problems]


def test_values_of_all_kinds_arrive_typed() -> None:
    options = structure(
        {
            "host": "db",
            "port": 1,
            "ratio": 1,
            "embedded": True,
            "password": "hunter2",
            "mode": "append",
            "level": "high",
            "catalog": {"uri": "http://c"},
            "keys": ["a", "b"],
            "lookback": "7d",
            "properties": {"a": 1, "b": True, "c": "x"},
            "app": "me",
        },
        Options,
    )
    assert options == Options(
        host="db",
        port=1,
        ratio=1.0,
        embedded=True,
        password=Secret("hunter2"),
        mode=Mode.APPEND,
        level="high",
        catalog=Catalog(uri="http://c"),
        keys=("a", "b"),
        lookback=timedelta(days=7),
        properties={"a": 1, "b": True, "c": "x"},
        app_name="me",
    )
    assert options.properties["b"] is True
    assert isinstance(options.ratio, float)


def test_all_mistakes_come_at_once_each_with_its_path() -> None:
    found = mistakes(
        {"hst": "x", "port": "5432", "keys": "a", "catalog": {"retries": True}, "mode": "apend"},
        path="connections.w",
    )
    assert found == [
        "connections.w.port: is a string, not a whole number",
        "connections.w.keys: is a string, not a list; write [...], or one '- ...' a line",
        "connections.w.catalog.retries: is true or false, not a whole number",
        "connections.w.catalog.uri: is missing",
        "connections.w.mode: is not one of full, append, upsert_by_key, incremental_by_time, "
        "insert_overwrite; "
        "did you mean 'append'?",
        "connections.w.hst: unknown field; did you mean 'host'?",
        "connections.w.host: is missing",
    ]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", 1),
        ("host", True),
        ("port", 1.5),
        ("port", True),
        ("port", "1"),
        ("embedded", 1),
        ("embedded", "yes"),
        ("ratio", "1"),
        ("ratio", False),
        ("keys", {"a": 1}),
        ("keys", [1]),
        ("catalog", []),
        ("properties", []),
        ("properties", {"a": []}),
        ("password", 1234),
        ("level", 1),
        ("lookback", "7"),
        ("lookback", []),
    ],
)
def test_a_value_of_another_type_is_refused(field: str, value: object) -> None:
    found = mistakes({"host": "x", field: value})
    assert len(found) == 1
    assert found[0].startswith(field)


def test_no_message_holds_a_value() -> None:
    mapping = {"host": 31337, "port": "hunter2", "level": "hunter3", "mode": "hunter4"}
    assert "hunter" not in "".join(mistakes(mapping))
    assert "31337" not in "".join(mistakes(mapping))


def test_a_wrong_word_is_shown_where_nothing_can_be_secret() -> None:
    wrong = {"host": "x", "mode": "apend", "keys": [], "lookback": "7 years" + 40 * "!"}
    with pytest.raises(OptionError) as caught:
        structure(wrong, Options, public=True)
    mode, lookback = (str(problem) for problem in caught.value.problems)
    assert mode.startswith("mode: 'apend' is not one of full")
    assert lookback.startswith(f"lookback: '7 years{33 * '!'}…' is not a duration")


def test_a_mistake_in_a_list_names_the_item() -> None:
    assert mistakes({"host": "x", "keys": ["a", None]}) == ["keys[1]: is empty"]


def test_null_counts_as_not_given() -> None:
    assert structure({"host": "x", "port": None, "keys": None}, Options) == Options(host="x")
    assert mistakes({"host": None}) == ["host: is missing"]


def test_two_keys_of_one_meaning_are_refused() -> None:
    found = mistakes({"host": "x", "app-name": "a", "app": "b"})
    assert found == ["app: means the same as 'app-name'"]


def test_the_attribute_is_no_key_where_another_is_named() -> None:
    assert mistakes({"host": "x", "app_name": "a"})[0].startswith("app_name: unknown field")


def test_a_union_takes_the_member_that_fits_in_any_order() -> None:
    @attrs.frozen(kw_only=True)
    class Unions:
        one: int | float = 0
        two: float | int = 0
        three: tuple[str, ...] | str = ()
        four: Catalog | str = ""

    found = structure({"one": 1, "two": 2, "three": "x", "four": {"uri": "u"}}, Unions)
    assert found == Unions(one=1, two=2, three="x", four=Catalog(uri="u"))
    assert isinstance(found.one, int)
    assert isinstance(found.two, int)
    assert mistakes({"three": 1, "four": {"url": "u"}}, Unions) == [
        "three: is a number, not a string or a list",
        "four.url: unknown field; did you mean 'uri'?",
        "four.uri: is missing",
    ]


def test_a_rest_field_takes_the_unknown_keys() -> None:
    assert structure({"host": "a", "s3.endpoint": "b"}, Open) == Open(
        host="a", others={"s3.endpoint": "b"}
    )


def test_a_validator_of_the_class_speaks_through() -> None:
    assert mistakes({"size": 0}, Positive, "engine") == ["engine: size is less than 1"]


def test_something_that_is_no_mapping_is_one_mistake() -> None:
    assert mistakes("text", path="connections.w") == [  # type: ignore[arg-type]
        "connections.w: is a string, not a mapping"
    ]


def test_a_secret_is_masked_from_then_on() -> None:
    options = structure({"host": "x", "password": "swordfish"}, Options)
    assert "swordfish" not in repr(options)
    assert options.password is not None
    assert options.password.reveal() == "swordfish"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("10m", 600), ("24h", 86400), ("7d", 604800), ("1w", 604800)]
)
def test_durations(text: str, seconds: int) -> None:
    assert duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "7", "d", "1.5h", "-1d", "7 years", "9" * 30 + "d", "٣d"])
def test_no_durations(text: str) -> None:
    with pytest.raises(Mistake):
        duration(text)


def test_nearest_is_silent_about_the_far_away() -> None:
    assert nearest("tabel", ["table", "type"]) == "did you mean 'table'?"
    assert nearest("zebra", ["table", "type"]) == ""


def test_text_that_variables_filled_in_may_be_what_the_field_is() -> None:
    given = {
        "host": Filled("10"),
        "port": Filled("5433"),
        "ratio": Filled("0.25"),
        "embedded": Filled("True"),
        "password": Filled("0123"),
        "mode": Filled("append"),
        "level": Filled("high"),
        "properties": {"key": Filled("42")},
    }
    options = structure(given, Options)
    assert (options.host, options.port, options.ratio) == ("10", 5433, 0.25)
    assert (options.embedded, options.mode, options.level) == (True, Mode.APPEND, "high")
    assert options.password is not None and options.password.reveal() == "0123"
    assert options.properties == {"key": "42"}
    for key in ("port", "ratio", "embedded"):
        assert len(mistakes({"host": "h", key: Filled("1_0x")})) == 1
        assert len(mistakes({"host": "h", key: "1"})) == 1
