"""Real files to damage: generated orders, and by hand what they do not have."""

from __future__ import annotations

import io
import tempfile
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from adaptive import orders

ORDERS = 24

CSV = (
    b'id,name,note\n1,"a, b","x\ny"\n2,,""\n\n3,5" disk,"q""r"\n4,"\xc3\xa9",\xf0\x9f\x98\x80\n5,"a"b,c"d\n',
    b'id,name\r\n1,"a\r\nb"\r\n2,c\r\n3,d',
    b"\xef\xbb\xbfid,name\n1,a\n2,b\n",
    "id,name\n1,é\n2,\u4e2d\n".encode("utf-16"),
)
JSONL = (
    b'{"id":1,"name":"a","n":1.50,"deep":{"x":[1,null,"\\u00e9"]}}\n{"id":2,"n":123456789012345678.1234}\n'
    b'\n{"id":3,"name":null,"n":1e3,"deep":[]}\r\n {"name":"\xc3\xa9","id":4,"n":-0.0}\n{"id":5,"n":true}\n',
    b'{"id":"1","t":"a b"}\n{"id":2,"t":7}\n{"id":3,"t":"\\ud83d\\ude00"}',
)
XML = (
    b'<?xml version="1.0"?>\n<orders>\n<order id="1"><note>a</note><city>b</city></order>\n'
    b'<order id="2"><note/><city>&amp;&#233;</city></order><!-- <order> -->\n'
    b'<order id="3"><note><![CDATA[</order>]]></note></order>\n<order id="4"/>\n'
    b'<order id="5"><city>x</city><note>y</note></order>\n</orders>\n',
    b'<n:orders xmlns:n="u"><n:order id="1"><n:note>1</n:note></n:order><n:order id="2">'
    b"<n:note>2</n:note></n:order></n:orders>",
)


@cache
def seeds(format_: str) -> tuple[bytes, ...]:
    """Return small undamaged files of a format."""
    written = {"csv": CSV, "jsonl": JSONL, "xml": XML}
    return (_orders(format_), *(written.get(format_) or (_parquet(),)))


def _orders(format_: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"orders.{format_}"
        orders.write(path, ORDERS)
        return path.read_bytes()


def _parquet() -> bytes:
    """Return rows in several row groups and pages, with checksums, so that damage cannot pass for values."""
    table = pa.table({"id": range(300), "name": [f"name {n % 7}" if n % 5 else None for n in range(300)]})
    file = io.BytesIO()
    pq.write_table(table, file, row_group_size=100, data_page_size=200, write_page_checksum=True)
    return file.getvalue()
