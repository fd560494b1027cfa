"""Integers and strings of callers, checked before ctypes cuts them: it keeps
the low bits of an integer, and C reads a string up to its first null."""

import operator

from .errors import InvalidArgument

MOST_32, MOST_64 = (1 << 32) - 1, (1 << 64) - 1


def integer(name, value, least=0, most=MOST_32):
    """`value` as an int. TypeError if it is none, InvalidArgument if it is not
    from `least` to `most`."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name}: expected an integer, found "
                        f"{value!r}") from None
    if not least <= number <= most:
        raise InvalidArgument(f"{name}: expected {least} to {most}, found "
                              f"{number}")
    return number


def c_string(name, value):
    """A str, or bytes, as C takes it."""
    encoded = value.encode() if isinstance(value, str) else value
    if b"\0" in encoded:
        raise ValueError(f"{name}: expected no null character, found "
                         f"{value!r}")
    return encoded
