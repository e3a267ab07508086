"""The mapping from XML to a table, and its YAML file.

```yaml
tables:
  orders:
    row: /orders/order
    fields:
      order_id: {path: "@id", type: int64, nullable: false}
      price: {path: price, type: "decimal(18,4)"}
      city: {path: address/city}
```

Names are local names: namespaces and prefixes are ignored. A field's path is `@attribute`, `child`,
`child/grandchild`, `child/@attribute`, or `.` for the row's own text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from adaptive.errors import UsageError
from adaptive.types import parse_type

NAME = re.compile(r"[^\W\d][\w.\-·]*")  # an XML name without a prefix


@dataclass(frozen=True, slots=True)
class MappedField:
    """A column and where its text stands: `elements` below the row, then perhaps an attribute."""

    name: str
    elements: tuple[str, ...] = ()
    attribute: str | None = None
    type: pa.DataType | None = None
    nullable: bool = True

    @property
    def path(self) -> str:
        """Return the path as a mapping file has it."""
        last = (f"@{self.attribute}",) if self.attribute else ()
        return "/".join(self.elements + last) or "."


@dataclass(frozen=True)
class Mapping:
    """One table: the path of its row element and its fields.

    `exhaustive` says that the mapping was inferred: then nothing in a row is meant to be left out.
    """

    row: tuple[str, ...]
    fields: tuple[MappedField, ...]
    table: str | None = None
    exhaustive: bool = False

    @property
    def names(self) -> list[str]:
        """Return the names of the columns."""
        return [field.name for field in self.fields]

    @cached_property
    def texts(self) -> frozenset[tuple[str, ...]]:
        """Return the elements whose text is a column."""
        return frozenset(field.elements for field in self.fields if field.attribute is None)

    @cached_property
    def elements(self) -> frozenset[tuple[str, ...]]:
        """Return the elements that are mapped, have a mapped attribute or contain either; the row is ()."""
        fields = self.fields
        return frozenset(f.elements[:depth] for f in fields for depth in range(len(f.elements) + 1))

    @cached_property
    def places(self) -> dict[tuple[tuple[str, ...], str | None], int]:
        """Return the index of each field by element and attribute."""
        return {(field.elements, field.attribute): index for index, field in enumerate(self.fields)}

    def attributes(self, elements: tuple[str, ...]) -> list[str]:
        """Return the mapped attributes of an element."""
        return [f.attribute for f in self.fields if f.attribute and f.elements == elements]

    def with_fields(self, found: Iterable[MappedField]) -> Mapping:
        """Return the mapping with those of the fields whose names it does not have yet."""
        fields = {field.name: field for field in self.fields}
        for field in found:
            fields.setdefault(field.name, field)
        return replace(self, fields=tuple(fields.values()))

    def xml2arrow(self) -> str:
        """Return the configuration of xml2arrow that reads every field as text."""
        row = "/" + "/".join(self.row)
        fields = [
            {
                "name": field.name,
                "xml_path": row if field.path == "." else f"{row}/{field.path}",
                "data_type": "Utf8",
                "nullable": True,
            }
            for field in self.fields
        ]
        parent = row.rpartition("/")[0] or "/"
        return yaml.safe_dump(
            {"tables": [{"name": "rows", "xml_path": parent, "levels": [], "fields": fields}]}
        )


class _Loader(yaml.SafeLoader):
    """YAML as usual, but a key that stands twice is an error, not silently the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = Counter(str(key.value) for key, _ in node.value)
        for key, count in keys.items():
            if count > 1:
                raise UsageError(f"line {node.start_mark.line + 1}: {key!r} stands {count} times")
        return super().construct_mapping(node, deep)


def load_mapping(path: str) -> Mapping:
    """Return the mapping in a YAML file.

    Raises UsageError, naming file, table and field, for everything that cannot be used as it is.
    """
    try:
        text = yaml.load(Path(path).read_text("utf-8"), _Loader)  # noqa: S506 (a SafeLoader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: cannot read this mapping: {error}") from error
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    tables = _section(_section(text, path, {"tables"}).get("tables"), f"{path}: tables")
    if len(tables) > 1:
        raise UsageError(f"{path}: {len(tables)} tables ({', '.join(tables)}): several are not supported yet")
    ((name, table),) = tables.items()
    return _table(table, name, f"{path}: table {name!r}")


def _section(value: Any, where: str, known: set[str] | None = None) -> dict[str, Any]:
    if not isinstance(value, dict) or not value or not all(isinstance(key, str) for key in value):
        raise UsageError(f"{where}: expected names with their settings, found {value!r:.60}")
    if unknown := set(value) - (known or set(value)):
        raise UsageError(f"{where}: unknown {min(unknown)!r}; known are {', '.join(sorted(known or ()))}")
    return value


def _table(table: Any, name: str, where: str) -> Mapping:
    if isinstance(table, dict) and {"parent", "carry"} & set(table):
        raise UsageError(f"{where}: a table with a parent is not supported yet")
    table = _section(table, where, {"row", "fields"})
    row = table.get("row")
    if not isinstance(row, str) or not re.fullmatch(f"(/{NAME.pattern}){{2,}}", row):
        raise UsageError(
            f"{where}: row is a path from the root, without prefixes, as in /orders/order, not {row!r}"
        )
    fields = _section(table.get("fields"), f"{where}, fields")
    mapped = tuple(_field(key, value, f"{where}, field {key!r}") for key, value in fields.items())
    _check_paths(mapped, where)
    return Mapping(tuple(row[1:].split("/")), mapped, name)


def _field(name: str, settings: Any, where: str) -> MappedField:
    settings = {"path": settings} if isinstance(settings, str) else settings
    settings = _section(settings, where, {"path", "type", "nullable"})
    path, nullable = settings.get("path"), settings.get("nullable", True)
    if not isinstance(path, str):
        raise UsageError(f"{where}: its path is missing")
    if not isinstance(nullable, bool):
        raise UsageError(f"{where}: nullable is true or false, not {nullable!r}")
    elements, attribute = _path(path, where)
    try:
        type_ = parse_type(str(settings["type"])) if "type" in settings else None
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None
    return MappedField(name, elements, attribute, type_, nullable)


def _path(path: str, where: str) -> tuple[tuple[str, ...], str | None]:
    if path == ".":
        return (), None
    *elements, last = path.split("/")
    attribute = last.removeprefix("@") if last.startswith("@") else None
    if attribute is None:
        elements.append(last)
    for name in [*elements, *([attribute] if attribute is not None else [])]:
        if not NAME.fullmatch(name):
            raise UsageError(
                f"{where}: path {path!r} has to be @attribute, child, child/grandchild, child/@attribute "
                "or . (the row's own text), with names without prefixes"
            )
    return tuple(elements), attribute


def _check_paths(fields: tuple[MappedField, ...], where: str) -> None:
    paths: dict[str, str] = {}
    for field in fields:
        if field.path in paths:
            raise UsageError(f"{where}: fields {paths[field.path]!r} and {field.name!r} have the same path")
        paths[field.path] = field.name
    inner = {f.elements[:depth] for f in fields for depth in range(len(f.elements))}
    for field in fields:
        if field.attribute is None and field.elements in inner:
            raise UsageError(
                f"{where}, field {field.name!r}: {field.path} is text, so no path leads through it"
            )
