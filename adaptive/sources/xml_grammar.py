r"""A regular grammar of the XML that xml2arrow reads exactly, for one mapping.

XML of bounded depth is a regular language. So one pass of RE2's automaton over a piece proves that it
begins and ends between records, and that it holds nothing that xml2arrow, which is lenient, would read
otherwise than XML says: no empty text (it gives NULL), no markup inside a text, no `<` in an attribute,
no forbidden character, no name that an inferred mapping does not know. What does not match is not wrong;
it only takes the slow way.

The automaton holds no lock and takes 0.8 s of CPU per 305 MB (1,000,000 market orders). Finding the cuts
by counting tags took as long and proved less; a tokenizer in Python takes 10 s.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from adaptive.mapping import Mapping

DEPTH = 3  # of elements that no column asks for; each level makes the automaton about 1 KB larger
_CONTROL = r"\x00-\x08\x0b\x0c\x0e-\x1f"
# References to characters that XML allows; what is left out only takes the slow way.
_DECIMAL = r"9|1[03]|3[2-9]|[4-9]\d|[1-9]\d{2,3}|[1-4]\d{4}|5[0-4]\d{3}|[1-9]\d{5}"
_HEX = r"9|[aAdD]|[2-9a-fA-F][\da-fA-F]|[1-9a-fA-F][\da-fA-F]{2}|[1-9a-cA-C][\da-fA-F]{3}|1[\da-fA-F]{4}"
_REFERENCE = rf"&(?:amp|lt|gt|quot|apos|#(?:{_DECIMAL})|#x(?:{_HEX}));"
_NONCHARACTER = r"\xef(?:[\x80-\xbe]|\xbf[\x80-\xbd])"  # U+FFFE and U+FFFF are no characters in XML


def _characters(but: str) -> str:
    return rf"[^<&\xef{_CONTROL}{but}]|{_NONCHARACTER}|{_REFERENCE}"


_TEXT = rf"(?:{_characters('')})+"  # "]]>" is counted, not looked for here: a longer automaton is slower
_COMMENT = rf"<!--(?:-?[^-{_CONTROL}])*-->"
_CDATA = rf"<!\[CDATA\[(?:[^\]{_CONTROL}]|\][^\]{_CONTROL}]|\]\]+[^\]>{_CONTROL}])*\]\]+>"
_LETTER = r"""\s<>/:!?="'&;"""  # what is no part of a name
_NO_FIRST = r"0-9.\-"  # what no name begins with
_PREFIX = rf"(?:[^{_LETTER}]+:)?"
_VALUE = rf"""(?:"(?:{_characters('"')})*"|'(?:{_characters("'")})*')"""
_END = r"</[^<>/\"'=]+>"  # xml2arrow checks that it closes what was opened


def is_exact(grammar: str, text: bytes) -> bool:
    """Say whether the whole text is of the grammar, and valid UTF-8."""
    offsets = pa.array([0, len(text)], pa.int64()).buffers()[1]
    buffers = [None, offsets, pa.py_buffer(text)]
    try:
        pa.LargeStringArray.from_buffers(1, offsets, buffers[2]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return bool(
        pc.match_substring_regex(pa.Array.from_buffers(pa.large_binary(), 1, buffers), grammar)[0].as_py()
    )


def grammar_of(mapping: Mapping, parents: Sequence[bytes]) -> str:
    """Return the grammar of pieces between two records; `parents` are the open elements' names as written.

    A piece may close parents and open others of the same names.
    """
    local = [name.encode() for name in mapping.row]
    row = _mapped(mapping, ())
    content = _any_of(_other({local[-1]}), row)
    between, levels = content, [content]
    for name in reversed(local[1:-1]):
        whole = f"<{_PREFIX}{_literal(name)}{_attributes()}(?:/>|>{levels[0]}{_END})"
        levels.insert(0, _any_of(_other({name}), whole))
    between = levels[0]
    for level, parent in zip(levels[1:], parents[1:], strict=True):
        opened = rf"</{_literal(parent)}\s*>{between}<{_literal(parent)}{_attributes()}>"
        between = f"{level}(?:{opened}{level})*"
    return rf"\A{between}\z"


def _any_of(*elements: str) -> str:
    return f"(?:{'|'.join(elements)}|{_TEXT}|{_COMMENT})*"


def _mapped(mapping: Mapping, path: tuple[str, ...]) -> str:
    """Return the pattern of the row, or of an element that contains mapped ones."""
    if path in mapping.texts:
        return _leaves(mapping, [path])
    start = f"<{_PREFIX}{_literal((path or mapping.row)[-1].encode())}{_known_attributes(mapping, path)}"
    below = sorted(
        {f.elements[: len(path) + 1] for f in mapping.fields if f.elements[: len(path)] == path} - {path}
    )
    leaves = [child for child in below if child in mapping.texts]
    children = [_mapped(mapping, child) for child in below if child not in mapping.texts]
    # Leaves with the same attributes share a pattern: compiling it took 6 ms for each piece otherwise.
    for attributes in sorted({_known_attributes(mapping, leaf) for leaf in leaves}):
        alike = [leaf for leaf in leaves if _known_attributes(mapping, leaf) == attributes]
        children.append(_leaves(mapping, alike))
    if mapping.exhaustive:
        content = f"(?:{'|'.join([*children, _COMMENT])}|\\s)*"
    else:
        content = _any_of(_other({child[-1].encode() for child in below}), *children, _CDATA)
    return f"{start}(?:/>|>{content}{_END})"


def _leaves(mapping: Mapping, paths: Sequence[tuple[str, ...]]) -> str:
    """Return the pattern of elements whose text is a column, not empty, and whose attributes are alike."""
    names = "|".join(_literal((path or mapping.row)[-1].encode()) for path in paths)
    text = f"(?:{_COMMENT})*(?:{_TEXT}|{_CDATA})(?:{_TEXT}|{_CDATA}|{_COMMENT})*"
    return f"<{_PREFIX}(?:{names}){_known_attributes(mapping, paths[0])}>{text}{_END}"


def _known_attributes(mapping: Mapping, path: tuple[str, ...]) -> str:
    """Return the pattern of an element's attributes.

    A prefixed attribute with a mapped name is left to the slow way: xml2arrow would join the values.
    """
    names = {name.encode() for name in mapping.attributes(path)}
    known = [_literal(name) for name in sorted(names)]
    if mapping.exhaustive:
        return _attributes("|".join([rf"xmlns(?::[^{_LETTER}]+)?", *known]))
    return _attributes(rf"(?:[^{_LETTER}]+:)?{_complement(names)}" + "".join(f"|{name}" for name in known))


def _attributes(name: str = rf"{_PREFIX}[^{_LETTER}]+") -> str:
    return rf"(?:\s+(?:{name})\s*=\s*{_VALUE})*\s*"


def _other(names: Collection[bytes]) -> str:
    """Return the pattern of an element with a name other than these, and anything below it."""
    content = f"(?:{_TEXT}|{_COMMENT}|{_CDATA})*"
    anything = rf"<{_PREFIX}[^{_LETTER}{_NO_FIRST}][^{_LETTER}]*{_attributes()}"
    for _ in range(DEPTH - 1):
        content = f"(?:{_TEXT}|{_COMMENT}|{_CDATA}|{anything}(?:/>|>{content}{_END}))*"
    return f"<{_PREFIX}{_complement(names)}{_attributes()}(?:/>|>{content}{_END})"


def _complement(names: Collection[bytes]) -> str:
    """Return the pattern of names that are none of these."""
    return _unlike({b"", *names}, _NO_FIRST)


def _unlike(names: Collection[bytes], but: str = "") -> str:
    heads = {name[:1]: {n[1:] for n in names if n[:1] == name[:1]} for name in sorted(names) if name}
    letters = "".join(map(_literal, heads))
    ways = [
        rf"[^{_LETTER}{letters}{but}][^{_LETTER}]*",
        *(_literal(head) + _unlike(rest) for head, rest in heads.items()),
    ]
    return f"(?:{'|'.join(ways)}){'' if b'' in names else '?'}"


def _literal(name: bytes) -> str:
    return "".join(rf"\x{byte:02x}" for byte in name)


def start_tag(name: str) -> str:
    """Return the pattern of the beginning of an element's start tag."""
    return rf"<{_PREFIX}{_literal(name.encode())}[\s/>]"
