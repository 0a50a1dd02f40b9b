"""An image as a Dockerfile, for an engine that builds containers: every layer in its order, those included that an
environment of the platform cannot hold.

The text needs no builder's extensions: neither here-documents nor cache mounts. What it copies lies beside it.
"""

from __future__ import annotations

import json
import posixpath
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flyte import distributions, wire
from flyte._declare import copies
from flyte._declare.copies import WORKDIR
from flyte._declare.environment import Environment
from flyte._declare.image import Image
from flyte._declare.layer import Layer
from flyte._ship import containers, copied
from flyte.errors import ImageBuildError

BASE = "python:{}.{}-slim-bookworm"
"""What `from_debian_base` is, by the version of Python."""

OURS = "/opt/flyte/ours"
"""Our own package; a .pth file leads there."""

_LEAD = (
    "import pathlib, sysconfig; "
    f"pathlib.Path(sysconfig.get_path('purelib'), 'zz_flyte_platform.pth').write_text('{OURS}')"
)

_INSTALL = 'uv pip install --python "$(command -v python)"'
"""Into the Python that the base puts first, also where that is a virtual environment."""

_FILES = {
    "-i": "--index-url",
    "--index-url": "--index-url",
    "--default-index": "--index-url",
    "--index": "--extra-index-url",
    "--extra-index-url": "--extra-index-url",
    "-f": "--find-links",
    "--find-links": "--find-links",
}
"""Options for places, which stand in the file of requirements: there a secret is replaced and not shown."""

_OTHER_NAMES = {"--pre": "--prerelease=allow", "--trusted-host": "--allow-insecure-host"}


@dataclass(frozen=True, slots=True)
class Rendered:
    """`text` is the Dockerfile; `files` is what it copies, by the path in the build's context."""

    text: str
    files: dict[str, Path] = field(default_factory=dict)

    def write(self, folder: Path) -> None:
        """Make the context of a build: the Dockerfile with everything that it copies. Raises OSError."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in self.files.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
        (folder / "Dockerfile").write_text(self.text)


def render(env: Environment, root: Path) -> Rendered:
    """The Dockerfile for `env`, whose code lies below `root`.

    Raises ImageBuildError for what no Dockerfile can say: conda packages, a name of the config file, a file that is
    not there.
    """
    image = containers.image_of(env)
    if image.dockerfile is not None:
        return _of_a_dockerfile(image.dockerfile)
    spec = env.spec(root)
    app = spec if isinstance(spec, wire.AppSpec) else None
    steps = [*_beginning(image), *_ours(image, is_app=app is not None)]
    files = {f"ours/{name}": file for name, file in _our_files().items()}
    for number, layer in enumerate(image.layers):
        lines, more = _step(layer, number, image, root)
        steps += lines
        files |= more
    variables = (app.environment if app is not None else spec).env_vars
    steps += [*_variables(variables), *_command(app)]
    return Rendered("\n".join(steps) + "\n", files)


def _of_a_dockerfile(file: Path) -> Rendered:
    """The user's own; what it copies lies where the user has it."""
    if not file.is_file():
        raise ImageBuildError(f"the image is made by {file}, which does not exist in {Path.cwd()}")
    return Rendered(file.read_text())


def _beginning(image: Image) -> list[str]:
    if image.ref_name:
        raise ImageBuildError(
            f"the image is {image.ref_name!r} of the config file; a Dockerfile starts from an address"
        )
    minor = image.python_version or (sys.version_info.major, sys.version_info.minor)
    return [
        f"FROM {image.base_image or BASE.format(*minor)}",
        "ENV PYTHONUNBUFFERED=1 UV_BREAK_SYSTEM_PACKAGES=1 UV_SYSTEM_CERTS=1 UV_NO_CACHE=1",
        f"WORKDIR {WORKDIR}",
    ]


def _ours(image: Image, is_app: bool) -> list[str]:
    """Our package, and what a worker needs: before the layers of the user, whose versions then replace these."""
    apps = distributions.FOR_APPS if is_app else ()
    courtesy = distributions.COURTESY if image.install_flyte else ()
    needs = [*distributions.MUST, *distributions.SHOULD, *apps, *courtesy]
    return [
        f'COPY ["ours/", "{OURS}/"]',
        f"RUN (command -v uv || pip install 'uv>=0.11') && python -c {shlex.quote(_LEAD)}",
        _file("/opt/flyte/excludes.txt", distributions.NEVER_INSTALLED),
        _run([f"{_INSTALL} {shlex.join(needs)}"]),
    ]


def _our_files() -> dict[str, Path]:
    package = Path(distributions.__file__).parent
    found = sorted(file for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts)
    return {f"flyte/{file.relative_to(package)}": file for file in found}


Step = tuple[list[str], Mapping[str, Path]]


def _step(layer: Layer, number: int, image: Image, root: Path) -> Step:
    """The lines of one layer, and the files that they copy."""
    match layer.kind:
        case "pip":
            return list(_packages(layer)), {}
        case "apt":
            names = shlex.join(layer.text.split()[2:])
            install = f"apt-get install -y --no-install-recommends {names}"
            return [_run(["apt-get update", install, "rm -rf /var/lib/apt/lists/*"])], {}
        case "run":
            return [f"RUN {json.dumps(['/bin/sh', '-c', layer.text.removeprefix('run ')])}"], {}
        case "env":
            return _variables(dict(layer.env)), {}
        case "workdir":
            return [f"WORKDIR {layer.target}"], {}
        case "copy":
            return _copies(layer, number, image)
        case "bundle":
            return _code(number, image, root)
        case "pixi":
            raise ImageBuildError(f"{layer.text}: conda packages cannot be installed by a Dockerfile of ours")
    return [], {}


def _packages(layer: Layer) -> Iterator[str]:
    if layer.missing is not None:
        raise ImageBuildError(f"the image takes its packages from {layer.missing}, which does not exist")
    secrets = [secret.env_var for secret in layer.secrets]
    places, options = _apart(layer.arguments)
    requirements = [*places, *layer.packages]
    if not layer.packages:
        return
    named = {"requirements": requirements, "constraints": layer.constraints, "overrides": layer.overrides}
    for name, lines in named.items():
        if lines:
            yield _file(f"/tmp/{name}.txt", [_in_braces(line, secrets) for line in lines])
    more = [f"--{name} /tmp/{name}.txt" for name in ("constraints", "overrides") if named[name]]
    install = [
        f"{_INSTALL} --excludes /opt/flyte/excludes.txt",
        *more,
        shlex.join(options),
        "-r /tmp/requirements.txt",
    ]
    yield _run([*(_secret(name) for name in secrets), " ".join(filter(None, install))], secrets)


def _apart(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Lines for the file of requirements, and options for the command."""
    lines, options, rest = [], [], iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name in _FILES:
            lines.append(f"{_FILES[name]} {value if equals else next(rest, '')}")
        else:
            options.append(_OTHER_NAMES.get(word, word))
    return lines, options


def _in_braces(line: str, secrets: Sequence[str]) -> str:
    """`$NAME` of a secret as `${NAME}`, which uv replaces when it reads the file."""
    return re.sub(r"\$(\w+)", lambda found: f"${{{found[1]}}}" if found[1] in secrets else found[0], line)


def _secret(name: str) -> str:
    return f'export {name}="$(cat /run/secrets/{name})"'


def _copies(layer: Layer, number: int, image: Image) -> Step:
    lines, files = [], {}
    for at, copy in enumerate(copy for copy in copies.placed(image)[0] if copy.layer is layer):
        folder = f"files/{number}-{at}"
        for name, file in copied.contents_of(copy, image):
            inside = posixpath.normpath(posixpath.join(folder, copy.source.name if name == "." else name))
            files[inside] = file
        if layer.is_folder:
            lines.append(f"COPY {json.dumps([f'{folder}/', f'{copy.target}/'])}")
        else:
            lines.append(f"COPY {json.dumps([f'{folder}/{copy.source.name}', copy.target])}")
    return lines, files


def _code(number: int, image: Image, root: Path) -> Step:
    """The program itself."""
    _, workdir = copies.placed(image)
    files = {posixpath.relpath(path, "/"): file for path, file in containers.code_of(image, root, workdir).items()}
    return [f'COPY ["code-{number}/", "/"]'], {f"code-{number}/{path}": file for path, file in files.items()}


def _variables(variables: Mapping[str, str]) -> list[str]:
    return [f"ENV {name}={_quoted(name, value)}" for name, value in variables.items()]


def _quoted(name: str, value: str) -> str:
    if "\n" in value:
        raise ImageBuildError(f"the variable {name} has several lines, which a Dockerfile cannot say")
    return '"' + re.sub(r'([\\"$])', r"\\\1", value) + '"'


def _command(app: wire.AppSpec | None) -> list[str]:
    if app is None:
        return []
    command = containers.command_of(app)
    return [f"EXPOSE {app.port}", *([f"CMD {json.dumps(command)}"] if command else [])]


def _file(path: str, lines: Sequence[str]) -> str:
    """Write these lines into a file of the container."""
    return _run([f"printf '%s\\n' {' '.join(shlex.quote(line) for line in lines)} > {path}"])


def _run(commands: Sequence[str], secrets: Sequence[str] = ()) -> str:
    mounts = "".join(f"--mount=type=secret,id={name} " for name in secrets)
    return f"RUN {mounts}" + " \\\n && ".join(commands)
