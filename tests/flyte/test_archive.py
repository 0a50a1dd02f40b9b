"""Archives that somebody made by mistake, or to do harm: each is unpacked whole, or refused in words."""

from __future__ import annotations

import errno
import gzip
import io
import random
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte._ship.bundle import pack
from flyte.archive import Limits, unpack
from flyte.errors import CodeBundleError

GOOD = {"main.py": (b"print('hello')\n" * 50, False), "pack/run.sh": (b"#!/bin/sh\n", True), "empty": (b"", False)}


def packed(*members: tarfile.TarInfo, content: bytes = b"") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for member in members:
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def member(name: str, **fields: object) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(entry, field, value)
    return entry


def test_what_was_packed_is_unpacked(tmp_path: Path) -> None:
    unpack(io.BytesIO(pack(GOOD)), tmp_path)
    found = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
    assert {name: (path.read_bytes(), bool(path.stat().st_mode & 0o100)) for name, path in found.items()} == GOOD


def damaged() -> bytes:
    """An archive whose deflate stream is nonsense from the middle of a file on."""
    data = bytearray(pack({"data": (random.Random(1).randbytes(20_000).hex().encode(), False)}))
    data[10_000:10_010] = b"\xff" * 10
    return bytes(data)


def changed() -> bytes:
    """An archive in which bytes of a file are others than were packed."""
    data = bytearray(pack({"data": (random.Random(1).randbytes(20_000), False)}))
    data[10_000:10_010] = b"\xff" * 10
    return bytes(data)


def negative() -> bytes:
    """A member whose length is negative, over which older versions of `tarfile` never get."""
    header = bytearray(member("a").tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"
    header[148:156] = b"%06o\0 " % (sum(header) - sum(header[148:156]) + 8 * 32)
    return gzip.compress(bytes(header) + bytes(1024))


def claims(kind: bytes, length: int) -> bytes:
    """A header of a header that claims a length."""
    return gzip.compress(member("x", type=kind, size=length).tobuf(tarfile.GNU_FORMAT) + bytes(1024))


def chained(count: int) -> bytes:
    """So many headers that each announce another one."""
    return gzip.compress((member("x", type=tarfile.XHDTYPE, size=0).tobuf(tarfile.GNU_FORMAT)) * count)


@pytest.mark.parametrize(
    ("archive", "complaint"),
    [
        (lambda: b"", "is damaged"),
        (lambda: b"not an archive", "is damaged"),
        (lambda: pack(GOOD)[:-40], "is damaged"),
        (damaged, "is damaged"),
        (changed, "is damaged"),
        (negative, "length of|is damaged"),
        (lambda: claims(tarfile.XHDTYPE, 2**40), "claims a length|is damaged"),
        (lambda: claims(tarfile.GNUTYPE_LONGNAME, 2**33), "claims a length|is damaged"),
        (lambda: chained(5000), "is damaged"),
        (lambda: packed(member("a", pax_headers={"path": "a\0b"})), "path of a file"),
        (lambda: packed(member("a", pax_headers={"path": "d/" * 200 + "a"})), "path of a file"),
        (lambda: packed(member("a", type=tarfile.SYMTYPE, linkname="b")), "neither a regular file nor a folder"),
        (lambda: packed(member("a", type=tarfile.LNKTYPE, linkname="b")), "neither a regular file nor a folder"),
        (lambda: packed(member("a", type=tarfile.FIFOTYPE)), "neither a regular file nor a folder"),
        (lambda: packed(member("a", type=tarfile.GNUTYPE_SPARSE)), "neither|is damaged"),
        (
            lambda: packed(member("a", pax_headers={"GNU.sparse.size": str(2**50), "GNU.sparse.map": "0,0"})),
            "neither a regular file nor a folder",
        ),
        (lambda: packed(member("../a")), "outside of it"),
        (lambda: packed(member("/a")), "outside of it"),
        (lambda: packed(member("a"), member("a")), "twice"),
        (lambda: packed(member("a"), member("a/b")), "twice|cannot be"),
    ],
)
def test_an_archive_that_is_damaged_or_made_to_deceive_is_refused_in_words(
    tmp_path: Path, archive: Callable[[], bytes], complaint: str
) -> None:
    with pytest.raises(CodeBundleError, match=complaint):
        unpack(io.BytesIO(archive()), tmp_path)


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_more_bytes_than_the_limit_are_not_written(empty: Path) -> None:
    archive = pack({"a": (bytes(600_000), False), "b": (bytes(600_000), False)})
    with pytest.raises(CodeBundleError, match="more than 1 MiB"):
        unpack(io.BytesIO(archive), empty, Limits(size=2**20))
    assert sum(path.stat().st_size for path in empty.iterdir()) <= 2**20


def test_more_files_than_the_limit_are_not_written(empty: Path) -> None:
    archive = packed(*(member(f"f{number}") for number in range(12)))
    with pytest.raises(CodeBundleError, match="more than 10 files"):
        unpack(io.BytesIO(archive), empty, Limits(files=10))
    assert len(list(empty.iterdir())) == 10


def mutated(chance: random.Random, good: bytes) -> bytes:
    """The archive with a few bytes changed, cut out or doubled, before or after it was compressed."""
    inside = chance.random() < 0.5
    data = bytearray(gzip.decompress(good) if inside else good)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data))
        match chance.randrange(4):
            case 0:
                data[at] = chance.randrange(256)
            case 1:
                del data[at : at + chance.randint(1, 600)]
            case 2:
                data[at:at] = data[at : at + 512]
            case _:
                data[at : at + 8] = chance.choice((b"\xff" * 8, b"\x80" + bytes(7), b"99999999", bytes(8)))
        if not data:
            break
    return gzip.compress(bytes(data), compresslevel=1) if inside else bytes(data)


def test_no_mutation_of_an_archive_raises_anything_else_or_leaves_its_folder(tmp_path: Path) -> None:
    chance = random.Random(20_261_129)
    good = [
        pack({"a/b.py": (b"x = 1\n" * 20, False), "c.sh": (b"#!", True)}),
        packed(
            member("n" * 180, size=3, pax_headers={"comment": "ä" * 40}),
            member("d", type=tarfile.DIRTYPE),
            content=b"abc",
        ),
    ]
    before, refused, numbers = {*tmp_path.iterdir()}, 0, set[int | None]()
    for number in range(3000):
        folder = tmp_path / "in" / str(number)
        folder.mkdir(parents=True)
        try:
            unpack(io.BytesIO(mutated(chance, good[number % 2])), folder, Limits(size=2**20, files=100))
        except CodeBundleError:
            refused += 1
        except OSError as error:  # a name that the file system does not take
            numbers.add(error.errno)
        assert not [path for path in folder.rglob("*") if path.is_symlink()]
    assert refused > 1000
    assert numbers <= {errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG, errno.EILSEQ}
    assert {*tmp_path.iterdir()} - before == {tmp_path / "in"}
