"""Infers the mapping of a flat XML document, or suggests one for a document that is not flat."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lxml import etree

from adaptive.errors import UsageError
from adaptive.mapping import MappedField, Mapping

Path = tuple[str, ...]


def infer_mapping(root: etree._Element, name: str) -> Mapping:
    """Return the mapping of a flat document: its row is the root's commonest child.

    `root` may be the beginning of a document. Raises UsageError if there are no rows, or if they
    are not flat; then its text holds a mapping to start from.
    """
    rows = _commonest(root)
    if not rows:
        raise UsageError(f"{name}: <{local(root)}> has no child elements, so there are no rows")
    mapping = Mapping((local(root), local(rows[0])), (), exhaustive=True)
    for row in rows:
        mapping = mapping.with_fields(fields_of(row))
    flat = all(map(_is_flat, rows))
    if flat and mapping.fields:
        return mapping
    problem = "has no columns" if flat else "is not flat"
    raise UsageError(
        f"{name}: <{mapping.row[-1]}> {problem}, so a mapping has to say what the rows are; save this as "
        f"mapping.yaml, edit it, and add --mapping mapping.yaml:\n{suggestion(root)}"
    )


def fields_of(row: etree._Element) -> list[MappedField]:
    """Return a field for every attribute and leaf at and below a row, in document order."""
    own = [MappedField(local(row))] if has_text(row) and not has_elements(row) else []
    return [*_fields_below(row, ()), *own]


def has_elements(element: etree._Element) -> bool:
    """Say whether an element contains others."""
    return next(element.iterchildren("*"), None) is not None


def has_text(element: etree._Element) -> bool:
    """Say whether there is text right in an element, beside its elements if it has some."""
    texts = [element.text, *(child.tail for child in element)]
    return any((text or "").strip(" \t\r\n") for text in texts)


def local(element: etree._Element) -> str:
    """Return an element's name without its namespace."""
    return str(element.tag).rpartition("}")[2]


def _fields_below(element: etree._Element, path: Path) -> Iterator[MappedField]:
    for attribute in _attributes(element):
        yield MappedField("_".join((*path, attribute)), path, attribute)
    for child in element.iterchildren("*"):
        below = (*path, local(child))
        yield from _fields_below(child, below)
        if not has_elements(child):
            yield MappedField("_".join(below), below)


def _attributes(element: etree._Element) -> list[str]:
    return [str(key).rpartition("}")[2] for key in element.attrib]


def _is_flat(row: etree._Element) -> bool:
    """Say whether a row's names differ, and everything in it stands right below it."""
    names = [field.name for field in fields_of(row)]
    deep = any(has_elements(child) or child.attrib for child in row.iterchildren("*"))
    return len(names) == len(set(names)) and not deep and not (has_elements(row) and has_text(row))


def _commonest(root: etree._Element) -> list[etree._Element]:
    """Return the children with the commonest name."""
    counts = Counter(map(local, root.iterchildren("*")))
    name = counts.most_common(1)[0][0] if counts else None
    return [child for child in root.iterchildren("*") if local(child) == name]


def suggestion(root: etree._Element) -> str:
    """Return a mapping to start from, as YAML: nested elements flattened, repeated ones noted.

    Where no child of the root is repeated, the rows are looked for in its largest child.
    """
    parents, rows = [local(root)], _commonest(root)
    while len(rows) == 1 and len(below := _commonest(largest := max(root, key=len))) > 1:
        root, rows = largest, below
        parents.append(local(root))
    repeated = {path for row in rows for path in _repeated(row, ())}
    lines = [f"    row: /{'/'.join([*parents, local(rows[0])])}", "    fields:"]
    names = Counter[str]()
    for field in {field.path: field for row in rows for field in fields_of(row)}.values():
        names[field.name] += 1
        name = field.name if names[field.name] == 1 else f"{field.name}_{names[field.name]}"
        inside = any(field.elements[: depth + 1] in repeated for depth in range(len(field.elements)))
        note = "  # repeated in a row, which has place for one" if inside else ""
        lines.append(f'      {name}: {{path: "{field.path}", type: text}}{note}')
    return "\n".join(["tables:", f"  {local(rows[0])}:", *lines])


def _repeated(element: etree._Element, path: Path) -> Iterator[Path]:
    """Yield the paths of elements that have a sibling of the same name."""
    counts = Counter(map(local, element.iterchildren("*")))
    yield from ((*path, name) for name, count in counts.items() if count > 1)
    for child in element.iterchildren("*"):
        yield from _repeated(child, (*path, local(child)))
