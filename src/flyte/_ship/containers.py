"""What of an environment goes into a container image: its packages, variables and files, and the command of an app."""

from __future__ import annotations

import posixpath
from pathlib import Path

from flyte import wire
from flyte._declare.environment import Environment
from flyte._declare.image import Image
from flyte._ship import bundle, copied
from flyte.errors import ImageBuildError

_BY_AN_ENGINE = ("apt", "run", "pixi")


def container_spec(env: Environment, root: Path, has_base: bool = False) -> wire.ContainerSpec:
    """The image for `env`, whose code lies below `root`.

    Raises ImageBuildError for an image that starts from another one, unless `has_base` says that it is there.
    """
    image = image_of(env)
    _refuse_other_start(env.name, image, has_base)
    spec = env.spec(root)
    files, folder = copied.in_container(image)
    files |= code_of(image, root, folder)
    app = spec if isinstance(spec, wire.AppSpec) else None
    return wire.ContainerSpec(
        environment=app.environment if app is not None else spec,
        files={path: str(file) for path, file in files.items()},
        workdir=folder,
        command=command_of(app) if app is not None else [],
        port=app.port if app is not None else None,
    )


def left_out(env: Environment) -> list[str]:
    """The layers that are not in such an image, since only a container engine can make them, in words."""
    layers = env.image.layers if isinstance(env.image, Image) else ()
    return [layer.text for layer in layers if layer.kind in _BY_AN_ENGINE]


def image_of(env: Environment) -> Image:
    """The environment's image, as it is declared."""
    if isinstance(env.image, str) and env.image != "auto":
        return Image.from_base(env.image)
    return env.image if isinstance(env.image, Image) else Image.from_debian_base()


def _refuse_other_start(name: str, image: Image, has_base: bool) -> None:
    if image.dockerfile is not None:
        raise ImageBuildError(f"the image of {name!r} is made by {image.dockerfile}: build it with a container engine")
    start = image.base_image or image.ref_name
    if start and not has_base:
        raise ImageBuildError(
            f"the image of {name!r} starts from {start}: give that as an OCI layout with --base DIR "
            f"(`podman save --format oci-dir -o DIR {start}`)"
        )


def code_of(image: Image, root: Path, folder: str) -> dict[str, Path]:
    """The program itself, where `with_code_bundle` asks for it."""
    found: dict[str, Path] = {}
    for layer in image.layers:
        if layer.kind == "bundle":
            files = bundle.everything(root) if ("copy_style", "all") in layer.options else bundle.loaded(root)
            place = posixpath.normpath(posixpath.join(folder, layer.target))
            found |= {posixpath.join(place, name): file for name, file in files.items()}
    return found


def command_of(app: wire.AppSpec) -> list[str]:
    """What serves the app without a platform; a server function needs one."""
    if app.kind == "command":
        return app.argv
    if app.kind == "asgi":
        return ["uvicorn", f"{app.entry}.app", "--host", "0.0.0.0", "--port", str(app.port)]
    return []
