"""PostgreSQL's ``numeric`` in its binary form, as 128-bit decimals, exactly or not at all.

A number is a run of digits to the base 10,000: ``ndigits``, ``weight`` (the power of
the first), ``sign``, ``dscale``, then the digits, each of two bytes
(``numeric_send`` in ``src/backend/utils/adt/numeric.c``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from seeknal_core.contract.errors import BackendError

_BASE = 10_000
_NEGATIVE = 0x4000
#: Bytes before the digits.
_HEAD = 8
#: Digits that an int64 surely holds.
_SHORT = 18
_HINT = "cast it in the query: {}::double precision"

Array = np.ndarray[Any, Any]


class Inexact(BackendError):
    """A value that the column's Arrow type cannot hold.

    The message goes on after the column's name, and ``{}`` in the hint is that name, quoted.
    Beside the hint there is always the column's text.
    """


class _Digits:
    """The digits of a batch's numbers, by the power of 10,000 that they count."""

    def __init__(self, i2: Array, at: Array, null: Array) -> None:
        self._i2 = i2
        self._at = at
        self.count = np.where(null, 0, i2[at].astype(np.int64))
        self.weight = np.where(null, 0, i2[at + 2].astype(np.int64))
        sign = np.where(null, 0, i2[at + 4].astype(np.int64) & 0xFFFF)
        # 0xC000, 0xD000, 0xF000
        if (sign > _NEGATIVE).any():
            raise Inexact("holds NaN or an infinity, which no decimal is", _HINT)
        self.negative = sign == _NEGATIVE
        some = self.count > 0
        self.most = int(self.weight[some].max()) if some.any() else -1
        self.least = int((self.weight - self.count + 1)[some].min()) if some.any() else 0

    def of(self, power: int) -> Array:
        """Return the digits that count 10,000 to a power, 0 if there is none."""
        place = self.weight - power
        there = (place >= 0) & (place < self.count)
        index = np.where(there, self._at + _HEAD + 2 * place, 0)
        return np.where(there, self._i2[index].astype(np.int64), 0)


def decimals(i2: Array, at: Array, null: Array, arrow: pa.DataType) -> Array:
    """Return the 16 bytes of each number, NULL's undefined.

    Args:
        i2: the buffer's 16-bit integers that begin at each byte.
        at: where the numbers begin.
        arrow: the decimal type wanted.

    Raises:
        Inexact: a number that is not one of the type's.
    """
    digits = _Digits(i2, at, null)
    scale, precision = arrow.scale, arrow.precision
    # The last whole power of 10,000 within the scale, and what is left of the scale.
    lowest, rest = -(scale // 4), scale % 4
    _refuse(digits.least < lowest - (1 if rest else 0), arrow)
    # Further digits than the type has, whatever they are. numeric has no leading zeros.
    _refuse(digits.most - lowest > (precision - rest) // 4 + 1, arrow)
    tail = np.zeros(len(at), np.int64)
    if rest:
        group = digits.of(lowest - 1)
        tail, cut = np.divmod(group, 10 ** (4 - rest))
        _refuse(bool(cut.any()), arrow)
    if precision <= _SHORT:
        return _short(digits, lowest, rest, tail, arrow)
    return _long(digits, lowest, rest, tail, arrow)


def _refuse(wrong: bool, arrow: pa.DataType) -> None:
    if wrong:
        raise Inexact(f"holds a number with more digits than {arrow} can hold", _HINT)


def _short(digits: _Digits, lowest: int, rest: int, tail: Array, arrow: pa.DataType) -> Array:
    total = np.zeros(len(tail), np.int64)
    limit = 10**arrow.precision
    for power in range(digits.most, lowest - 1, -1):
        # Below the limit before, below 2^63 after.
        total = total * _BASE + digits.of(power)
        _refuse(bool((total >= limit).any()), arrow)
    if rest:
        _refuse(bool((total >= limit // 10**rest).any()), arrow)
        total = total * 10**rest + tail
    low = np.where(digits.negative, -total, total)
    found = np.empty((len(total), 2), np.int64)
    found[:, 0], found[:, 1] = low, low >> 63
    return found


def _long(digits: _Digits, lowest: int, rest: int, tail: Array, arrow: pa.DataType) -> Array:
    """Count in four limbs of 32 bits, lowest first."""
    limbs = [np.zeros(len(tail), np.uint64) for _ in range(4)]

    def push(factor: int, more: Array) -> None:
        carry = more.astype(np.uint64)
        for place in range(4):
            moved = limbs[place] * np.uint64(factor) + carry
            limbs[place] = moved & np.uint64(0xFFFFFFFF)
            carry = moved >> np.uint64(32)
        _refuse(bool(carry.any()), arrow)

    power = digits.most
    while power >= lowest:
        if power > lowest:
            push(_BASE**2, digits.of(power) * _BASE + digits.of(power - 1))
            power -= 2
        else:
            push(_BASE, digits.of(power))
            power -= 1
    if rest:
        push(10**rest, tail)
    low = limbs[0] | limbs[1] << np.uint64(32)
    high = limbs[2] | limbs[3] << np.uint64(32)
    limit = 10**arrow.precision
    top, bottom = np.uint64(limit >> 64), np.uint64(limit & (2**64 - 1))
    _refuse(bool(((high > top) | ((high == top) & (low >= bottom))).any()), arrow)
    # Two's complement.
    flipped = ~low + np.uint64(1)
    carried = ~high + (flipped == 0).astype(np.uint64)
    found = np.empty((len(low), 2), np.uint64)
    found[:, 0] = np.where(digits.negative, flipped, low)
    found[:, 1] = np.where(digits.negative, carried, high)
    return found
