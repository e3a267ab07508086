"""Damage to bytes, by a seeded random source: the same seed gives the same damage."""

from __future__ import annotations

from collections.abc import Callable
from gzip import compress
from random import Random

import pyarrow as pa

TOKENS = (
    b",", b'"', b'""', b"\n", b"\r", b"\r\n", b"\0",
    b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\xff\xfe",
    b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"1e999", b"\\u0000", b"\\ud800", b'{"id":9}', b"}{",
    b"<", b">", b"&", b"<order>", b"</order>", b"<order/>", b"</orders>",
    b"<!--", b"-->", b"<![CDATA[", b"]]>", b"<?x?>",
    b"<note>", b"</note>", b"&#0;", b"&x;", b"'", b"=", b"<!DOCTYPE x>",
)  # fmt: skip


def damaged(content: bytes, random: Random, other: bytes) -> bytes:
    """Return content with one to four damages; `other` is what may be spliced in."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(DAMAGES)(content, random, other)
    return content


def _flip(content: bytes, random: Random, _: bytes) -> bytes:
    start, _end = _span(content, random, 1)
    return content[:start] + bytes([random.randrange(256)]) + content[start + 1 :]


def _delete(content: bytes, random: Random, _: bytes) -> bytes:
    start, end = _span(content, random, 40)
    return content[:start] + content[end:]


def _insert(content: bytes, random: Random, _: bytes) -> bytes:
    start, _end = _span(content, random, 1)
    return content[:start] + random.choice(TOKENS) * random.choice((1, 1, 2, 50)) + content[start:]


def _duplicate(content: bytes, random: Random, _: bytes) -> bytes:
    start, end = _span(content, random, 200)
    return content[:end] + content[start:end] * random.choice((1, 2, 20)) + content[end:]


def _splice(content: bytes, random: Random, other: bytes) -> bytes:
    start, end = _span(content, random, 60)
    first, last = _span(other, random, 200)
    return content[:start] + other[first:last] + content[end:]


def _truncate(content: bytes, random: Random, _: bytes) -> bytes:
    return content[: random.randrange(len(content) + 1)]


def _swap(content: bytes, random: Random, _: bytes) -> bytes:
    one, other = random.sample((b",", b";", b"\t", b'"', b"'", b"\n", b"\r\n", b"<", b">", b"{", b":"), 2)
    return content.replace(one, other)


def _recode(content: bytes, random: Random, _: bytes) -> bytes:
    return content.decode("utf-8", "replace").encode(
        random.choice(("utf-16", "utf-16-be", "latin-1", "utf-32")), "replace"
    )


DAMAGES: tuple[Callable[[bytes, Random, bytes], bytes], ...] = (
    *[_flip, _delete, _insert, _duplicate, _splice] * 3, _truncate, _swap, _recode,
)  # fmt: skip


def compressed(content: bytes, random: Random) -> bytes:
    """Return an archive, gzip or Zstandard, half of them damaged."""
    if random.random() < 0.5:
        archive = compress(content, mtime=0)
    else:
        sink = pa.BufferOutputStream()
        with pa.CompressedOutputStream(sink, "zstd") as stream:
            stream.write(content)
        archive = bytes(sink.getvalue())
    return archive if random.random() < 0.5 else damaged(archive, random, content)


def _span(content: bytes, random: Random, longest: int) -> tuple[int, int]:
    start = random.randrange(len(content) + 1)
    return start, min(len(content), start + random.randint(1, longest))
