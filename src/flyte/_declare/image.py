"""`Image`: what a process needs around the code.

On this platform an image is an environment: a Python version, packages and variables. Layers that only a container
engine can make are kept and named, so that the platform can say what it leaves out and another engine can build them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flyte import wire
from flyte._declare import projects
from flyte._declare.layer import (
    Architecture,
    Layer,
    check_python,
    file_beside,
    one_default_index,
    options_of,
    pip_layer,
    platforms_of,
    wanted_python,
)
from flyte._declare.poetry import of_poetry_project
from flyte._declare.requirements import Needs, arguments, of_requirements_file
from flyte.errors import ImageBuildError, InvalidImageNameError

_NAME = re.compile(r"^[a-z0-9]+([._-]+[a-z0-9]+)*(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$")


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image, declared. Every `with_…` gives a new one; nothing is built before a deployment needs it."""

    name: str | None = None
    base_image: str | None = None
    """URI of the image to start from; None is a plain Python."""
    dockerfile: Path | None = None
    registry: str | None = None
    registry_secret: Any = None
    python_version: tuple[int, int] | None = None
    """None leaves it to the platform."""
    platform: tuple[str, ...] = ("linux/amd64",)
    extendable: bool = True
    install_flyte: bool = True
    ref_name: str | None = None
    layers: tuple[Layer, ...] = field(default=())

    def __post_init__(self) -> None:
        if self.name is not None and not _NAME.match(self.name):
            raise InvalidImageNameError(
                f"{self.name!r} is not a valid image name: lower-case letters and digits, separated by . _ - or /"
            )
        if self.python_version is not None:
            check_python(self.python_version)

    # ---- constructors

    @classmethod
    def from_debian_base(
        cls,
        python_version: tuple[int, int] | None = None,
        flyte_version: str | None = None,
        install_flyte: bool = True,
        registry: str | None = None,
        registry_secret: Any = None,
        name: str | None = None,
        platform: Architecture | Sequence[Architecture] | None = None,
    ) -> Image:
        """A plain Python; `python_version` as `(3, 12)`, by default the platform's own.

        `install_flyte=False` leaves out what Flyte's own images have besides the packages that are named.
        """
        return cls(
            name=name,
            registry=registry,
            registry_secret=registry_secret,
            python_version=python_version,
            platform=platforms_of(platform),
            install_flyte=install_flyte,
        )

    @classmethod
    def from_base(cls, image_uri: str) -> Image:
        """An image that exists, by its URI."""
        return cls(base_image=image_uri)

    @classmethod
    def from_ref_name(cls, name: str = "default") -> Image:
        """An image that the config file names under `image.image_refs`."""
        return cls(ref_name=name)

    @classmethod
    def from_uv_script(
        cls,
        script: Path | str,
        *,
        name: str | None = None,
        registry: str | None = None,
        registry_secret: Any = None,
        python_version: tuple[int, int] | None = None,
        index_url: str | None = None,
        extra_index_urls: str | Sequence[str] | None = None,
        pre: bool = False,
        extra_args: str | None = None,
        platform: Architecture | Sequence[Architecture] | None = None,
        secret_mounts: Any = None,
    ) -> Image:
        """What the script's own header (PEP 723) asks for. Raises ValueError where the script has none."""
        path = file_beside(script)
        needs = projects.of_uv_script(path) if path.exists() else Needs()
        base = cls.from_debian_base(
            python_version=python_version or wanted_python(needs.python),
            registry=registry,
            registry_secret=registry_secret,
            name=name,
            platform=platform,
        )
        needs += Needs(arguments=arguments(index_url, extra_index_urls, pre, extra_args))
        return base._with_needs(f"script {script}", path, needs, secret_mounts)

    @classmethod
    def from_pixi_script(
        cls, script: Path | str, *, environment: str = "default", name: str | None = None, **options: Any
    ) -> Image:
        """A script whose header names a pixi environment; only a container engine can make it."""
        base = cls.from_debian_base(name=name, python_version=options.pop("python_version", None))
        return base._with(Layer("pixi", f"pixi environment {environment} of {script}", options=options_of(options)))

    @classmethod
    def from_dockerfile(
        cls,
        file: Path | str,
        registry: str | None = None,
        name: str | None = None,
        platform: Architecture | Sequence[Architecture] | None = None,
    ) -> Image:
        """An image made by a Dockerfile; it takes no further layers."""
        return cls(
            dockerfile=Path(file), registry=registry, name=name, platform=platforms_of(platform), extendable=False
        )

    def clone(
        self,
        registry: str | None = None,
        registry_secret: Any = None,
        name: str | None = None,
        base_image: str | None = None,
        python_version: tuple[int, int] | None = None,
        addl_layer: Layer | None = None,
        extendable: bool | None = None,
        platform: Architecture | Sequence[Architecture] | None = None,
    ) -> Image:
        """The same image with some fields changed."""
        changed = {
            "registry": registry,
            "registry_secret": registry_secret,
            "name": name,
            "base_image": base_image,
            "python_version": python_version,
            "extendable": extendable,
            "platform": platforms_of(platform) if platform else None,
        }
        image = replace(self, **{key: value for key, value in changed.items() if value is not None})
        return image._with(addl_layer) if addl_layer else image

    # ---- layers

    def with_pip_packages(
        self,
        *packages: str,
        index_url: str | None = None,
        extra_index_urls: str | Sequence[str] | None = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: Any = None,
    ) -> Image:
        """Packages from an index, each a requirement as pip reads it.

        `extra_args` are options of pip or uv. A requirement or index may name a variable of `secret_mounts` as `$NAME`:
        its value is used when the environment is made, and stands in nothing that is kept.
        """
        needs = Needs(packages, arguments=arguments(index_url, extra_index_urls, pre, extra_args))
        return self._with_needs(f"pip install {' '.join(packages)}", None, needs, secret_mounts)

    def with_requirements(
        self,
        file: Path | str,
        index_url: str | None = None,
        extra_index_urls: str | Sequence[str] | None = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: Any = None,
    ) -> Image:
        """The packages of a requirements file, which is read now; deploying fails where it was not there.

        A relative path starts in the working directory, else beside the file that declares the image. Raises ValueError
        unless it ends in .txt. What it includes, its indexes and its hashes count; a package that is a folder or file
        of this machine is a ValueError.
        """
        path = file_beside(file)
        if path.suffix != ".txt":
            raise ValueError(f"{path} is not a requirements file: its name must end in .txt")
        needs = of_requirements_file(path) if path.exists() else Needs()
        needs += Needs(arguments=arguments(index_url, extra_index_urls, pre, extra_args))
        return self._with_needs(f"pip install -r {file}", path, needs, secret_mounts)

    def with_apt_packages(self, *packages: str, secret_mounts: Any = None) -> Image:
        """Packages of the operating system."""
        return self._with(Layer("apt", f"apt install {' '.join(packages)}"))

    def with_commands(self, commands: Sequence[str], secret_mounts: Any = None) -> Image:
        """Shell commands."""
        if isinstance(commands, str):
            raise TypeError("with_commands takes a list of commands")
        image = self
        for command in commands:
            image = image._with(Layer("run", f"run {command}"))
        return image

    def with_env_vars(self, env_vars: dict[str, str]) -> Image:
        """Environment variables."""
        return self._with(Layer("env", f"env {' '.join(env_vars)}", env=tuple(env_vars.items())))

    def with_workdir(self, workdir: str) -> Image:
        """The working directory; a relative one starts in the one before.

        The folder that holds the shipped code stands for it: relative paths work, and its absolute path does not exist.
        """
        return self._with(Layer("workdir", f"workdir {workdir}", target=workdir))

    def with_source_folder(self, src: Path | str, dst: str = ".", copy_contents_only: bool = False) -> Image:
        """A folder of this machine, which is shipped with the code, less what its .dockerignore names.

        Its contents come to `dst`; for the default, the working directory, the folder itself comes there, unless
        `copy_contents_only`. A relative `dst` starts in the working directory.
        """
        folder = file_beside(src)
        target = f"./{folder.resolve().name}" if dst == "." and not copy_contents_only else dst
        return self._with(Layer("copy", f"copy {src} {dst}", files=(folder,), target=target, is_folder=True))

    def with_source_file(self, src: Path | str | Iterable[Path | str], dst: str = ".") -> Image:
        """One or several files of this machine, which are shipped with the code.

        `dst` is a folder if it ends in `/`, if it exists in the image, or for several files; else the file's name.
        Raises ValueError for two files of one name.
        """
        files = [src] if isinstance(src, str | Path) else list(src)
        names = [Path(file).name for file in files]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"several files are called {', '.join(twice)}; copy them to different folders")
        found = tuple(map(file_beside, files))
        return self._with(Layer("copy", f"copy {' '.join(map(str, files))} {dst}", files=found, target=dst))

    def with_uv_project(
        self,
        pyproject_file: Path | str,
        uvlock: Path | str | None = None,
        index_url: str | None = None,
        extra_index_urls: str | Sequence[str] | None = None,
        pre: bool = False,
        extra_args: str | None = None,
        secret_mounts: Any = None,
        project_install_mode: Literal["dependencies_only", "install_project"] = "dependencies_only",
    ) -> Image:
        """The dependencies of a `pyproject.toml`, which is read now, as `with_requirements` reads its file.

        Versions are those of `uv.lock` where it lies beside it. Groups and extras are chosen by `extra_args`, as for
        `uv sync` (`--group NAME`, `--only-group NAME`, `--extra NAME`). Sources, indexes and constraints of `[tool.uv]`
        count. Of packages that are folders of this machine only the dependencies are installed.
        """
        path = file_beside(pyproject_file)
        lock = file_beside(uvlock) if uvlock is not None else None
        needs = projects.of_uv_project(path, lock, extra_args) if path.exists() else Needs()
        needs += Needs(arguments=arguments(index_url, extra_index_urls, pre))
        return self._with_needs(f"uv project {pyproject_file}", path, needs, secret_mounts, project_install_mode)

    def with_poetry_project(
        self,
        pyproject_file: Path | str,
        poetry_lock: Path | str | None = None,
        extra_args: str | None = None,
        secret_mounts: Any = None,
        project_install_mode: Literal["dependencies_only", "install_project"] = "dependencies_only",
    ) -> Image:
        """The dependencies of a Poetry project, which is read now, as `with_requirements` reads its file.

        Versions are those of `poetry.lock` where it lies beside it. Groups and extras are chosen by `extra_args`, as
        for `poetry install` (`--with NAME`, `--only NAME`, `--extras NAME`); without them it is the main group.
        """
        path = file_beside(pyproject_file)
        lock = file_beside(poetry_lock) if poetry_lock is not None else None
        needs = of_poetry_project(path, lock, extra_args) if path.exists() else Needs()
        return self._with_needs(f"poetry project {pyproject_file}", path, needs, secret_mounts, project_install_mode)

    def with_pixi_project(self, manifest_file: Path | str, **options: Any) -> Image:
        """A pixi project; only a container engine can make it."""
        return self._with(Layer("pixi", f"pixi project {manifest_file}", options=options_of(options)))

    def with_code_bundle(
        self, copy_style: Literal["loaded_modules", "all"] = "loaded_modules", dst: str = "."
    ) -> Image:
        """The code itself, as a layer; here it travels as a bundle anyway."""
        options = (("copy_style", copy_style),)
        return self._with(Layer("bundle", f"code bundle ({copy_style}) to {dst}", options=options, target=dst))

    def with_dockerignore(self, path: Path | str) -> Image:
        """A file that says what is left out of copied folders."""
        return self._with(Layer("ignore", f"dockerignore {path}", files=(file_beside(path),)))

    def with_local_v2(self) -> Image:
        """Flyte's own working copy, for those who develop it; here the installed package is used anyway."""
        return self

    def _with_needs(
        self, text: str, file: Path | None, needs: Needs, secrets: Any = None, mode: str = "dependencies_only"
    ) -> Image:
        return self._with(pip_layer(text, file, needs, secrets, mode))

    def _with(self, layer: Layer) -> Image:
        if not self.extendable:
            raise ValueError("an image made by a Dockerfile takes no further layers; put them into the Dockerfile")
        return replace(self, layers=(*self.layers, layer))

    # ---- what it comes to

    @property
    def packages(self) -> list[str]:
        """All requirement strings, in order. Raises ImageBuildError where a file that names some is missing."""
        missing = [layer.missing for layer in self.layers if layer.missing is not None]
        if missing and "FLYTE_UNIT" not in os.environ:
            raise ImageBuildError(
                f"the image takes its packages from {missing[0]}, which does not exist in {Path.cwd()}, nor beside the "
                "file that declares the image"
            )
        return [package for layer in self.layers for package in layer.packages]

    @property
    def env_vars(self) -> dict[str, str]:
        return {key: value for layer in self.layers for key, value in layer.env}

    @property
    def identifier(self) -> str:
        """A short hash of everything the image is made of."""
        spec = [self.base_image, str(self.dockerfile or ""), self.python_version, self.ref_name]
        steps = [
            (layer.kind, layer.text, layer.packages, layer.env, layer.options, layer.arguments) for layer in self.layers
        ]
        return hashlib.md5(json.dumps([spec, steps], default=str).encode(), usedforsecurity=False).hexdigest()

    @property
    def uri(self) -> str:
        """`registry/name:hash`, or the URI of a base image without layers."""
        if self.base_image and not self.layers:
            return self.base_image
        name = self.name or "flyte"
        return f"{self.registry}/{name}:{self.identifier}" if self.registry else f"{name}:{self.identifier}"

    def to_wire(self) -> wire.ImageSpec:
        layers = [layer.text for layer in self.layers if layer.needs_container]
        if self.dockerfile:
            layers.insert(0, f"dockerfile {self.dockerfile}")
        if self.base_image:
            layers.insert(0, f"from {self.base_image}")
        return wire.ImageSpec(
            name=self.name or self.ref_name or "auto",
            python=self.python_version,
            requires_python=""
            if self.python_version
            else ",".join(filter(None, (layer.python for layer in self.layers))),
            packages=self.packages,
            constraints=[line for layer in self.layers for line in layer.constraints],
            overrides=[line for layer in self.layers for line in layer.overrides],
            options=one_default_index(word for layer in self.layers for word in layer.arguments),
            secrets=list({s.env: s for s in (s.to_wire() for layer in self.layers for s in layer.secrets)}.values()),
            install_flyte=self.install_flyte,
            env=self.env_vars,
            layers=layers,
        )


def image_to_wire(image: Image | str | None) -> wire.ImageSpec:
    """The spec of an environment's `image=`: an Image, `"auto"`, a URI, or None for the platform's own."""
    if isinstance(image, Image):
        return image.to_wire()
    return wire.ImageSpec() if image in (None, "auto") else Image.from_base(str(image)).to_wire()
