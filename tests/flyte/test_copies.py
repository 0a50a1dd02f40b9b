"""Files that an image copies travel with the code, and lie where a container would have them."""

from __future__ import annotations

import tarfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

import flyte
from flyte._declare import no_effect as _no_effect
from flyte._ship import copied
from flyte._ship import deploy as _deploy
from flyte.errors import CodeBundleError, ImageBuildError
from tests.flyte.conftest import Project

BASE = flyte.Image.from_debian_base()


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    for name in ("a.txt", "b.txt", "lib/one.py", "lib/data/x.csv", "lib/__pycache__/one.pyc", "lib/notes.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


def lies(image: flyte.Image) -> list[str]:
    return sorted(copied.of_image(image))


@pytest.mark.parametrize(
    ("target", "place"),
    [
        (".", "a.txt"),
        ("conf/", "conf/a.txt"),
        ("conf/settings.txt", "conf/settings.txt"),
        ("/root", "a.txt"),
        ("/root/conf/", "conf/a.txt"),
    ],
)
def test_a_file_lies_where_a_container_engine_copies_it(files: Path, target: str, place: str) -> None:
    assert lies(BASE.with_source_file(files / "a.txt", target)) == [place]


def test_several_files_come_into_one_folder(files: Path) -> None:
    assert lies(BASE.with_source_file([files / "a.txt", files / "b.txt"], "d")) == ["d/a.txt", "d/b.txt"]
    with pytest.raises(ValueError, match=r"several files are called a\.txt"):
        BASE.with_source_file([files / "a.txt", files / "other" / "a.txt"], "d")


@pytest.mark.parametrize(
    ("target", "contents_only", "folder"),
    [(".", False, "lib/"), (".", True, ""), ("deep/er", False, "deep/er/"), ("/root/lib2", False, "lib2/")],
)
def test_a_folder_comes_itself_or_its_contents(files: Path, target: str, contents_only: bool, folder: str) -> None:
    image = BASE.with_source_folder(files / "lib", target, copy_contents_only=contents_only)
    assert lies(image) == [f"{folder}{name}" for name in ("data/x.csv", "notes.md", "one.py")]


def test_a_dockerignore_leaves_files_out(files: Path) -> None:
    (files / "lib" / ".dockerignore").write_text("# comment\n*.md\ndata\n.dockerignore\n")
    assert lies(BASE.with_source_folder(files / "lib")) == ["lib/one.py"]
    (files / "ignored").write_text("one.py\n.dockerignore\n")
    named = BASE.with_dockerignore(files / "ignored").with_source_folder(files / "lib")
    assert lies(named) == ["lib/data/x.csv", "lib/notes.md"]


def test_a_working_directory_moves_what_is_copied_after_it(files: Path) -> None:
    moved = BASE.with_workdir("/app").with_source_file(files / "a.txt").with_source_file(files / "b.txt", "/app/x/")
    assert lies(moved) == ["a.txt", "x/b.txt"]
    deeper = BASE.with_workdir("sub").with_source_file(files / "a.txt").with_source_file(files / "b.txt", "/root/sub/")
    assert lies(deeper) == ["a.txt", "b.txt"]


def notes(image: flyte.Image) -> list[str]:
    return [note.option for note in _no_effect.of_environment(flyte.TaskEnvironment("e", image=image))]


def test_what_can_only_be_in_a_container_is_named(files: Path) -> None:
    outside = BASE.with_source_file(files / "a.txt", "/etc/a.txt").with_source_file(files / "b.txt")
    (note,) = notes(outside)
    assert f"(`copy {files / 'a.txt'} /etc/a.txt`)" in note
    assert lies(outside) == ["b.txt"]
    assert notes(BASE.with_workdir("/app")) == ["Image.with_workdir() of an absolute path (`workdir /app`)"]
    assert notes(BASE.with_workdir("sub").with_source_folder(files / "lib").with_code_bundle()) == []
    assert len(notes(BASE.with_source_file(files / "a.txt").with_workdir("later"))) == 1


def test_what_does_not_exist_is_named_when_it_is_deployed(files: Path) -> None:
    with pytest.raises(ImageBuildError, match=r"copies the file .*missing\.txt, which does not exist"):
        lies(BASE.with_source_file(files / "missing.txt"))
    with pytest.raises(ImageBuildError, match=r"copies the folder .*a\.txt, which does not exist"):
        lies(BASE.with_source_folder(files / "a.txt"))


PROGRAM = """
    import flyte

    image = flyte.Image.from_debian_base().with_source_file("settings.toml", "conf/").with_source_folder("extra")
    env = flyte.TaskEnvironment("env", image=image)

    @env.task
    def f() -> int:
        return 1
"""


@pytest.fixture
def program(project: Project) -> Any:
    project.write("settings.toml", "a = 1")
    project.write("extra/more.txt", "more")
    return project.load(PROGRAM)


def names(plan: _deploy.Plan) -> list[str]:
    assert plan.bundle is not None
    with tarfile.open(fileobj=BytesIO(plan.bundle.data)) as archive:
        return archive.getnames()


def test_copied_files_are_in_the_bundle_and_part_of_the_version(project: Project, program: Any) -> None:
    before = _deploy.plan([program.env])
    assert names(before) == ["conf/settings.toml", "extra/more.txt", "program.py"]
    project.write("settings.toml", "a = 2222")
    after = _deploy.plan([program.env])
    assert after.request.version != before.request.version
    project.write("extra/another.txt", "")
    assert "extra/another.txt" in names(_deploy.plan([program.env]))
    assert "conf/settings.toml" in names(_deploy.plan([program.env], copy_style="all"))


def test_two_images_that_copy_different_files_to_one_place_are_refused(files: Path, project: Project) -> None:
    one = flyte.TaskEnvironment("one", image=BASE.with_source_file(files / "a.txt", "x.txt"))
    two = flyte.TaskEnvironment("two", image=BASE.with_source_file(files / "b.txt", "x.txt"), depends_on=[one])
    with pytest.raises(CodeBundleError, match=r"two images copy different files to x\.txt"):
        copied.of_environments([one, two])
    (files / "b.txt").write_text("a.txt")
    assert list(copied.of_environments([one, two])) == ["x.txt"]
