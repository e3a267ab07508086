from __future__ import annotations

import gzip
import io
import os
import random
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from adaptive.errors import SourceError, UsageError
from adaptive.sources.files import Input, expand, open_input, pieces, size

Compress = Callable[[bytes], bytes]
TEXT = b"".join(b"%d,%d\n" % (n, random.Random(n).getrandbits(200)) for n in range(40_000))


def zstd(content: bytes) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


def everything(source: Input, block: int = 1 << 20) -> bytes:
    return b"".join(iter(lambda: source.read(block), b""))


def stored(folder: Path, content: bytes) -> str:
    path = folder / "input"
    path.write_bytes(content)
    return str(path)


def read(folder: Path, content: bytes, block: int = 1 << 20) -> tuple[bytes, str | None]:
    with open_input(stored(folder, content)) as source:
        return everything(source, block), str(source.error) if source.error else None


def test_patterns_give_sorted_files_and_each_file_once(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "deep/er/c.csv", "d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = expand([f"{tmp_path}/b.csv", f"{tmp_path}/*.csv", f"{tmp_path}/**/*.csv", "-", "-"])
    assert [os.path.relpath(path, tmp_path) for path in found[:3]] == ["b.csv", "a.csv", "deep/er/c.csv"]
    assert found[3:] == ["-"]


def test_a_name_that_exists_is_no_pattern(tmp_path: Path) -> None:
    (tmp_path / "a[1].csv").touch()
    (tmp_path / "a1.csv").touch()
    assert expand([f"{tmp_path}/a[1].csv"]) == [f"{tmp_path}/a[1].csv"]


@pytest.mark.parametrize(("name", "reason"), [
    ("gone.csv", "no such file"), ("*.gone", "no file matches"),
    ("", "directory"), ("dangling*", "no such file"),
])  # fmt: skip
def test_what_cannot_be_read_is_refused_by_name(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(UsageError, match=reason) as refused:
        expand([str(tmp_path / name)])
    assert str(tmp_path) in str(refused.value)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_an_unreadable_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").touch(mode=0)
    with pytest.raises(UsageError, match="secret: no permission"):
        expand([str(tmp_path / "secret")])


def test_a_pattern_does_not_open_pipes_and_devices(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.csv")
    with pytest.raises(UsageError, match=r"a.csv: this is no regular file"):
        expand([f"{tmp_path}/*.csv"])
    assert expand([f"{tmp_path}/a.csv"]) == [f"{tmp_path}/a.csv"]


def test_size_is_that_of_the_stored_file_and_unknown_for_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert size(stored(tmp_path, b"12345")) == 5
    assert size(str(tmp_path / "pipe")) is None
    assert size("-") is None


@pytest.mark.parametrize("block", [1, 100, 1 << 20])
@pytest.mark.parametrize("content", [b"", b"a", b"a\n", TEXT[:3000]], ids=["empty", "byte", "line", "lines"])
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_contents_are_read_whatever_the_compression(
    tmp_path: Path, compress: Compress, content: bytes, block: int
) -> None:
    assert read(tmp_path, compress(content), block) == (content, None)


@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstd], ids=["plain", "gzip", "zstd"])
def test_standard_input_is_decompressed_and_left_open(
    compress: Compress, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.BytesIO(compress(TEXT))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(stream))
    with open_input("-") as source:
        assert everything(source) == TEXT
    assert not stream.closed


def test_consumed_counts_the_bytes_of_the_stored_file(tmp_path: Path) -> None:
    content = gzip.compress(TEXT)
    with open_input(stored(tmp_path, content)) as source:
        assert source.consumed == 0
        source.read(10)
        assert 0 < source.consumed < len(content)
        everything(source)
        assert source.consumed == len(content)


def test_gzip_of_several_members_and_zeros_between_is_one_text(tmp_path: Path) -> None:
    member = gzip.compress(TEXT)
    assert read(tmp_path, member + bytes(1000) + member + gzip.compress(b"") + bytes(3)) == (TEXT * 2, None)


SKIPPED = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"  # a frame that holds no content


@pytest.mark.parametrize(
    ("frames", "times"),
    [
        ([zstd(TEXT), zstd(TEXT)], 2),
        ([zstd(b""), zstd(TEXT), zstd(b""), zstd(TEXT), zstd(b"")], 2),
        ([SKIPPED, zstd(TEXT), SKIPPED, zstd(TEXT), SKIPPED], 2),
        ([zstd(b"")], 0),
        ([SKIPPED], 0),
    ],
    ids=["two", "empty ones", "skippable ones", "empty", "skippable"],
)
def test_zstandard_of_several_frames_is_one_text(tmp_path: Path, frames: list[bytes], times: int) -> None:
    assert read(tmp_path, b"".join(frames)) == (TEXT * times, None)


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_many_small_members_are_one_text(tmp_path: Path, compress: Compress) -> None:
    lines = [b"%d\n" % number for number in range(3_000)]
    assert read(tmp_path, b"".join(map(compress, lines))) == (b"".join(lines), None)
    assert read(tmp_path, compress(b"") * 3_000) == (b"", None)


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_an_archive_within_an_archive_is_content(tmp_path: Path, compress: Compress) -> None:
    inner = compress(TEXT)  # once: gzip writes the time into it
    assert read(tmp_path, compress(inner)) == (inner, None)


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_a_highly_compressed_file_is_read_in_bounded_blocks(tmp_path: Path, compress: Compress) -> None:
    with open_input(stored(tmp_path, compress(bytes(50_000_000)))) as source:
        blocks = [len(block) for block in iter(lambda: source.read(1 << 40), b"")]
    assert sum(blocks) == 50_000_000
    assert max(blocks) <= 8 << 20


@pytest.mark.parametrize("compress", [gzip.compress, zstd], ids=["gzip", "zstd"])
def test_all_before_the_cut_of_a_truncated_archive_is_read(tmp_path: Path, compress: Compress) -> None:
    cut = compress(TEXT)[:-100_000]
    content, error = read(tmp_path, cut)
    assert TEXT.startswith(content)
    assert len(TEXT) - len(content) < 400_000
    assert f"{tmp_path}/input: broken off after byte {len(cut):,} of the file" in str(error)


@given(st.integers(0, 2000))
def test_a_gzip_file_cut_anywhere_gives_its_beginning_and_an_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    whole = gzip.compress(TEXT[:3000])
    content, error = read(tmp_path_factory.getbasetemp(), whole[: min(cut, len(whole))])
    assert TEXT[:3000].startswith(content) or cut < 2
    assert (error is None) == (cut >= len(whole) or cut < 2)


@given(st.integers(0, 2000))
def test_a_zstandard_file_cut_anywhere_gives_its_beginning_and_an_error(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    begin, end = TEXT[:1000], zstd(TEXT[1000:3000])
    whole = zstd(begin) + end
    cut = max(cut, len(whole) - len(end))
    content, error = read(tmp_path_factory.getbasetemp(), whole[:cut])
    assert content.startswith(begin)
    assert TEXT[:3000].startswith(content)
    assert (error is None) == (cut >= len(whole) or cut == len(whole) - len(end))


def test_a_wrong_checksum_of_zstandard_loses_nothing(tmp_path: Path) -> None:
    # By the format's specification (RFC 8878): one segment with a checksum, its size, one raw block, 4 bytes.
    text = TEXT[:200]
    size_and_last = (len(text) << 3 | 1).to_bytes(3, "little")
    frame = b"\x28\xb5\x2f\xfd\x24" + bytes([len(text)]) + size_and_last + text + b"oops"
    content, error = read(tmp_path, zstd(TEXT) + frame)
    assert content == TEXT + text
    assert "doesn't match checksum" in str(error)


def test_a_wrong_checksum_loses_nothing(tmp_path: Path) -> None:
    damaged = bytearray(gzip.compress(TEXT))
    damaged[-5] ^= 1
    content, error = read(tmp_path, bytes(damaged))
    assert content == TEXT
    assert "incorrect data check" in str(error)


@pytest.mark.parametrize(
    ("compress", "said"),
    [(gzip.compress, "incorrect header check"), (zstd, "Unknown frame descriptor")],
    ids=["gzip", "zstd"],
)
def test_what_precedes_garbage_between_members_is_read(tmp_path: Path, compress: Compress, said: str) -> None:
    content, error = read(tmp_path, compress(TEXT) + b"garbage")
    assert content == TEXT
    assert said in str(error)


def test_a_failing_device_ends_the_input_with_its_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(io.BytesIO):
        def read1(self, size: int | None = -1, /) -> bytes:
            if self.tell() >= 6:
                raise OSError(5, "Input/output error")
            return super().read1(min(size or 0, 6 - self.tell()))

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(Failing(b"a\nb\nc\nd\n")))
    with open_input("-") as source:
        assert everything(source) == b"a\nb\nc\n"
        assert str(source.error) == "standard input: broken off after byte 6 of the file: Input/output error"


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="gone: No such file"):
        open_input(str(tmp_path / "gone"))


@given(
    st.lists(st.text("a,\r ", max_size=20).map(str.encode), max_size=30),
    st.integers(1, 60),
)
def test_pieces_hold_whole_lines_and_know_their_numbers(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], size: int
) -> None:
    path = stored(tmp_path_factory.getbasetemp(), b"\n".join(lines))
    with open_input(path) as source:
        cut = list(pieces(source, size, 1 << 20))
    assert b"".join(piece for piece, _ in cut) == b"\n".join(lines)
    assert all(piece.endswith(b"\n") for piece, _ in cut[:-1])
    assert [line for _, line in cut] == [
        1 + b"".join(p for p, _ in cut[:n]).count(b"\n") for n in range(len(cut))
    ]


def test_a_line_longer_than_a_piece_makes_a_longer_piece(tmp_path: Path) -> None:
    text = b"a\n" + b"x" * 3_000_000 + b"\nb\n"
    with open_input(stored(tmp_path, text)) as source:
        assert b"".join(piece for piece, _ in pieces(source, 100_000, 4 << 20)) == text


def test_a_line_without_end_stops_the_input(tmp_path: Path) -> None:
    with open_input(stored(tmp_path, b"a\n" + bytes(2 << 20))) as source:
        cut = pieces(source, 1000, 1 << 20)
        assert next(cut) == (b"a\n", 1)
        with pytest.raises(SourceError, match="line 2 is longer than 1 MB"):
            next(cut)


def test_the_line_that_a_break_cut_through_is_left_out(tmp_path: Path) -> None:
    with open_input(stored(tmp_path, gzip.compress(b"a\nb\nc")[:-8])) as source:
        cut = pieces(source, 1000, 1 << 20)
        assert next(cut) == (b"a\nb\n", 1)
        with pytest.raises(SourceError, match="cut off"):
            next(cut)
