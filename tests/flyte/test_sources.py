"""What an import has read is recorded, and a change to it is noticed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from flyte.runtime import loader
from flyte.runtime.sources import Sources

pytestmark = pytest.mark.filterwarnings("ignore:Exception ignored:pytest.PytestUnraisableExceptionWarning")
"""The programs here close no file."""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """On the path, and forgotten afterwards."""
    before, modules = list(sys.path), set(sys.modules)
    sys.path.insert(0, str(tmp_path))
    yield tmp_path
    sys.path[:] = before
    for name in set(sys.modules) - modules:
        del sys.modules[name]


def read(folder: Path, program: str, shipped: str | None = None) -> Sources:
    """What the import of `program` has read."""
    file = folder / "module_that_reads.py"
    if not file.exists():
        file.write_text(program)
    sources = Sources()
    with sources.watched():
        loader.import_modules(["module_that_reads"])
    sources.close(shipped)
    return sources


@pytest.mark.parametrize(
    "program",
    [
        "open(FILE).read()",
        "open(file=FILE).read()",
        "import io; io.open(FILE, 'rb').read()",
        "import pathlib; pathlib.Path(FILE).read_text()",
        "import pathlib; pathlib.Path(FILE).open().close()",
        "import os; os.chdir(os.path.dirname(FILE)); open('file').read()",
        "import os; open(os.fsencode(FILE)).read()",
        "import configparser; configparser.ConfigParser().read(FILE)",
        "import runpy; runpy.run_path(FILE)",
        "import importlib.util as u; s = u.spec_from_file_location('other', FILE + '.py'); s.loader.exec_module("
        "u.module_from_spec(s))",
    ],
)
def test_a_file_that_a_module_reads_has_changed(folder: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    for file in (folder / "file", folder / "file.py"):
        file.write_text("# 1")
    sources = read(folder, f"FILE = {str(folder / 'file')!r}\n{program}\n")
    assert sources.outdated() == ""
    for file in (folder / "file", folder / "file.py"):
        file.write_text("# 12")
    assert sources.outdated().startswith(f"{folder / 'file'}")


def test_so_has_a_module_whether_or_not_it_was_compiled_before(folder: Path) -> None:
    (folder / "below").mkdir()
    module = folder / "below" / "module.py"
    for text in ("x = 1", "x = 12", "x = 123"):
        module.write_text(text)
        sources = read(folder, "from below import module\n")
        assert sources.outdated() == ""
        for name in ("below.module", "below", "module_that_reads"):
            del sys.modules[name]
        again = read(folder, "from below import module\n")
        assert again.outdated() == ""
        module.write_text(text + " ")
        assert sources.outdated() == again.outdated() == f"{module} has changed"
        for name in ("below.module", "below", "module_that_reads"):
            del sys.modules[name]


def test_a_file_that_was_not_there_is_missed_when_it_comes_and_one_that_was_when_it_goes(folder: Path) -> None:
    (folder / "there").touch()
    sources = read(
        folder,
        f"for name in ('there', 'missing'):\n    try: open({str(folder)!r} + '/' + name)\n"
        "    except FileNotFoundError: pass\n",
    )
    assert sources.outdated() == ""
    (folder / "missing").touch()
    assert sources.outdated() == f"{folder / 'missing'} has changed"
    (folder / "missing").unlink()
    (folder / "there").unlink()
    assert sources.outdated() == f"{folder / 'there'} has changed"


def test_what_the_import_writes_and_what_is_shipped_does_not_count(folder: Path) -> None:
    code = folder / "code"
    code.mkdir()
    sources = read(
        folder,
        f"open({str(folder)!r} + '/written', 'w').write('1')\nopen({str(folder)!r} + '/written').read()\n"
        f"try: open({str(code)!r} + '/shipped')\nexcept FileNotFoundError: pass\n",
        str(code),
    )
    for file in (folder / "written", code / "shipped"):
        file.write_text("another")
    assert sources.outdated() == ""


def test_a_package_that_is_installed_counts(folder: Path) -> None:
    installed = folder / "site-packages"
    installed.mkdir()
    sources = read(folder, f"import sys\nsys.path.append({str(installed)!r})\n")
    assert sources.outdated() == ""
    (installed / "new.py").touch()
    assert sources.outdated() == f"{installed} has changed"


def test_an_import_has_a_greatest_age(folder: Path) -> None:
    sources = read(folder, "")
    assert sources.outdated(age=3600) == ""
    sources.since -= 3601
    assert sources.outdated(age=3600) == "it was imported 3601 s ago"
    assert sources.outdated(age=0) == ""


def test_programs_see_no_difference(folder: Path) -> None:
    """`open` as an attribute of a class stays a function, errors are those of `open`, numbers and odd names work."""
    import io

    real = open
    program = """
import os, sys
class Own:
    open = open
try:
    open(object())
except TypeError as error:
    said = str(error)
file = os.path.join(os.path.dirname(__file__), "module_that_reads.py")
text = Own().open(file, "r", encoding="utf-8").read()
with open(os.open(file, os.O_RDONLY)) as opened:
    same = opened.read() == text
try:
    open("/no/\\udcff/such")
except FileNotFoundError:
    missing = True
try:
    open("a\\0b")
except ValueError:
    null = True
kept = open
"""
    sources = read(folder, program)
    module = sys.modules["module_that_reads"]
    assert module.said == "expected str, bytes or os.PathLike object, not object"
    assert [module.same, module.missing, module.null] == [True] * 3
    assert sources.outdated() == ""
    assert (open, io.open) == (real, real)
    files = dict(sources.files)
    with module.kept(os.devnull):
        pass
    assert sources.files == files
