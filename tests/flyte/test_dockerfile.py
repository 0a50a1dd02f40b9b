"""An image as a Dockerfile: every layer in its order, and nothing that a builder would read otherwise."""

from __future__ import annotations

from pathlib import Path

import pytest

import flyte
import flyte.app
from flyte._ship.dockerfile import Rendered, render
from flyte.errors import ImageBuildError

INSTALL = 'uv pip install --python "$(command -v python)"'


def rendered(image: flyte.Image | str, root: Path) -> Rendered:
    return render(flyte.TaskEnvironment("cows", image=image, env_vars={"LAST": "1"}), root)


def text_of(image: flyte.Image | str, root: Path) -> list[str]:
    """The lines after what every Dockerfile begins with."""
    lines = rendered(image, root).text.splitlines()
    last = next(at for at, line in enumerate(lines) if line.startswith(f"RUN {INSTALL} 'msgspec"))
    return lines[last + 1 :]


def test_every_layer_is_there_in_its_order(tmp_path: Path) -> None:
    image = (
        flyte.Image.from_debian_base(python_version=(3, 12))
        .with_apt_packages("git", "ffmpeg")
        .with_pip_packages("cow>=1", "milk[fat]==2 ; python_version > '3'", pre=True)
        .with_commands(["echo 'moo' > /x\ncat /x"])
        .with_workdir("stable")
        .with_env_vars({"GREETING": 'it\'s "fine" $HOME'})
    )
    assert text_of(image, tmp_path) == [
        "RUN apt-get update \\",
        " && apt-get install -y --no-install-recommends git ffmpeg \\",
        " && rm -rf /var/lib/apt/lists/*",
        """RUN printf '%s\\n' 'cow>=1' 'milk[fat]==2 ; python_version > '"'"'3'"'"'' > /tmp/requirements.txt""",
        f"RUN {INSTALL} --excludes /opt/flyte/excludes.txt --prerelease allow -r /tmp/requirements.txt",
        r"""RUN ["/bin/sh", "-c", "echo 'moo' > /x\ncat /x"]""",
        "WORKDIR stable",
        r'ENV GREETING="it\'s \"fine\" \$HOME"'.replace("\\'", "'"),
        'ENV LAST="1"',
    ]


def test_it_starts_from_what_the_image_starts_from(tmp_path: Path) -> None:
    def first(image: flyte.Image | str) -> str:
        return rendered(image, tmp_path).text.splitlines()[0]

    assert first(flyte.Image.from_debian_base(python_version=(3, 13))) == "FROM python:3.13-slim-bookworm"
    assert first(flyte.Image.from_base("place/cow:1")) == "FROM place/cow:1"
    assert first("place/cow:2") == "FROM place/cow:2"


def test_a_secret_is_read_from_the_builders_mount_and_stands_nowhere(tmp_path: Path) -> None:
    image = flyte.Image.from_debian_base().with_pip_packages(
        "cow", index_url="https://me:$TOKEN@index/simple", secret_mounts="token"
    )
    lines = "\n".join(text_of(image, tmp_path))
    assert "'--index-url https://me:${TOKEN}@index/simple'" in lines
    assert 'RUN --mount=type=secret,id=TOKEN export TOKEN="$(cat /run/secrets/TOKEN)"' in lines


def test_what_it_copies_lies_in_the_context(tmp_path: Path) -> None:
    (tmp_path / "data" / "deep").mkdir(parents=True)
    (tmp_path / "data" / "deep" / "b.txt").write_text("b")
    (tmp_path / "a.txt").write_text("a")
    image = (
        flyte.Image.from_debian_base()
        .with_source_file(tmp_path / "a.txt", "/etc/a.conf")
        .with_source_folder(tmp_path / "data")
    )
    made = rendered(image, tmp_path)
    assert 'COPY ["files/0-0/a.txt", "/etc/a.conf"]' in made.text
    assert 'COPY ["files/1-0/", "/root/data/"]' in made.text
    made.write(tmp_path / "context")
    assert (tmp_path / "context" / "files" / "0-0" / "a.txt").read_text() == "a"
    assert (tmp_path / "context" / "files" / "1-0" / "deep" / "b.txt").read_text() == "b"
    assert (tmp_path / "context" / "ours" / "flyte" / "__init__.py").exists()
    assert (tmp_path / "context" / "Dockerfile").read_text() == made.text


def test_an_app_has_its_command_and_port(tmp_path: Path) -> None:
    app = flyte.app.AppEnvironment(name="moo", args="python -m http.server 8081", port=8081)
    lines = render(app, tmp_path).text.splitlines()
    assert lines[-2:] == ["EXPOSE 8081", 'CMD ["python", "-m", "http.server", "8081"]']


def test_a_dockerfile_of_ones_own_is_that_file(tmp_path: Path) -> None:
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch\n")
    assert rendered(flyte.Image.from_dockerfile(file), tmp_path).text == "FROM scratch\n"


def test_what_a_dockerfile_cannot_say_is_refused(tmp_path: Path) -> None:
    base = flyte.Image.from_debian_base()
    with pytest.raises(ImageBuildError, match="conda packages"):
        rendered(base.with_pixi_project("pixi.toml"), tmp_path)
    with pytest.raises(ImageBuildError, match="LINES has several lines"):
        rendered(base.with_env_vars({"LINES": "a\nb"}), tmp_path)
    with pytest.raises(ImageBuildError, match=r"absent\.txt, which does not exist"):
        rendered(base.with_requirements("absent.txt"), tmp_path)
    with pytest.raises(ImageBuildError, match="does not exist"):
        rendered(base.with_source_file(tmp_path / "absent"), tmp_path)
