"""Files drawn by hypothesis from the words of a format, so that a failing one can be made small."""

from __future__ import annotations

from hypothesis import strategies as st

from fuzz.mutations import TOKENS

LINES = {
    "csv": (b"1,a\n", b'2,"b"\n', b'3,"c\nd"\n', b"4\n", b"5,e,f\n", b"6,\xff\n", b"\n", b'7,""\n', b"8,"),
    "jsonl": (b'{"id":1}\n', b'{"id":2,"name":"b"}\n', b'{"id":"3"}\n', b'{"name":1.5}\n', b"[1]\n", b"\n",
              b'{"id":1,"id":2}\n', b'{"x":1}\n', b'{"id":{"a":[1]}}\n', b"null\n", b'{"id":1e400}\n'),
    "xml": (b'<order id="1"><note>a</note></order>', b"<order><note/></order>", b"<order/>",
            b"<order id='2'>", b"</order>", b"<other>x</other>",
            b"<order><note>&lt;</note></order>", b"\n", b"</orders>"),
}  # fmt: skip
ENDS = {
    "csv": (b"id,name\n", b""),
    "jsonl": (b'{"id":0,"name":"z"}\n', b""),
    "xml": (b"<orders>", b"</orders>"),
}


def files(format_: str) -> st.SearchStrategy[bytes]:
    """Return a strategy of files of a text format, mostly of whole records."""
    begin, end = ENDS[format_]
    line = st.sampled_from(LINES[format_])
    word = st.one_of(line, line, line, st.sampled_from(TOKENS), st.binary(max_size=4))
    first = line if format_ == "xml" else st.just(b"")
    return st.builds(
        lambda head, words: begin + head + b"".join(words) + end, first, st.lists(word, max_size=25)
    )
