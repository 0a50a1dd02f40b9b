"""Files, folders and data frames as inputs, named by a path as any other command takes one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flyte.cli import paths
from tests.flyte.cli_world import Said, Shell
from tests.flyte.conftest import Project
from tests.flyte.fake_platform import FakePlatform

PROGRAM = """
    import flyte
    import pathlib
    import pandas
    from flyte.io import Dir, File

    env = flyte.TaskEnvironment(name="paths")

    @env.task
    def read(f: File, more: list[File] = [], named: dict[str, File] = {}, maybe: File | None = None) -> list[str]:
        files = [f, *more, *named.values(), *([maybe] if maybe else [])]
        return [pathlib.Path(file).read_text() for file in files]

    @env.task
    def names(d: Dir) -> list[str]:
        return sorted(file.name for file in d.walk_sync())

    @env.task
    def total(df: pandas.DataFrame) -> int:
        return int(df["x"].sum())

    @env.task
    def table(rows: int) -> pandas.DataFrame:
        return pandas.DataFrame({"x": range(rows), "word": ["w"] * rows})
"""


@pytest.fixture
def program(project: Project) -> Project:
    project.write("prog.py", PROGRAM)
    project.write("f.txt", "hello")
    project.write("g.txt", "more")
    project.write("data/a.txt", "a")
    project.write("data/b.txt", "b")
    return project


def result(done: Said) -> object:
    assert done.code == 0, done.err
    return json.loads(done.out)


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        (["--f", "f.txt"], ["hello"]),
        (["--f", "./f.txt"], ["hello"]),
        (["--f", '"f.txt"'], ["hello"]),
        (["--f", '{"path": "f.txt", "format": "txt"}'], ["hello"]),
        (["--f", "f.txt", "--more", "g.txt", "--more", "f.txt"], ["hello", "more", "hello"]),
        (["--f", "f.txt", "--more", '["g.txt"]'], ["hello", "more"]),
        (["--f", "f.txt", "--named", '{"a": "g.txt"}'], ["hello", "more"]),
        (["--f", "f.txt", "--maybe", "g.txt"], ["hello", "more"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_a_file_is_given_by_its_path(shell: Shell, program: Project, words: list[str], texts: list[str]) -> None:
    assert result(shell("run", "--local", "prog.py", "read", *words)) == texts


def test_a_folder_is_given_by_its_path(shell: Shell, program: Project) -> None:
    assert result(shell("run", "--local", "prog.py", "names", "--d", "data")) == ["a.txt", "b.txt"]


def test_a_whole_path_and_one_with_a_tilde_are_paths_too(shell: Shell, program: Project) -> None:
    (Path.home() / "at-home.txt").write_text("home")
    words = ["--f", str(Path("f.txt").absolute()), "--more", "~/at-home.txt"]
    assert result(shell("run", "--local", "prog.py", "read", *words)) == ["hello", "home"]


@pytest.mark.parametrize("suffix", ["csv", "tsv", "parquet", "json"])
def test_a_data_frame_is_read_from_a_file(shell: Shell, program: Project, suffix: str) -> None:
    import pandas  # type: ignore[import-untyped, unused-ignore]

    frame = pandas.DataFrame({"x": [1, 2], "word": ["a", "b"]})
    file = Path(f"t.{suffix}")
    write = {
        "csv": lambda: frame.to_csv(file, index=False),
        "tsv": lambda: frame.to_csv(file, index=False, sep="\t"),
        "parquet": lambda: frame.to_parquet(file),
        "json": lambda: frame.to_json(file, orient="records"),
    }
    write[suffix]()
    assert result(shell("run", "--local", "prog.py", "total", "--df", file)) == 3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["read", "--f", "nowhere.txt"], "there is no file"),
        (["read", "--f", "data"], "is a folder"),
        (["read", "--f", '"nowhere.txt"'], "there is no file"),
        (["read", "--f", "f.txt", "--named", '{"a": "nowhere.txt"}'], "there is no file"),
        (["read", "--f", '{"path": '], "JSON"),
        (["names", "--d", "f.txt"], "is not a folder"),
        (["total", "--df", "f.txt"], ".parquet, .csv, .tsv or .json"),
        (["total", "--df", "nowhere.csv"], "nowhere.csv"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_path_that_will_not_do_is_refused_before_anything_starts(
    shell: Shell, fake: FakePlatform, program: Project, words: list[str], message: str
) -> None:
    done = shell("run", "prog.py", *words)
    assert done.code == 2
    assert message in done.err
    assert not fake.requests


def test_a_file_is_sent_to_a_platform_of_another_machine(shell: Shell, fake: FakePlatform, program: Project) -> None:
    fake.functions["paths.read"] = lambda **inputs: inputs
    sent = result(shell("run", "prog.py", "read", "--f", "f.txt", "--more", "g.txt"))
    assert isinstance(sent, dict)
    addresses = [sent["f"], *sent["more"]]
    assert [address.rpartition("/")[2] for address in addresses] == ["f.txt", "g.txt"]
    assert {fake.blobs[address.split("/")[2]] for address in addresses} == {b"hello", b"more"}


def test_what_lies_elsewhere_stays_as_it_is() -> None:
    schema = {"type": ["string", "object"], "format": "file"}
    for word in ("https://example.org/f.txt", '"/data/f.txt"', '{"path": "/data/f.txt"}'):
        value = paths.from_word(word, schema)
        assert value == (json.loads(word) if word[0] in '"{' else word)


def test_a_data_frame_is_printed_as_a_table(shell: Shell, program: Project) -> None:
    done = shell("run", "--local", "prog.py", "table", "--rows", "1000")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[0].split() == ["x", "word"]
    assert lines[3].split() == ["2", "2", "w"]
    assert len(lines) < 15
    assert "1,000 rows" in done.out


def test_a_data_frame_for_a_program_is_the_whole_of_it(shell: Shell, program: Project) -> None:
    done = shell("run", "--local", "prog.py", "table", "--rows", "3", "-o", "json")
    assert list(json.loads(done.out)["outputs"][0]) == ["$parquet"]
