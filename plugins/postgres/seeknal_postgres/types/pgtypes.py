"""PostgreSQL's column types: parsing what ``format_type`` prints, and what fits in what."""

from __future__ import annotations

import re

import attrs

_SHAPE = re.compile(
    r"^(?P<head>.+?)(?:\((?P<args>-?\d+(?:,-?\d+)*)\))?(?P<tail> with(?:out)? time zone)?"
    r"(?P<array>\[\])?$"
)

#: Digits before the point that an integer type may need.
INTEGER_DIGITS = {"smallint": 5, "integer": 10, "bigint": 19}
_INTEGERS = tuple(INTEGER_DIGITS)
#: The largest numeric precision whose every value an integer type holds.
_INTEGER_HOLDS = {"smallint": 4, "integer": 9, "bigint": 18}
_TEXTS = ("text", "character varying", "character")
#: Types whose binary form is their text, so that a text column may be copied into them.
_TEXT_WIRE = (*_TEXTS, "json", "name")
#: Types with a counterpart in Arrow: a source reads them as that, and they take no text.
#: All others (ranges, enums, composite types, …) are read as text and take it through their
#: input function.
_TYPED = frozenset(
    (*_INTEGERS, "numeric", "money", "real", "double precision", "boolean", "bytea", "date",
     "timestamp without time zone", "timestamp with time zone", "time without time zone")
)  # fmt: skip
_MAX_PRECISION = 1000


@attrs.frozen
class PgType:
    """A type in the server's message: ``numeric`` with ``args`` (10, 2), maybe an array.

    ``base`` is the full name without arguments (``timestamp without time zone``).
    """

    base: str
    args: tuple[int, ...] = ()
    array: bool = False

    def __str__(self) -> str:
        text = self.base
        if self.args:
            inner = "(" + ",".join(str(arg) for arg in self.args) + ")"
            head, with_, zone = text.partition(" with")
            times = with_ and head in ("time", "timestamp")
            text = head + inner + with_ + zone if times else text + inner
        return text + ("[]" if self.array else "")

    def element(self) -> PgType:
        """Return the type of an array's elements."""
        return attrs.evolve(self, array=False)

    @classmethod
    def parse(cls, text: str) -> PgType:
        """Parse what the server's ``format_type`` printed."""
        match = _SHAPE.match(text)
        assert match is not None, text
        args = tuple(int(arg) for arg in match["args"].split(",")) if match["args"] else ()
        base = match["head"] + (match["tail"] or "")
        return cls(base, args, match["array"] is not None)


@attrs.frozen(kw_only=True)
class Fit:
    """How a snapshot's column goes into a table's.

    ``widen`` is the type the table's column must get first, None if it takes
    the values as it is; ``rewrites`` whether the server rewrites the table for
    that; ``limit`` is the length in characters that text may have without widening.
    """

    widen: PgType | None = None
    rewrites: bool = False
    limit: int | None = None


def fit(new: PgType, old: PgType, *, enum: bool = False) -> Fit | None:
    """Return how values of `new` go into a column of `old`, or None if they cannot.

    Nothing is ever narrowed: a cast into the table's type keeps every value exactly.

    Args:
        enum: whether `old` is an enum, which takes text by its labels.
    """
    if new == old:
        return Fit()
    if new.array or old.array:
        if not (new.array and old.array):
            # The text of a whole array, which may have several dimensions.
            return Fit() if new == PgType("text") else None
        if new.base == "text" and old.base in ("numeric", "money"):
            return Fit()  # arrays of these are read so
        inner = fit(new.element(), old.element(), enum=enum)
        if inner is None or inner.widen is None:
            return inner
        return attrs.evolve(inner, widen=attrs.evolve(inner.widen, array=True))
    if enum:
        return Fit() if new.base == "text" else None
    for rule in (_numbers, _texts, _times):
        found = rule(new, old)
        if found is not None:
            return found
    if new.base == "bytea" and old.base == "uuid":
        return None
    return Fit() if new.base == old.base and not old.args else None


def _digits(kind: PgType) -> tuple[int, int] | None:
    """Return digits before and after the point, None for no bound."""
    if kind.base in INTEGER_DIGITS:
        return INTEGER_DIGITS[kind.base], 0
    if not kind.args:
        return None
    precision, scale = kind.args[0], kind.args[1] if len(kind.args) > 1 else 0
    return precision - scale, scale


def _numbers(new: PgType, old: PgType) -> Fit | None:
    if new.base in _INTEGERS and old.base in _INTEGERS:
        wider = _INTEGERS.index(new.base) > _INTEGERS.index(old.base)
        return Fit(widen=new, rewrites=True) if wider else Fit()
    floats = {"real": ("smallint", "real"), "double precision": ("smallint", "integer", "real")}
    if old.base in floats and new.base in floats[old.base]:
        return Fit()
    if new.base in floats and old.base in floats[new.base]:
        return Fit(widen=new, rewrites=True)
    exact = (*_INTEGERS, "numeric")
    if new.base in exact and old.base == "money":
        return Fit()
    if new.base not in exact or old.base not in exact:
        return None
    needed, held = _digits(new), _digits(old)
    small = needed is not None and needed[1] <= 0 and sum(needed) <= _INTEGER_HOLDS.get(old.base, 0)
    if new.base == "numeric" and small:
        return Fit()
    if held is None:
        return Fit()
    if needed is None:
        return Fit(widen=PgType("numeric"), rewrites=old.base != "numeric")
    if needed[0] <= held[0] and needed[1] <= held[1]:
        return Fit()
    whole, scale = max(needed[0], held[0]), max(needed[1], held[1])
    if whole + scale > _MAX_PRECISION:
        return None
    rewrites = old.base != "numeric" or scale != held[1]
    return Fit(widen=PgType("numeric", (whole + scale, scale)), rewrites=rewrites)


def _texts(new: PgType, old: PgType) -> Fit | None:
    if new.base in ("uuid", "json") and old.base in ("text", "jsonb" if new.base == "json" else ""):
        return Fit()
    if new.base != "text":
        return None
    if old.base in ("character varying", "character") and old.args:
        return Fit(widen=PgType("text"), rewrites=old.base == "character", limit=old.args[0])
    return Fit() if old.base not in _TYPED else None


def _times(new: PgType, old: PgType) -> Fit | None:
    stamp = "timestamp without time zone"
    if new.base == "date" and old.base == stamp:
        return Fit()
    if new.base == stamp and old.base == "date":
        return Fit(widen=PgType(stamp), rewrites=True)
    timed = (stamp, "timestamp with time zone", "time without time zone", "interval")
    if new.base == old.base and new.base in timed and old.args and old.args[0] < 6:
        return Fit(widen=PgType(old.base))
    return None


def is_converted_text(new: PgType, old: PgType) -> bool:
    """Whether text of a snapshot becomes values of another kind in a column of `old`.

    The server then prints them in its own form.
    """
    if new.base != "text":
        return False
    if old.array and not new.array:
        return True
    return old.base not in ("text", "character varying", "json", "name")


def unbounded(old: PgType) -> PgType:
    """Return a type with the same values as `old` and others, which its arguments exclude."""
    base = "bit varying" if old.base == "bit" else old.base
    return PgType(base, (), old.array)


def same_wire(sent: PgType, old: PgType, *, enum: bool = False) -> bool:
    """Whether the binary form of `sent` is also that of a column of `old`.

    An array's binary form names its element type, so arrays must agree wholly.
    """
    if sent.array or old.array:
        return sent.array and old.array and sent.base == old.base
    if sent.base == "text":
        return enum or old.base in _TEXT_WIRE
    stamps = ("timestamp without time zone", "timestamp with time zone")
    if sent.base == stamps[0]:
        return old.base in stamps
    if sent.base == "bytea":
        return old.base in ("bytea", "uuid")
    return sent.base == old.base
