"""Reads the remote procedure calls of a message; the rows of a parameter array are many calls in one."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

from labs.tds.encoding import Decoder, decoder
from labs.tds.types import Type, read_type

PROCEDURES = {2: "sp_cursoropen", 10: "sp_executesql", 11: "sp_prepare", 12: "sp_execute", 13: "sp_prepexec",
              14: "sp_prepexecrpc", 15: "sp_unprepare"}  # fmt: skip
SEPARATOR = 0xFF


class Parameter(NamedTuple):
    """How a parameter is described: everything before its value."""

    described: bytes
    name: str
    type: Type
    decode: Decoder


class Call(NamedTuple):
    """One call: the procedure in lower case, its parameters, and their values."""

    procedure: str
    parameters: tuple[Parameter, ...]
    values: list[Any]


def calls(message: bytes, at: int) -> Iterator[Call]:
    """Yield the calls of a message.

    Rows of an array are described alike. So the description of the call before is compared as bytes,
    and read only where it differs: 0.6 µs a value instead of 3.
    """
    known: tuple[Parameter, ...] = ()
    end, starts = len(message), message.startswith
    while at < end:
        procedure, at = _procedure(message, at)
        values: list[Any] = []
        parameters = known
        number = 0
        while at < end and message[at] != SEPARATOR:
            if number < len(parameters) and starts(parameters[number].described, at):
                found = parameters[number]
            else:
                found = _describe(message, at)
                parameters = (*parameters[:number], found, *parameters[number + 1 :])
            value, at = found.decode(message, at + len(found.described))
            values.append(value)
            number += 1
        known = parameters if number == len(parameters) else parameters[:number]
        at += 1
        yield Call(procedure, known, values)


def _procedure(message: bytes, at: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<H", message, at)
    if length == 0xFFFF:
        (number,) = struct.unpack_from("<H", message, at + 2)
        return PROCEDURES.get(number, f"procedure {number}"), at + 6
    end = at + 2 + length * 2
    return message[at + 2 : end].decode("utf-16-le").lower().split(".")[-1], end + 2


def _describe(message: bytes, start: int) -> Parameter:
    at = start + 1 + message[start] * 2
    name = message[start + 1 : at].decode("utf-16-le")
    kind, end = read_type(message, at + 1)
    return Parameter(message[start:end], name, kind, decoder(kind))
