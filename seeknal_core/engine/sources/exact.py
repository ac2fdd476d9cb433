"""Converting text to types exactly, or not at all.

DuckDB's casts round (``1.5`` to 2), cut (a date from a timestamp), drop (an offset) and guess
(``0x1F``, ``1_000``). `convert` writes an expression that gives the value of a text where the
type holds all of it, else NULL. What it says of a text does not depend on other rows.

The first branch of each expression is the cheapest test that most values pass: the value is
written back and is the same text. Only the others are looked at by regular expressions.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import attrs

from seeknal_core.engine.quoting import text as quoted
from seeknal_core.project.formats.declared import DeclaredType

_DAY = r"\d{4}-\d\d-\d\d"
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6}0*)?)?"
_OFFSET = r" ?(Z|z|[+-](0\d|1[0-5])(:?[0-5]\d)?)"
_UUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_NUMBER = r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)"
#: What a guess takes for a number: ``007`` and ``+49`` are names of something.
_GUESSED_NUMBER = r"-?((0|[1-9][0-9]*)(\.[0-9]+)?|\.[0-9]+)"
_EXPONENT = r"([eE][+-]?[0-9]{1,4})?"
#: A double has at least 15 decimal digits everywhere above this (IEEE 754: normal numbers).
_DIGITS_KEPT, _SMALLEST = 15, "1e-290"
_LAST = "'9999-12-31 23:59:59.999999+00'::TIMESTAMPTZ"
_STRING_IN_JSON = r'"([^"\\]|\\.)*"'


@attrs.frozen(kw_only=True)
class Forms:
    """How values are written in a file, where that is not as Seeknal writes them.

    ``date_format`` and ``timestamp_format`` are of ``strptime``. ``guessed`` is for types that
    nobody declared: then a number with a leading zero or a plus is none.
    """

    decimal: str = "."
    thousands: str = ""
    date_format: str | None = None
    timestamp_format: str | None = None
    guessed: bool = False


def convert(text: str, kind: DeclaredType, forms: Forms = Forms()) -> str:
    """Write the SQL of the value of a text: NULL for NULL, and for what does not fit exactly.

    Args:
        text: an expression of type VARCHAR; it is repeated, so let it be short.
    """
    match kind.name:
        case "integer":
            return _number(text, forms, lambda plain: _integer(plain, forms))
        case "float":
            return _number(text, forms, lambda plain: _double(plain, forms))
        case "decimal":
            return _number(text, forms, lambda plain: _decimal(plain, kind, forms))
        case "boolean":
            return _boolean(text, forms)
        case "date":
            return _date(text, forms)
        case "timestamp" | "datetime":
            return _timestamp(text, forms)
        case "timestamptz":
            return _moment(text, forms)
        case "time":
            cast = f"TRY_CAST({text} AS TIME)"
            return f"CASE WHEN {_matches(text, _CLOCK)} THEN {cast} END"
        case "uuid":
            return f"CASE WHEN {_matches(text, _UUID)} THEN TRY_CAST({text} AS UUID) END"
        case "json":
            return f"CASE WHEN {_is_json(text)} THEN {text}::JSON END"
        case "list" | "struct":
            return _nested(text, kind)
        case _:
            return text


def checked(text: str, kind: DeclaredType, value: str, mark: str) -> str:
    """Write the SQL of a value that ends the query with an error where it is bad.

    Args:
        value: what `convert` gave.
        mark: what the error's message begins with, before the text.
    """
    if kind.name == "string":
        return value
    stop = (
        f"CASE WHEN {text} IS NULL THEN NULL ELSE error({quoted(mark)} || {text})::{kind.sql} END"
    )
    return f"COALESCE({value}, {stop})"


def is_bad(text: str, value: str) -> str:
    """Write the SQL of whether a text does not fit its type."""
    return f"({text} IS NOT NULL AND ({value}) IS NULL)"


def reason(kind: DeclaredType, value: str, forms: Forms = Forms()) -> tuple[str, str]:
    """Return why a text does not fit a type, and what to do about it."""
    said = f"{_shown(value)} is no {kind.text}"
    declare = "fix the file, or declare the column as another type"
    match kind.name:
        case "timestamp" | "datetime" if re.search(rf"{_CLOCK}{_OFFSET}$", value):
            return f"{said}: it has an offset", "declare the column as timestamptz"
        case "timestamptz" if re.fullmatch(rf"{_DAY}[ T]{_CLOCK}", value.strip()):
            return f"{said}: it has no offset", "declare the column as timestamp"
        case "timestamp" | "datetime" | "timestamptz" | "time" if re.search(r"\.\d{7,}", value):
            return (
                f"{said}: digits beyond the microsecond would be lost",
                "declare the column as string",
            )
        case "date" if re.match(_DAY + r"[ T]", value.strip()):
            return f"{said}: it has a time", "declare the column as timestamp"
        case "date":
            return said, "write params.date_format, e.g. '%d/%m/%Y', or declare another type"
        case "timestamp" | "datetime":
            return said, "write params.timestamp_format, or declare the column as string"
        case "integer" if re.fullmatch(_NUMBER, value.strip()):
            return said, "declare the column as decimal(p, s) or float"
        case "decimal" if re.fullmatch(_NUMBER, value.strip()):
            return f"{said}: digits would be lost", "declare more digits, or string"
        case "float" if re.fullmatch(_NUMBER + _EXPONENT, value.strip()):
            return f"{said}: digits would be lost", "declare the column as decimal(p, s) or string"
        case "integer" | "float" | "decimal" if "," in value and forms.decimal == ".":
            return said, "write params.decimal or params.thousands, or declare the column as string"
        case _:
            return said, declare


def _shown(value: str) -> str:
    return repr(value if len(value) <= 60 else value[:57] + "…")


def _matches(text: str, pattern: str) -> str:
    return f"regexp_full_match({text}, {quoted(pattern)})"


def _spaced(text: str, pattern: str) -> str:
    return _matches(text, rf"\s*({pattern})\s*")


def _number(text: str, forms: Forms, convert: Callable[[str], str]) -> str:
    """Write a number's conversion, of a text with other marks by way of the usual ones."""
    if forms.decimal == "." and not forms.thousands:
        return convert(text)
    usual = plain_number(text, forms)
    # A list of one, unnested by a lambda, so that the text is rewritten once.
    return f"list_transform([{usual}], lambda plain: {convert('plain')})[1]"


def plain_number(text: str, forms: Forms) -> str:
    """Write the SQL of a number with ``.`` and without thousands; NULL where it is none."""
    mark, group = re.escape(forms.decimal), re.escape(forms.thousands)
    whole = rf"([0-9]{{1,3}}({group}[0-9]{{3}})+|[0-9]+)" if group else r"[0-9]+"
    pattern = rf"\s*[+-]?({whole}({mark}[0-9]*)?|{mark}[0-9]+){_EXPONENT}\s*"
    bare = f"replace({text}, {quoted(forms.thousands)}, '')" if group else text
    return (
        f"CASE WHEN {_matches(text, pattern)}"
        f" THEN replace({bare}, {quoted(forms.decimal)}, '.') END"
    )


def _integer(text: str, forms: Forms) -> str:
    cast = f"TRY_CAST({text} AS BIGINT)"
    form = "-?(0|[1-9][0-9]*)" if forms.guessed else r"[+-]?[0-9]+(\.0+)?"
    return (
        f"CASE WHEN {cast}::VARCHAR = {text} THEN {cast} WHEN {_spaced(text, form)} THEN {cast} END"
    )


def _double(text: str, forms: Forms) -> str:
    cast = f"TRY_CAST({text} AS DOUBLE)"
    number = _GUESSED_NUMBER if forms.guessed else _NUMBER
    short = f"length({text}) <= {_DIGITS_KEPT} AND {_matches(text, number)}"
    special = _spaced(f"lower({text})", "[+-]?(nan|inf|infinity)")
    return (
        f"CASE WHEN {short} THEN {cast} WHEN {_as_written(cast)} = {text} THEN {cast}"
        f" WHEN {_spaced(text, number + _EXPONENT)} AND {double_keeps(text)} THEN {cast}"
        f" WHEN {special} THEN {cast} END"
    )


def double_keeps(text: str) -> str:
    """Write the SQL of whether a double keeps all digits of a number's text.

    It does where the double, written with as many digits as the text has, is the text.
    So what a program wrote of its doubles is kept, with 17 digits too.
    """
    cast = f"TRY_CAST({text} AS DOUBLE)"
    digits = _significant(f"split_part(lower({text}), 'e', 1)")
    written = f"printf('%.' || (length(digits) - 1) || 'e', {cast})"
    again = _significant(f"split_part({written}, 'e', 1)")
    # A lambda names the digits: repeated, they cost 4 ms a column to plan.
    return (
        f"({_as_written(cast)} = {text} OR list_transform([{digits}], lambda digits: CASE"
        f" WHEN {cast} IS NULL OR isinf({cast}) THEN false"
        " WHEN digits = '' THEN true"
        f" WHEN {cast} = 0 OR length(digits) > 300 THEN false"
        f" WHEN length(digits) <= {_DIGITS_KEPT} AND abs({cast}) > {_SMALLEST} THEN true"
        f" ELSE {again} = digits END)[1])"
    )


def _as_written(double: str) -> str:
    # Its shortest digits, as a cast to VARCHAR gives them in three times the time.
    return f"to_json({double})::VARCHAR"


def _significant(text: str) -> str:
    """Write the SQL of a number's digits without leading and trailing zeros and the rest.

    Without a regular expression, which takes DuckDB 0.3 ms to plan, each time it is named.
    """
    return f"trim(replace({text}, '.', ''), '-+0 ')"


def _decimal(text: str, kind: DeclaredType, forms: Forms) -> str:
    cast = f"TRY_CAST({text} AS {kind.sql})"
    number = _GUESSED_NUMBER if forms.guessed else _NUMBER
    fraction = rf"(\.[0-9]{{0,{kind.scale}}}0*)?"
    start = r"-?(0|[1-9][0-9]*)?" if forms.guessed else "[+-]?[0-9]*"
    return (
        f"CASE WHEN {cast}::VARCHAR = {text} THEN {cast}"
        f" WHEN {_spaced(text, start + fraction)} AND {_spaced(text, number)} THEN {cast} END"
    )


def _boolean(text: str, forms: Forms) -> str:
    yes, no = "('true', 't', 'yes', 'y', '1')", "('false', 'f', 'no', 'n', '0')"
    if forms.guessed:
        yes, no = "('true')", "('false')"
    word = f"lower(trim({text}))"
    return (
        f"CASE WHEN {text} = 'true' THEN true WHEN {text} = 'false' THEN false"
        f" WHEN {word} IN {yes} THEN true WHEN {word} IN {no} THEN false END"
    )


def _date(text: str, forms: Forms) -> str:
    if forms.date_format is not None:
        found = f"TRY_STRPTIME({text}, {quoted(forms.date_format)})"
        # A format with a time must not hide one; %Y takes `24` for the year 24.
        whole = f"({found})::DATE::TIMESTAMP = ({found})::TIMESTAMP"
        return f"CASE WHEN {whole} AND {_usual_year(found)} THEN ({found})::DATE END"
    cast = f"TRY_CAST({text} AS DATE)"
    spaced = f"{_spaced(text, _DAY)} AND {_has_year(cast)}"
    return (
        f"CASE WHEN length({text}) = 10 AND {cast}::VARCHAR = {text} THEN {cast}"
        f" WHEN {spaced} THEN {cast} END"
    )


def _timestamp(text: str, forms: Forms) -> str:
    if forms.timestamp_format is not None:
        found = f"TRY_STRPTIME({text}, {quoted(forms.timestamp_format)})"
        if has_offset(forms.timestamp_format):
            return "NULL::TIMESTAMP"
        # %n reads nanoseconds, of which a timestamp would be rounded.
        whole = f"({found})::TIMESTAMP = ({found})"
        return f"CASE WHEN {whole} AND {_usual_year(found)} THEN ({found})::TIMESTAMP END"
    cast = f"TRY_CAST({text} AS TIMESTAMP)"
    form = rf"{_DAY}([ T]{_CLOCK})?"
    return (
        f"CASE WHEN length({text}) = 19 AND {cast}::VARCHAR = {text} THEN {cast}"
        f" WHEN {_spaced(text, form)} AND {_has_year(cast)} THEN {cast} END"
    )


def _moment(text: str, forms: Forms) -> str:
    if forms.timestamp_format is not None:
        found = f"TRY_STRPTIME({text}, {quoted(forms.timestamp_format)})"
        if not has_offset(forms.timestamp_format):
            return "NULL::TIMESTAMPTZ"
        return f"CASE WHEN {_usual_year(found)} THEN ({found})::TIMESTAMPTZ END"
    cast = f"TRY_CAST({text} AS TIMESTAMPTZ)"
    usual = _matches(text, rf"[12]\d{{3}}-\d\d-\d\d[ T]{_CLOCK}{_OFFSET.lstrip(' ?')}")
    # DuckDB takes no space before the offset.
    close = f"TRY_CAST(regexp_replace(trim({text}), ' ([-+Zz])', '\\1') AS TIMESTAMPTZ)"
    form = rf"{_DAY}[ T]{_CLOCK}{_OFFSET}"
    return (
        f"CASE WHEN {usual} THEN {cast}"
        f" WHEN {_spaced(text, form)} AND {_in_era(close)} THEN {close} END"
    )


def has_offset(format: str) -> bool:
    """Return whether a format of ``strptime`` reads an offset from UTC, or a zone's name."""
    return any(code in format.replace("%%", "") for code in ("%z", "%Z"))


def _has_year(value: str) -> str:
    return f"year({value}) BETWEEN 1 AND 9999"


def _in_era(value: str) -> str:
    # year() of a moment before Christ is positive.
    return f"{value} BETWEEN '0001-01-01 00:00:00+00'::TIMESTAMPTZ AND {_LAST}"


def _usual_year(value: str) -> str:
    return f"year({value}) BETWEEN 1000 AND 9999"


def _is_json(text: str) -> str:
    """DuckDB takes NaN and trailing commas for JSON; nobody else does."""
    bare = _without_strings(text)
    odd = r"[Nn]a[Nn]|[Ii]nf|,\s*[\]}]"
    return f"(json_valid({text}) AND NOT regexp_matches({bare}, {quoted(odd)}))"


def _without_strings(text: str) -> str:
    """Write the SQL of some JSON with its strings emptied."""
    return f"regexp_replace({text}, {quoted(_STRING_IN_JSON)}, {quoted(chr(34) * 2)}, 'g')"


def _nested(text: str, kind: DeclaredType) -> str:
    """Convert a list or a struct that is written as JSON."""
    bare = _without_strings(text)
    # DuckDB's JSON reads fractions as doubles: more digits than those keep are refused.
    long = rf"[0-9]*\.[0-9]*[0-9.]{{{_DIGITS_KEPT},}}|[0-9.]{{{_DIGITS_KEPT},}}\.[0-9]*|[0-9][eE]"
    value, bad = _from_json(f"{text}::JSON", kind, 0)
    return (
        f"CASE WHEN {_is_json(text)} AND NOT regexp_matches({bare}, {quoted(long)})"
        f" THEN CASE WHEN {bad} THEN NULL ELSE {value} END END"
    )


def _from_json(json: str, kind: DeclaredType, depth: int) -> tuple[str, str]:
    """Return the SQL of the value of some JSON, and of whether it does not fit."""
    given = f"coalesce(json_type({json}), 'NULL')"
    if kind.name == "list":
        assert kind.element is not None
        name = f"e{depth}"
        value, bad = _from_json(name, kind.element, depth + 1)
        items = f"json_extract({json}, '$[*]')"
        return (
            f"CASE WHEN {given} = 'ARRAY' THEN list_transform({items}, lambda {name}: {value}) END",
            f"CASE {given} WHEN 'NULL' THEN false WHEN 'ARRAY'"
            f" THEN len(list_filter({items}, lambda {name}: {bad})) > 0 ELSE true END",
        )
    if kind.name == "struct":
        return _struct_from_json(json, kind, depth, given)
    leaf = f"({json} ->> '$')"
    wanted = {
        "string": "'VARCHAR'",
        "boolean": "'BOOLEAN'",
        "integer": "'BIGINT', 'UBIGINT', 'HUGEINT', 'VARCHAR'",
        "float": "'DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT', 'VARCHAR'",
        "decimal": "'DOUBLE', 'BIGINT', 'UBIGINT', 'HUGEINT', 'VARCHAR'",
    }.get(kind.name, "'VARCHAR'")
    if kind.name == "json":
        return f"CASE WHEN {given} <> 'NULL' THEN {json} END", "false"
    value = convert(leaf, kind)
    return value, (f"({given} <> 'NULL' AND ({given} NOT IN ({wanted}) OR {is_bad(leaf, value)}))")


def _struct_from_json(json: str, kind: DeclaredType, depth: int, given: str) -> tuple[str, str]:
    values, bads = [], []
    for name, member in kind.members:
        escaped = name.replace("\\", "\\\\").replace('"', '\\"')
        path = quoted('$."' + escaped + '"')
        found = f"json_extract({json}, {path})"
        value, bad = _from_json(found, member, depth)
        values.append(f"{quoted(name)}: {value}")
        bads.append(bad)
    names = ", ".join(quoted(name) for name, _ in kind.members)
    keys = f"json_keys({json})"
    extra = f"len(list_filter({keys}, lambda k{depth}: k{depth} NOT IN ({names}))) > 0"
    twice = f"len({keys}) <> len(list_distinct({keys}))"
    return (
        f"CASE WHEN {given} = 'OBJECT' THEN {{{', '.join(values)}}} END",
        f"CASE {given} WHEN 'NULL' THEN false WHEN 'OBJECT'"
        f" THEN {' OR '.join([extra, twice, *bads])} ELSE true END",
    )
