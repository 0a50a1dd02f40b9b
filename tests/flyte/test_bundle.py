"""The code that is shipped: the right files, in an archive that is the same for the same code."""

from __future__ import annotations

import hashlib
import importlib
import io
import os
import random
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from flyte._ship import bundle as _bundle
from flyte._ship import ignore as _ignore
from flyte.errors import CodeBundleError

Importer = Callable[[str], object]


def _tree(root: Path, files: dict[str, str]) -> Path:
    """Files below `root`, with their content."""
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "project"
    path.mkdir()
    return path


@pytest.fixture
def load(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Importer]:
    """Import a module of the project; it is forgotten after the test."""
    before = dict(sys.modules)
    monkeypatch.setattr(sys, "path", [str(root), *sys.path])
    importlib.invalidate_caches()
    yield importlib.import_module
    for name in set(sys.modules) - set(before):
        del sys.modules[name]


def _built(root: Path, *include: Path, style: _bundle.CopyStyle = "loaded_modules") -> _bundle.Bundle:
    bundle = _bundle.build(root, style, include)
    assert bundle is not None
    return bundle


def _content(bundle: _bundle.Bundle) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(bundle.data)) as archive:
        members = {member.name: archive.extractfile(member) for member in archive}
        return {name: file.read().decode() for name, file in members.items() if file}


# --- loaded_modules


def test_what_was_imported_is_shipped_and_the_rest_is_not(root: Path, load: Importer) -> None:
    _tree(root, {"main.py": "import package.part\n", "package/part.py": "x = 1\n"})
    _tree(root, {"unused.py": "", "notes.txt": ""})
    (root / "package" / "__init__.py").touch()
    load("main")
    assert _content(_built(root)) == {
        "main.py": "import package.part\n",
        "package/__init__.py": "",
        "package/part.py": "x = 1\n",
    }


def test_what_a_function_will_import_is_shipped_too(root: Path, load: Importer) -> None:
    _tree(root, {"main.py": "def f():\n    from package import late\n    import json, os.path\n"})
    _tree(root, {"package/late.py": "from . import later\nfrom .. import nothing\n", "package/later.py": ""})
    _tree(root, {"package/never.py": ""})
    load("main")
    assert _built(root).names == ("main.py", "package/late.py", "package/later.py")


def test_installed_packages_stay_at_home(root: Path, load: Importer) -> None:
    _tree(root, {"main.py": "import installed, vendored\n"})
    _tree(root / "lib" / "site-packages", {"installed.py": ""})
    _tree(root / "env" / "anywhere", {"vendored.py": ""})
    (root / "env" / "pyvenv.cfg").touch()
    sys.path[1:1] = [str(root / "lib" / "site-packages"), str(root / "env" / "anywhere")]
    load("main")
    bundle = _built(root)
    assert bundle.names == ("main.py",)
    assert bundle.sys_path == ()


def test_ourselves_and_the_standard_library_stay_at_home() -> None:
    names = _bundle.loaded(Path("/"))
    assert not [name for name in names if "src/flyte/" in name or name.endswith("/json/__init__.py")]


def test_folders_of_sys_path_below_the_root_travel_with_their_modules(root: Path, load: Importer) -> None:
    _tree(root, {"src/part.py": "", "other/empty.txt": ""})
    sys.path[1:1] = [str(root / "src"), str(root / "other")]
    load("part")
    bundle = _built(root)
    assert (bundle.names, bundle.sys_path) == (("src/part.py",), ("src",))
    assert _bundle.build(root, "loaded_modules", sync_sys_path=False) is not None


def test_a_script_that_runs_as_main_is_shipped(tmp_path: Path) -> None:
    script = _tree(
        tmp_path,
        {
            "script.py": "import helper\nfrom pathlib import Path\nfrom flyte._ship import bundle as _bundle\n"
            "print(*_bundle.build(Path(__file__).parent).names)\n",
            "helper.py": "",
        },
    )
    source = Path(_bundle.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=script, env={"PYTHONPATH": str(source)}, capture_output=True, text=True
    )
    assert (done.stdout, done.stderr) == ("helper.py script.py\n", "")


def test_included_files_are_shipped(root: Path, load: Importer) -> None:
    _tree(root, {"main.py": "", "data/a.csv": "1", "data/__pycache__/b.pyc": ""})
    load("main")
    included = [path for path in (root / "data").rglob("*") if path.is_file()]
    assert _built(root, *included).names == ("data/a.csv", "main.py")


def test_a_file_outside_the_root_cannot_be_included(root: Path, load: Importer, tmp_path: Path) -> None:
    _tree(root, {"main.py": ""})
    _tree(tmp_path, {"away.csv": ""})
    load("main")
    with pytest.raises(CodeBundleError, match=r"away\.csv is to be included, but it is not below .*project"):
        _built(root, tmp_path / "away.csv")


def test_nothing_to_ship_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CodeBundleError, match="no code to ship below"):
        _built(tmp_path)


# --- all, none


def test_all_ships_the_folder_less_what_is_ignored(root: Path) -> None:
    _tree(root, {"main.py": "", "data/x.csv": "", ".env": "SECRET=1", ".git/config": "", "build/x": "", "a.log": ""})
    _tree(root, {".gitignore": "*.csv\n", ".flyteignore": "private/\n", "private/key": "", "sub/build/kept": ""})
    assert _built(root, style="all").names == (".flyteignore", ".gitignore", "main.py", "sub/build/kept")


def test_all_names_a_module_that_is_imported_and_ignored(
    root: Path, load: Importer, caplog: pytest.LogCaptureFixture
) -> None:
    _tree(
        root,
        {"main.py": "import generated, kept\ndef f():\n    import gen.late\n", "kept.py": "", ".gitignore": "gen*\n"},
    )
    _tree(root, {"generated.py": "", "gen/late.py": "", "genuine.py": ""})
    load("main")
    assert _built(root, style="all").names == (".gitignore", "kept.py", "main.py")
    said = [record.getMessage().partition(": ")[0] for record in caplog.records]
    assert said == [f"{name} is imported and is not shipped" for name in ("gen/late.py", "generated.py")]
    assert 'ignored by .gitignore or .flyteignore; name it in the environment, include=["generated.py"]' in caplog.text
    caplog.clear()
    included = (root / "generated.py", root / "gen" / "late.py")
    assert "generated.py" in _built(root, *included, style="all").names
    assert not caplog.records


def test_all_names_a_module_that_is_imported_through_a_link(
    root: Path, load: Importer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _tree(root, {"main.py": "import linked.part\n"})
    _tree(tmp_path / "elsewhere", {"part.py": ""})
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    load("main")
    assert _built(root, style="all").names == ("main.py",)
    assert "linked/part.py is imported and is not shipped: linked is a link to a folder" in caplog.text
    assert _built(root, root / "linked" / "part.py", style="all").names == ("linked/part.py", "main.py")
    assert _built(root).names == ("linked/part.py", "main.py")


def test_none_ships_nothing(root: Path) -> None:
    assert _bundle.build(root, "none") is None


def test_an_unknown_copy_style_is_refused(root: Path) -> None:
    with pytest.raises(ValueError, match="'some'; it is one of loaded_modules, all, none"):
        _bundle.build(root, "some")  # type: ignore[arg-type]


_PATTERNS = """
# a comment
*.tmp
!kept.tmp
/only-here
folder/
deep/**/leaf
**/anywhere/x
tail/**
[a-c]?.dat
mid/dle
\\#hash
""".lstrip()


def test_patterns_mean_what_git_says_they_mean(tmp_path: Path) -> None:
    names = (
        "a.tmp kept.tmp sub/a.tmp sub/kept.tmp only-here sub/only-here folder/x sub/folder/y file/folder deep/leaf "
        "deep/1/leaf deep/1/2/leaf deep/leaf2 anywhere/x p/anywhere/x p/anywhere/y tail/x tail/y/z sub/tail/x aa.dat "
        "d1.dat b.dat mid/dle sub/mid/dle #hash nested/inner.txt nested/outer.txt nested/deeper/inner.txt"
    )
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / ".gitignore").write_text(_PATTERNS)
    (tmp_path / "nested" / ".gitignore").write_text("/inner.txt\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert list(_ignore.files(tmp_path)) == sorted(listed.stdout.split())


_SEGMENTS = (
    "a",
    "b",
    "ab",
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "a.b",
    "*.b",
    r"\*",
    r"\#h",
    r"\!n",
    "x y",
    r"a\ ",
)
_BROKEN = ("[", "a[", "[]a]", "[!]a]", "[a", "a\\", "!", "/", "//")


def _pattern(chance: random.Random) -> str:
    """A line of an ignore file: some segments, mostly valid, anchored, for folders or negated as it comes."""
    segments = ["**" if chance.random() < 0.2 else "".join(chance.choices(_SEGMENTS, k=chance.choice((1, 1, 2))))]
    segments += [
        "**" if chance.random() < 0.2 else chance.choice(_SEGMENTS) for _ in range(chance.choice((0, 0, 1, 2)))
    ]
    text = chance.choice(_BROKEN) if chance.random() < 0.05 else "/".join(segments)
    return chance.choice(("", "", "!")) + chance.choice(("", "", "/")) + text + chance.choice(("", "", "/", " "))


def test_any_pattern_means_what_git_says_it_means(tmp_path: Path) -> None:
    chance = random.Random(20_261)
    patterns: dict[str, list[str]] = {}
    for case in map(str, range(300)):
        for _ in range(12):
            path = tmp_path.joinpath(case, *chance.choices(("a", "b", "ab", "a.b", "x y", "#h", "!n", "k"), k=3))
            path = path.parents[chance.choice((0, 0, 1))] / "file" if chance.random() < 0.5 else path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        patterns[case] = [_pattern(chance) for _ in range(chance.choice((1, 2, 3, 4)))]
        (tmp_path / case / ".gitignore").write_text("\n".join(patterns[case]) + "\n")
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    command = ["git", "ls-files", "-z", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split("\0")
    different = set(_ignore.files(tmp_path)) ^ set(filter(None, listed))
    assert {case: patterns[case] for case in sorted({name.partition("/")[0] for name in different})} == {}


def test_no_pattern_takes_back_what_is_never_shipped(tmp_path: Path) -> None:
    _tree(tmp_path, {".gitignore": "!*\n", "main.py": "", "__pycache__/main.pyc": "", "notes.log": ""})
    subprocess.run(["git", "init", "-q"], cwd=tmp_path, check=True)
    assert list(_ignore.files(tmp_path)) == [".gitignore", "main.py", "notes.log"]


def test_rules_of_the_repository_above_the_root_count(root: Path, tmp_path: Path) -> None:
    _tree(tmp_path, {".gitignore": "project/secret.txt\n*.bin\n"})
    _tree(root, {"secret.txt": "", "main.py": "", "x.bin": "", "sub/secret.txt": ""})
    (tmp_path / ".git").mkdir()
    assert list(_ignore.files(root)) == ["main.py", "sub/secret.txt"]


def test_shipping_the_home_folder_warns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(_tree(tmp_path / "h", {"main.py": ""})))
    with pytest.warns(UserWarning, match="ships all of"):
        _built(tmp_path / "h", style="all")


# --- the archive


def test_equal_code_makes_equal_bytes_wherever_and_whenever(tmp_path: Path) -> None:
    first, second = (_tree(tmp_path / name, {"b.py": "x = 1\n", "a.py": ""}) for name in ("first", "second"))
    os.utime(second / "a.py", (1, 1))
    (second / "a.py").chmod(0o600)
    one, two = _built(first, style="all"), _built(second, style="all")
    assert one.data == two.data
    assert one.digest == hashlib.sha256(one.data).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(one.data)) as archive:
        assert [(m.name, m.mtime, m.uid, m.mode) for m in archive] == [("a.py", 0, 0, 0o644), ("b.py", 0, 0, 0o644)]


def test_a_changed_file_changes_the_digest(root: Path) -> None:
    _tree(root, {"a.py": "x = 1\n"})
    before = _built(root, style="all").digest
    assert _built(root, style="all").digest == before
    _tree(root, {"a.py": "x = 2\n"})
    os.utime(root / "a.py", ns=(1, 1))
    assert _built(root, style="all").digest != before


def test_what_was_built_is_remembered_until_something_it_is_made_of_changes(root: Path, load: Importer) -> None:
    _tree(
        root, {"main.py": "def f():\n    import later.part\n    from later import other\n", "later/other.py": "x = 1\n"}
    )
    _tree(root, {"notes.txt": "a", "second.py": ""})
    load("main")

    def built(*names: str) -> _bundle.Remembered:
        assert set(_content(_built(root))) == {"main.py", "later/other.py", *names}
        return next(known for (place, *_), known in _bundle._remembered.items() if place == str(root))

    first = built()
    assert built() is first
    (root / "later" / "other.py").write_text("x = 22\n")
    changed = built()
    assert changed.bundle.digest != first.bundle.digest
    assert built() is changed
    (root / "later" / "part.py").write_text("")
    added = built("later/part.py")
    load("second")
    assert built("later/part.py", "second.py") is not added
    (root / "later" / "part.py").unlink()
    built("second.py")


def test_programs_stay_executable(root: Path) -> None:
    _tree(root, {"run.sh": "#!/bin/sh\n"})
    (root / "run.sh").chmod(0o755)
    with tarfile.open(fileobj=io.BytesIO(_built(root, style="all").data)) as archive:
        assert archive.getmember("run.sh").mode == 0o755


def test_too_much_is_refused_with_the_largest_files(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_bundle, "LIMIT", 2**20)
    _tree(root, {"main.py": "", "weights.bin": "x" * 2**21})
    with pytest.raises(CodeBundleError, match=r"2 MiB, the limit 1; .* weights\.bin \(2 MiB\), .*\.flyteignore"):
        _built(root, style="all")


# --- entries


def test_an_entry_must_be_in_the_bundle(root: Path, load: Importer, tmp_path: Path) -> None:
    _tree(root, {"main.py": "", "src/part.py": "", ".gitignore": "hidden.py\n", "hidden.py": ""})
    _tree(tmp_path / "elsewhere", {"away.py": ""})
    sys.path[1:1] = [str(root / "src"), str(tmp_path / "elsewhere")]
    for name in ("main", "part", "away"):
        load(name)
    bundle = _built(root)
    _bundle.require(bundle, root, ["main:task", "part:env", "pytest:installed"])
    with pytest.raises(CodeBundleError, match=r"the module away is at .*away\.py, which is not below .*root_dir"):
        _bundle.require(bundle, root, ["away:task"])
    with pytest.raises(CodeBundleError, match=r"hidden\.py is not shipped: a \.gitignore"):
        _bundle.require(_built(root, style="all"), root, ["hidden:task"])
    with pytest.raises(CodeBundleError, match="the module typed_in is not a file below"):
        _bundle.require(bundle, root, ["typed_in:task"])
