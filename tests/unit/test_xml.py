from __future__ import annotations

import gzip
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from adaptive.dialect import Dialect
from adaptive.errors import AdaptiveError, SourceError, UsageError
from adaptive.rows import Column, Field, Reject
from adaptive.sources import open_source, xml_scan
from adaptive.sources.xml import XmlSource
from adaptive.sources.xml_exact import read_records

SIZES = [1, 7, 60, 1 << 22]

MAPPING = """
tables:
  orders:
    row: /orders/order
    fields:
      id: "@id"
      note: note
      city: address/city
"""


class Loaded:
    """What a document gives at one piece size: rows, rejects, and the error it ended with."""

    def __init__(self, source: XmlSource, types: dict[str, pa.DataType] | None = None) -> None:
        self.rows: list[dict[str, Any]] = []
        self.rejects: list[Reject] = []
        self.error: AdaptiveError | None = None
        self.fast = True
        self.count = 0
        names = source.schema().names
        fields = [Field(name, Column(name, (types or {}).get(name, pa.string()))) for name in names]
        try:
            for piece in source.read():
                chunk = source.parse(piece, fields)
                self.fast &= piece.proved is not None
                self.rejects += chunk.moved(0, self.count).rejects
                self.rows += chunk.rows.to_pylist()
                self.count += chunk.count
        except AdaptiveError as error:
            self.error = error
        assert self.count == len(self.rows) + len(self.rejects)

    def column(self, name: str) -> list[Any]:
        return [row[name] for row in self.rows]


Load = Callable[..., Loaded]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    def load(
        document: str | bytes, mapping: str | None = None, *, size: int = 1 << 22, **dialect: Any
    ) -> Loaded:
        path = tmp_path / "orders.xml"
        path.write_bytes(document if isinstance(document, bytes) else document.encode())
        if mapping:
            (tmp_path / "mapping.yaml").write_text(mapping)
            dialect["mapping"] = str(tmp_path / "mapping.yaml")
        return Loaded(XmlSource(str(path), Dialect(**dialect), piece=size))

    return load


def orders(*records: str) -> str:
    return f"<orders>{''.join(records)}</orders>"


def order(note: str, more: str = "") -> str:
    return f"<order{more}><note>{note}</note></order>"


@pytest.fixture(params=SIZES)
def size(request: pytest.FixtureRequest) -> int:
    return int(request.param)


def test_rows_and_columns_are_found_without_a_mapping(load: Load, size: int) -> None:
    found = load(orders('<order id="1"><note>a</note></order>', '\n <order id="2"/>\n'), size=size)
    assert found.rows == [{"id": "1", "note": "a"}, {"id": "2", "note": None}]
    assert not found.rejects
    assert found.error is None


def test_the_registry_opens_it(tmp_path: Path) -> None:
    path = tmp_path / "o.xml"
    path.write_text(orders(order("a")))
    assert open_source(str(path), Dialect()).schema() == pa.schema([("note", pa.string())])


EMPTY = ["<note/>", "<note></note>", "<note />", "<note\n></note >", '<note a="/>"/>', "<note><!----></note>"]


@pytest.mark.parametrize("empty", [*EMPTY, "<note><![CDATA[]]></note>"])
def test_an_absent_element_is_null_and_an_empty_one_is_empty_text(load: Load, size: int, empty: str) -> None:
    document = orders("<order/>", order("x"), f"<order>{empty}</order>", "<order></order>")
    assert load(document, MAPPING, size=size).column("note") == [None, "x", "", None]


def test_empty_elements_are_read_the_fast_way(load: Load) -> None:
    records = [order("x"), "<order><note/></order>", "<order><note></note></order>"]
    found = load(orders(*records * 100))
    assert found.column("note") == ["x", "", ""] * 100
    assert found.fast


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("  a \n b ", "  a \n b "),
        ("a\r\nb\rc&#13;", "a\nb\nc\r"),
        ("&lt;&amp;&gt;&quot;&apos;&#65;&#x1F600;", "<&>\"'A\U0001f600"),
        ("a<![CDATA[<b>&amp;</order>]]>c", "a<b>&amp;</order>c"),
        ("a<!-- </order><order> -->b", "ab"),
        ("a<?pi </order> ?>b", "ab"),
        ("[[1,2]]", "[[1,2]]"),
        ("a]]&gt;", "a]]>"),
        ("a > b /> c", "a > b /> c"),
        ("株式 naïve \U0001f600", "株式 naïve \U0001f600"),
    ],
)
def test_text_is_what_xml_says(load: Load, size: int, text: str, value: str) -> None:
    found = load(orders(order("x"), order(text), order("y")), size=size)
    assert found.column("note") == ["x", value, "y"]


TRAPS = [
    '<order id="</order>"/>',
    "<order id='&lt;/order>&lt;order>'><note>x</note></order>",
    '<order id="a > b"><note>x</note></order>',
]


@pytest.mark.parametrize("trap", TRAPS)
def test_a_tag_in_an_attribute_does_not_cut(load: Load, size: int, trap: str) -> None:
    found = load(orders(order("a"), trap, order("b")), MAPPING, size=size)
    assert found.count == 3
    assert [row["note"] for row in found.rows if not row["id"]] == ["a", "b"]


def test_attributes_are_normalised_as_xml_says(load: Load, size: int) -> None:
    found = load(orders('<order id="a\tb\nc&#10;d\r\ne"/>'), MAPPING, size=size)
    assert found.column("id") == ["a b c\nd e"]


def test_rows_may_close_themselves(load: Load, size: int) -> None:
    document = orders(*(f'<order id="{i}" />\n' for i in range(20)))
    assert load(document, MAPPING, size=size).column("id") == [str(i) for i in range(20)]


def test_end_tags_may_have_space(load: Load, size: int) -> None:
    document = "<orders ><order ><note >a</note ></order\n><order><note>b</note></order ></orders >"
    assert load(document, size=size).column("note") == ["a", "b"]


def test_a_row_may_contain_elements_of_its_own_name(load: Load, size: int) -> None:
    inner = '<order id="9"><note>inner</note><order/></order>'
    document = orders(
        order("a"),
        f'<order id="1">{inner}<note>b</note>{inner}</order>',
        f"<order><part>{inner}</part></order>",
        order("c"),
    )
    found = load(document, MAPPING, size=size)
    assert found.column("note") == ["a", "b", None, "c"]
    assert not found.rejects


@pytest.mark.parametrize(
    "document",
    [
        '<orders xmlns="urn:a">{}</orders>',
        '<x:orders xmlns:x="urn:a">{}</x:orders>',
        '<orders xmlns:x="urn:a" x:version="1">{}</orders>',
    ],
)
def test_namespaces_and_prefixes_are_ignored(load: Load, size: int, document: str) -> None:
    prefix = "x:" if "x=" in document else ""
    record = "<{0}order><{0}note>{1}</{0}note></{0}order>"
    text = document.format("".join(record.format(prefix, i) for i in "abc"))
    assert load(text, size=size).column("note") == ["a", "b", "c"]
    assert load(text, MAPPING, size=size).column("note") == ["a", "b", "c"]


def test_an_attribute_with_and_without_prefix_is_not_joined(load: Load, size: int) -> None:
    found = load(
        '<orders xmlns:x="u"><order id="1" x:id="2"/><order id="3" x:no="4"/></orders>', MAPPING, size=size
    )
    assert found.column("id") == ["3"]
    assert "stands more than once" in found.rejects[0].reason


DEEP = "tables: {rows: {row: /a/b/row, fields: {v: v}}}"


def test_rows_may_be_deep_and_have_several_parents(load: Load, size: int) -> None:
    document = (
        "<a><head><row><v>no</v></row></head><b><row><v>1</v></row> text <row><v/></row></b>"
        "<c><row><v>no</v></row></c>"
        "<row><v>no</v></row><b/><b><!-- <row> --><other/><row><v>3</v></row></b><b t='1'><row/></b></a>"
    )
    assert load(document, DEEP, size=size).column("v") == ["1", "", "3", None]


def test_siblings_and_a_header_are_passed_over(load: Load, size: int) -> None:
    document = orders(
        "<meta><order><note>no</note></order></meta>", order("a"), "<other a='1'/>text", order("b"), "<end/>"
    )
    assert load(document, MAPPING, size=size).column("note") == ["a", "b"]


@pytest.mark.parametrize(
    "encoding",
    ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "latin-1", "windows-1252", "shift_jis"],
)
def test_encodings_are_declared_or_marked(load: Load, size: int, encoding: str) -> None:
    note = "é" if encoding in ("latin-1", "windows-1252") else "株"
    declared = re.sub("-(sig|le|be)$", "", encoding)
    declaration = f'<?xml version="1.0" encoding="{declared}"?>\n'
    document = (declaration + orders(order(note), order("b"))).encode(encoding)
    assert load(document, size=size).column("note") == [note, "b"]


def test_an_unknown_encoding_is_refused(load: Load) -> None:
    with pytest.raises(UsageError, match="'klingon' is unknown"):
        load('<?xml version="1.0" encoding="klingon"?><a/>')


def test_undecodable_text_ends_the_load_after_the_records_before(load: Load) -> None:
    document = ('<?xml version="1.0" encoding="utf-16"?>' + orders(*[order("a")] * 50_000)).encode(
        "utf-16"
    ) + b"\x00\xd8"
    found = load(document, size=1000)
    assert found.count > 49_000
    assert isinstance(found.error, SourceError)


BROKEN = {
    "mismatch": "<order><note>bad</nota></order>",
    "unclosed child": "<order><note>bad</order>",
    "unclosed row": "<order><note>bad</note>",
    "stray end": "</order>",
    "ampersand": order("a & b"),
    "entity": order("&foo;"),
    "less than": order("1 < 2"),
    "control": order("\x01"),
    "control reference": order("&#1;"),
    "noncharacter": order("\uffff"),
    "unquoted": "<order id=1/>",
    "twice": "<order id='1' id='2'/>",
    "angle in attribute": "<order id='<'/>",
    "name": "<order><1a>x</1a></order>",
    "comment": "<order><!-- a -- b --><note>x</note></order>",
    "open comment": "<order><!-- a </order>",
    "doctype": '<!DOCTYPE a [<!ENTITY b "c">]>',
    "declaration": "<order><?xml version='1.0'?></order>",
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_a_malformed_record_is_a_reject_and_its_neighbours_load(load: Load, size: int, broken: str) -> None:
    found = load(orders(order("a"), order("b"), broken, order("c"), order("d")), MAPPING, size=size)
    assert found.column("note") == ["a", "b", "c", "d"]
    (reject,) = found.rejects
    assert (reject.ordinal, reject.code) == (2, "xml")
    assert reject.reason
    assert reject.raw is not None
    assert broken.startswith(reject.raw[:5])
    assert found.error is None


def test_invalid_utf8_costs_only_its_record(load: Load, size: int) -> None:
    found = load(
        b"<orders><order><note>a</note></order><order><note>\xff</note></order><order/></orders>",
        MAPPING,
        size=size,
    )
    assert found.column("note") == ["a", None]
    assert found.rejects[0].ordinal == 1


AMBIGUOUS = [
    "<order><note>a</note><note>b</note></order>",
    "<order><note/><note>b</note></order>",
    "<order><note>b</note><note/></order>",
    "<order><note>a<i>b</i></note></order>",
    "<order><note><i/></note></order>",
]


@pytest.mark.parametrize("record", AMBIGUOUS)
def test_repeated_children_and_markup_in_text_are_rejects(load: Load, size: int, record: str) -> None:
    found = load(orders(order("a"), record, order("b")), MAPPING, size=size)
    assert found.column("note") == ["a", "b"]
    assert [reject.ordinal for reject in found.rejects] == [1]


def test_attributes_of_children(load: Load, size: int) -> None:
    mapping = "tables: {o: {row: /orders/order, fields: {cur: price/@cur, price: price, c: c/@id}}}"
    document = orders(
        '<order><price cur="EUR">1</price><c id="1"/></order>',
        '<order><price>2</price><c id="1"/><c id="2"/></order>',
        '<order><c>x</c><price cur="USD"/></order>',
    )
    found = load(document, mapping, size=size)
    assert found.rows == [{"cur": "EUR", "price": "1", "c": "1"}, {"cur": "USD", "price": "", "c": None}]
    assert "c/@id stands more than once" in found.rejects[0].reason


def test_the_rows_own_text(load: Load, size: int) -> None:
    mapping = "tables: {o: {row: /names/name, fields: {name: ., lang: '@lang'}}}"
    found = load('<names><name lang="de">Anna</name><name/><name>B<b/></name></names>', mapping, size=size)
    assert found.rows == [{"name": "Anna", "lang": "de"}, {"name": "", "lang": None}]
    assert found.rejects[0].ordinal == 2
    assert load("<names><name>Anna</name><name>Eva</name></names>", size=size).column("name") == [
        "Anna",
        "Eva",
    ]


def test_what_an_inferred_mapping_does_not_know_is_never_dropped(load: Load, size: int) -> None:
    known = orders(*[order("a")] * 6000)[: -len("</orders>")]  # more than the beginning that is looked at
    late = [
        "<order><note>b</note><extra>c</extra></order>",
        "<order id='1'/>",
        "<order>text<note>d</note></order>",
    ]
    found = load(known + order("a" * 200_000) + "".join(late) + "</orders>", size=max(size, 1000))
    assert [reject.ordinal for reject in found.rejects] == [6001, 6002, 6003]
    assert "extra is not among the columns" in found.rejects[0].reason


def test_inference_sees_the_whole_document(tmp_path: Path) -> None:
    path = tmp_path / "orders.xml"
    path.write_text(
        orders(*[order("1")] * 6000, order("1" * 200_000), "<order id='7'><extra>x</extra></order>")
    )
    source = XmlSource(str(path), Dialect(types={"note": pa.string()}))
    assert source.schema().names == ["note"]
    assert set(source.infer().names) == {"note", "id", "extra"}
    found = Loaded(source)
    assert not found.rejects
    assert found.rows[-1] == {"note": None, "id": "7", "extra": "x"}


def test_absent_values_that_the_mapping_requires_are_rejects(load: Load, size: int) -> None:
    mapping = "tables: {o: {row: /orders/order, fields: {note: {path: note, nullable: false}}}}"
    found = load(orders(order("a"), "<order/>", "<order><note/></order>"), mapping, size=size)
    assert found.column("note") == ["a", ""]
    assert [(r.ordinal, r.code, r.column) for r in found.rejects] == [(1, "null", "note")]


def test_a_further_text_may_stand_for_null(load: Load, size: int) -> None:
    assert load(orders(order("a"), order("N/A")), size=size, null="N/A").column("note") == ["a", None]


def test_a_document_cut_off_gives_its_complete_records_then_an_error(load: Load, size: int) -> None:
    document = orders(order("a"), order("b"), order("c"))
    for end in range(document.index("<note>c") - 20, len(document) - 1):
        found = load(document[:end], MAPPING, size=size)
        assert found.column("note") == ["a", "b", "c"][: document[:end].count("</order>")]
        assert isinstance(found.error, SourceError)
        assert "byte" in str(found.error)


def test_a_cut_archive_gives_its_complete_records_then_an_error(load: Load, size: int) -> None:
    whole = gzip.compress(orders(*(order(str(i)) for i in range(400))).encode())
    found = load(whole[: len(whole) // 2], MAPPING, size=max(size, 60))
    assert found.column("note") == [str(i) for i in range(found.count)]
    assert found.count > 10
    assert isinstance(found.error, SourceError)


@pytest.mark.parametrize("junk", ["junk", "<order/>", "</orders>", "<![CDATA[x]]>"])
def test_anything_after_the_end_is_an_error(load: Load, size: int, junk: str) -> None:
    found = load(orders(order("a")) + "<!-- fine -->\n" + junk, size=size)
    assert found.column("note") == ["a"]
    assert isinstance(found.error, SourceError)
    assert "after the end" in str(found.error)


@pytest.mark.parametrize(
    "document", ["", "hello", "{}", "a,b\n1,2\n", "<", "<!-- only -->", "\x00\x01", "<orders"]
)
def test_what_is_not_xml_is_refused_at_once(load: Load, document: str) -> None:
    with pytest.raises(UsageError, match="not XML"):
        load(document)


def test_malformed_xml_outside_the_rows_ends_the_load(load: Load, size: int) -> None:
    found = load("<a><b><row><v>1</v></row></b><c></d><b><row><v>2</v></row></b></a>", DEEP, size=size)
    assert found.column("v")[:1] == ["1"]
    assert isinstance(found.error, SourceError) or found.rejects


DTD = {
    "entity": '<!DOCTYPE orders [<!ENTITY e "x">]>',
    "external": '<!DOCTYPE orders [<!ENTITY e SYSTEM "file:///etc/passwd">]>',
    "network": '<!DOCTYPE orders SYSTEM "http://127.0.0.1:9/x.dtd">',
    "bomb": '<!DOCTYPE orders [<!ENTITY a "aaaaaaaaaa">' + "".join(
        f'<!ENTITY {b} "{f"&{a};" * 10}">' for a, b in zip("abcdefgh", "bcdefghe", strict=True)) + "]>",
}  # fmt: skip


@pytest.mark.parametrize("dtd", DTD.values(), ids=DTD.keys())
@pytest.mark.parametrize("mapping", [None, MAPPING])
def test_document_type_definitions_are_refused(load: Load, dtd: str, mapping: str | None) -> None:
    with pytest.raises(UsageError, match="document type definition"):
        load(dtd + orders(order("&e;")), mapping)


def test_deep_documents_neither_crash_nor_load(load: Load, size: int) -> None:
    deep = "<x>" * 5000 + "</x>" * 5000
    found = load(orders(order("a"), f"<order>{deep}</order>", order("b")), MAPPING, size=max(size, 60))
    assert found.column("note") == ["a", "b"]
    assert found.rejects[0].ordinal == 1


def test_a_record_beyond_the_bound_ends_the_load(load: Load) -> None:
    found = load(orders(order("a"), order("x" * 5_000_000), order("b")), MAPPING, size=1000, max_record=1)
    assert found.column("note") == ["a"]
    assert "longer than" in str(found.error)


def test_a_missing_end_tag_does_not_take_the_rest_along(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_scan, "LOOKAHEAD", 2000)
    records = [order(str(i)) for i in range(1000)]
    found = load(orders(*records[:500], "<order><note>x</note>", *records[500:]), MAPPING, size=1000)
    assert found.column("note") == [str(i) for i in range(1000)]
    assert [reject.ordinal for reject in found.rejects] == [500]


def test_the_mapping_has_to_suit_the_document(load: Load) -> None:
    with pytest.raises(UsageError, match="its root is <list>"):
        load("<list><order/></list>", MAPPING)


@pytest.mark.parametrize(("document", "said"), [("<orders><order/></orders>", 1), ("<orders></orders>", 0)])
def test_a_mapping_that_no_element_suits_is_mentioned(
    document: str, said: int, load: Load, caplog: pytest.LogCaptureFixture
) -> None:
    found = load(document, "tables: {o: {row: /orders/ordre, fields: {note: note}}}")
    assert found.column("note") == []
    assert caplog.text.count("no element is /orders/ordre, so there are no rows") == said


def test_values_are_cast_to_the_columns_types(tmp_path: Path) -> None:
    path = tmp_path / "orders.xml"
    path.write_text(orders(order("1"), order("x"), order("3")))
    found = Loaded(XmlSource(str(path), Dialect()), {"note": pa.int64()})
    assert found.column("note") == [1, 3]
    assert [(r.ordinal, r.code) for r in found.rejects] == [(1, "value")]


TEXT = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
    max_size=8,
) | st.sampled_from(
    ["<order>", "</order>", "<note/>", "]]>", " ", "\n", "\t", "a]", "&amp;", "<!--", "-->", "/>", "><", "\r"]
)


def escaped(text: str, quote: str = "") -> str:
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace("]]>", "]]&gt;").replace("\r", "&#13;")
    return text.replace('"', "&quot;").replace("\n", "&#10;").replace("\t", "&#x9;") if quote else text


@st.composite
def xml_text(draw: Any) -> tuple[str, str]:
    """Draw a text as XML may write it, and the text itself."""
    written, text = "", ""
    for part in draw(st.lists(TEXT, max_size=3)):
        form = draw(st.sampled_from(["plain", "cdata", "comment", "reference"]))
        if form == "comment":
            written += f"<!--{part.replace('-', '').replace(chr(13), '')}-->"
            continue
        text += part
        if form == "cdata" and "]]>" not in part and "\r" not in part:
            written += f"<![CDATA[{part}]]>"
        elif form == "reference":
            written += "".join(f"&#{ord(c)};" if i % 2 else f"&#x{ord(c):X};" for i, c in enumerate(part))
        else:
            written += escaped(part)
    return written, text


@st.composite
def record(draw: Any) -> tuple[str, tuple[str | None, str | None, str | None]]:
    """Draw a record as XML and its values."""
    space = st.sampled_from(["", "", " ", "\n\t", "<!-- <order> -->"])
    identity, note, city = (draw(st.none() | xml_text()) for _ in range(3))
    id_text = identity[1] if identity else None
    start = "<order" + (f' id="{escaped(id_text, "q")}"' if id_text is not None else "")
    children = []
    if note:
        children.append("<note/>" if not note[0] and draw(st.booleans()) else f"<note>{note[0]}</note>")
    if city:
        children.append(f"<address>{draw(space)}<city>{city[0]}</city></address>")
    others = ["<other/>", "<other><note>no</note></other>", "<x a='&lt;/order>'>&lt;</x>"]
    children += draw(st.lists(st.sampled_from(others), max_size=1))
    content = "".join(draw(space) + child for child in draw(st.permutations(children)))
    text = f"{start}/>" if not content and draw(st.booleans()) else f"{start}>{content}</order>"
    return text + draw(space), (id_text, note[1] if note else None, city[1] if city else None)


@given(st.lists(record(), max_size=6), st.integers(1, 400))
@settings(max_examples=150, deadline=None)
def test_both_parsers_give_the_records_at_any_size(
    tmp_path_factory: pytest.TempPathFactory, records: list[Any], size: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "mapping.yaml").write_text(MAPPING)
    document = orders(*(text for text, _ in records))
    (folder / "h.xml").write_bytes(document.encode())
    etree.fromstring(document)
    expected = [dict(zip(("id", "note", "city"), values, strict=True)) for _, values in records]
    source = XmlSource(str(folder / "h.xml"), Dialect(mapping=str(folder / "mapping.yaml")), piece=size)
    reader = source._ready()
    exact: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for piece in source.read():
        batch, broken = reader.read(piece)
        assert not broken
        found += batch.to_pylist()
        exact += read_records(piece, piece.spans or reader._spans(piece), reader.mapping)[0].to_pylist()
    assert found == expected
    assert exact == expected


TAGS = ["<order>", "</order>", "<note>", "</note>", "<note/>", "<order/>", "</orders>", "<orders>"]
SIGNS = ["x", "<!--", "-->", "<![CDATA[", "]]>", "&", "<", ">", '"']


@given(st.lists(st.sampled_from([*TAGS, *SIGNS, "<order id='1'>"]), max_size=12), st.integers(1, 60))
@settings(max_examples=100, deadline=None)
def test_arbitrary_tags_never_crash_and_good_neighbours_load_first(
    tmp_path_factory: pytest.TempPathFactory, tokens: list[str], size: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    (folder / "mapping.yaml").write_text(MAPPING)
    text = "".join(tokens)
    (folder / "a.xml").write_text(f"<orders>{order('first')}{text}{order('last')}</orders>")
    found = Loaded(
        XmlSource(str(folder / "a.xml"), Dialect(mapping=str(folder / "mapping.yaml")), piece=size)
    )
    again = Loaded(XmlSource(str(folder / "a.xml"), Dialect(mapping=str(folder / "mapping.yaml"))))
    assert (found.rows, [r.ordinal for r in found.rejects]) == (
        again.rows,
        [r.ordinal for r in again.rejects],
    )
    assert str(found.error) == str(again.error)
    assert found.column("note")[:1] == ["first"] or re.match(r"\]\]>|&|>|x|\"", text)


@pytest.mark.parametrize("rest", [" ", "<!-- -->", "<?x?>", "<other/>", "&#32;"])
def test_a_piece_without_any_record_is_read(load: Load, rest: str) -> None:
    for size in (1, 7, 30, 31, 60, 61, 90, 119):
        found = load(orders(order("a"), rest * 30, order("b"), rest * 30), MAPPING, size=size)
        assert (found.column("note"), found.rejects, found.error) == (["a", "b"], [], None)


def test_records_without_end_cost_themselves_and_not_the_square_of_their_number(load: Load) -> None:
    found = load(orders(order("a"), "<order><note>x</note>" * 5_000, order("b")), MAPPING)
    assert found.column("note") == ["a", "b"]
    assert len(found.rejects) == 5_000


@pytest.mark.parametrize(
    "damaged", ["<ord", "<ordid>", "<ordre a='1'>", "<orderx><note>", "<note>x</note></order>"]
)
def test_a_damaged_start_tag_of_a_row_costs_only_that_row(load: Load, size: int, damaged: str) -> None:
    records = [order(str(n)) for n in range(300)]
    found = load(
        orders(*records[:150], f"{damaged}<city>x</city></order>", *records[150:]), MAPPING, size=size
    )
    assert [int(text) for text in found.column("note")] == list(range(300))
    assert {reject.ordinal for reject in found.rejects} <= {150, 151}
    assert found.rejects


def test_a_cut_text_of_a_bad_record_is_said_to_be_cut(load: Load) -> None:
    found = load(orders(order("a"), "<order><note>" + "x" * 20_000 + "</order>"), MAPPING)
    [reject] = found.rejects
    assert reject.raw is not None
    assert len(reject.raw) == 10_000
    assert "the first 10,000 of its 20,021 characters are kept" in reject.reason


@pytest.mark.parametrize("other", ["", order("&"), order("<![CDATA[x]]>")])
def test_the_end_of_a_section_in_text_is_malformed_whatever_stands_beside_it(
    load: Load, size: int, other: str
) -> None:
    found = load(orders(order("a"), order("x]]>y"), other, order("b")), MAPPING, size=size)
    assert {"a", "b"} <= {*found.column("note")} <= {"a", "b", "x"}
    assert found.rejects[0].ordinal == 1


def test_a_definition_amid_the_rows_ends_the_load_after_the_records_before(load: Load, size: int) -> None:
    found = load(orders(order("a"), "<other><!DOCTYPE x></other>", order("b")), MAPPING, size=size)
    assert found.column("note")[:1] == ["a"]
    assert isinstance(found.error, SourceError) or found.rejects


def test_text_after_the_end_is_named_at_its_first_byte(load: Load, size: int) -> None:
    document = orders(order("a"))
    found = load(document + " \n x", MAPPING, size=size)
    assert found.column("note") == ["a"]
    assert f"after the end of the document, at byte {len(document) + 3:,}: 'x'" in str(found.error)
