from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
import yaml
from lxml import etree

from adaptive.errors import UsageError
from adaptive.mapping import Mapping, load_mapping
from adaptive.sources.xml_infer import infer_mapping

FULL = """
tables:
  orders:
    row: /orders/order
    fields:
      order_id: {path: "@id", type: int64, nullable: false}
      price: {path: price, type: "decimal(18,4)"}
      city: address/city
      country: {path: address/@country}
"""


def mapping_of(text: str, tmp_path: Path) -> Mapping:
    path = tmp_path / "mapping.yaml"
    path.write_text(text, "utf-8")
    return load_mapping(str(path))


def test_a_mapping_has_a_table_a_row_and_fields(tmp_path: Path) -> None:
    mapping = mapping_of(FULL, tmp_path)
    assert (mapping.table, mapping.row) == ("orders", ("orders", "order"))
    assert [field.path for field in mapping.fields] == ["@id", "price", "address/city", "address/@country"]
    assert [field.type for field in mapping.fields] == [pa.int64(), pa.decimal128(18, 4), None, None]
    assert [field.nullable for field in mapping.fields] == [False, True, True, True]


def test_xml2arrow_reads_every_field_as_text(tmp_path: Path) -> None:
    (table,) = yaml.safe_load(mapping_of(FULL, tmp_path).xml2arrow())["tables"]
    assert table["xml_path"] == "/orders"
    assert [field["xml_path"] for field in table["fields"]] == [
        "/orders/order/@id",
        "/orders/order/price",
        "/orders/order/address/city",
        "/orders/order/address/@country",
    ]
    assert {field["data_type"] for field in table["fields"]} == {"Utf8"}


ROW = "tables: {t: {row: /a/b, fields: %s}}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected names with their settings"),
        ("[1]", "expected names"),
        ("{[a]: b}", "cannot read this mapping"),
        ("tables: {", "cannot read this mapping"),
        ("tables: {a: {}, b: {}}", "several are not supported yet"),
        ("tables: {t: {row: /a/b, parent: s}}", "table 't': a table with a parent is not supported yet"),
        ("tabels: {}", "unknown 'tabels'; known are tables"),
        ("tables: {t: {rows: /a/b}}", "table 't': unknown 'rows'"),
        ("tables: {t: {row: b, fields: {c: c}}}", "row is a path from the root"),
        ("tables: {t: {row: /b, fields: {c: c}}}", "row is a path from the root"),
        ("tables: {t: {row: /x:a/x:b, fields: {c: c}}}", "without prefixes"),
        ("tables: {t: {row: /a/b}}", "table 't', fields: expected names"),
        (ROW % "{}", "table 't', fields: expected names"),
        (ROW % "{c: {type: text}}", "field 'c': its path is missing"),
        (ROW % "{c: {path: c, type: money}}", "table 't', field 'c': unknown type 'money'"),
        (ROW % "{c: {path: c, default: 1}}", "field 'c': unknown 'default'"),
        (ROW % "{c: {path: c, nullable: maybe}}", "field 'c': nullable is true or false"),
        (ROW % "{c: '@a/b'}", "field 'c': path '@a/b' has to be"),
        (ROW % "{c: '@'}", "field 'c': path '@' has to be"),
        (ROW % "{c: a//b}", "field 'c': path 'a//b' has to be"),
        (ROW % "{c: /a/b/c}", "field 'c': path '/a/b/c' has to be"),
        (ROW % "{c: 'c[1]'}", "has to be"),
        (ROW % "{c: c, d: c}", "fields 'c' and 'd' have the same path"),
        (ROW % "{c: c, d: c/d}", "field 'c': c is text, so no path leads through it"),
        (ROW % "{c: c, c: d}", "line 1: 'c' stands 2 times"),
    ],
)
def test_errors_name_file_table_and_field(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        mapping_of(text, tmp_path)
    assert message in str(caught.value)
    assert "mapping.yaml" in str(caught.value)


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere.yaml: cannot read"):
        load_mapping(str(tmp_path / "nowhere.yaml"))


def inferred(document: str) -> Mapping:
    return infer_mapping(etree.fromstring(document), "o.xml")


def test_the_row_is_the_commonest_child_and_its_columns_its_attributes_and_leaves() -> None:
    mapping = inferred("<l><meta/><o id='1'><a/></o><o no='2'><b>x</b><a>y</a></o></l>")
    assert mapping.row == ("l", "o")
    assert [(field.name, field.path) for field in mapping.fields] == [
        ("id", "@id"),
        ("a", "a"),
        ("no", "@no"),
        ("b", "b"),
    ]
    assert mapping.exhaustive


def test_rows_of_nothing_but_text_have_one_column() -> None:
    assert [(f.name, f.path) for f in inferred("<l><name>a</name><name>b</name></l>").fields] == [
        ("name", ".")
    ]


def test_rows_of_attributes_and_text_have_a_column_for_each() -> None:
    assert [f.path for f in inferred("<l><o a='1'>text</o></l>").fields] == ["@a", "."]


def test_rows_that_are_always_empty_have_no_columns() -> None:
    with pytest.raises(UsageError, match="no columns"):
        inferred("<l><o/><o/></l>")


def test_a_document_without_children_has_no_rows() -> None:
    with pytest.raises(UsageError, match="<l> has no child elements"):
        inferred("<l>text</l>")


@pytest.mark.parametrize(
    "row",
    [
        "<o><a><b/></a></o>",
        "<o><a c='1'/></o>",
        "<o><a/><a/></o>",
        "<o>text<a/></o>",
        "<o a='1'><a/></o>",
        "<o o='1'>text</o>",
    ],
)
def test_rows_that_are_not_flat_need_a_mapping(row: str) -> None:
    with pytest.raises(UsageError, match="is not flat"):
        inferred(f"<l>{row}</l>")


def test_the_suggested_mapping_can_be_loaded(tmp_path: Path) -> None:
    document = (
        "<l><head/><list><o id='1'><a><b>x</b></a><c/><c/><d e='1'>x</d><note/></o><o><id/></o></list></l>"
    )
    with pytest.raises(UsageError) as caught:
        inferred(document)
    text = str(caught.value).partition(":\n")[2]
    mapping = mapping_of(text, tmp_path)
    assert mapping.row == ("l", "list", "o")
    assert [f.path for f in mapping.fields] == ["@id", "a/b", "c", "d/@e", "d", "note", "id"]
    assert 'c: {path: "c", type: text}  # repeated' in text
    assert len({f.name for f in mapping.fields}) == 7
