"""Messages: OP_MSG, and OP_QUERY, with which drivers ask who is there."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import count
from typing import Any

from bson import decode, encode

from labs.mongo_wire.documents import EXACT, Document

OP_REPLY, OP_QUERY, OP_MSG = 1, 2004, 2013
HEADER = struct.Struct("<iiii")  # length, number, number of the request, kind
LENGTH = struct.Struct("<i")
_numbers = count(1)


def read(body: bytes, kind: int) -> tuple[Document, dict[str, list[bytes]]]:
    """Return a command, and the sequences of documents that came beside it, as bytes."""
    if kind == OP_QUERY:
        return decode(body[body.index(b"\0", 4) + 9 :], EXACT) | {"$db": "admin"}, {}
    command: Document = {}
    sequences: dict[str, list[bytes]] = {}
    at = 4  # behind the flags
    while at < len(body):
        begin, size = at + 1, LENGTH.unpack_from(body, at + 1)[0]
        if body[at] == 0:
            command = decode(body[begin : begin + size], EXACT)
        else:
            end = body.index(b"\0", begin + 4)
            sequences[body[begin + 4 : end].decode()] = list(_documents(body, end + 1, begin + size))
        at = begin + size
    return command, sequences


def _documents(body: bytes, at: int, end: int) -> Iterator[bytes]:
    while at < end:
        size = LENGTH.unpack_from(body, at)[0]
        yield body[at : at + size]
        at += size


def written(answer: dict[str, Any], request: int, kind: int) -> bytes:
    """Return the message that answers a request of a kind."""
    legacy = kind == OP_QUERY
    begin = struct.pack("<iqii", 8, 0, 0, 1) if legacy else bytes(5)
    body = begin + encode(answer, codec_options=EXACT)
    return HEADER.pack(16 + len(body), next(_numbers), request, OP_REPLY if legacy else OP_MSG) + body
