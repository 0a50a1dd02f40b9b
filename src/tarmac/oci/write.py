"""The program that makes container images: a ContainerOrder on its standard input, ContainerNews on its output.

`flyte build --oci` and `--push` start it on the user's machine. The environments are made by the same builder, and in
the same folder, as those of a platform, so what one has made the other finds.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from flyte.errors import BaseRuntimeError
from flyte.wire import ContainerImage, ContainerNews, ContainerOrder, ContainerSpec
from tarmac import home, process
from tarmac.environments import build
from tarmac.environments.place import Asked, Known, Place
from tarmac.images import request_of
from tarmac.oci import ContainerFailed, base, contents, layers, registry, sbom
from tarmac.oci.base import Base
from tarmac.oci.layers import Entry, Layer
from tarmac.oci.layout import CONFIG, EMPTY, MANIFEST, Descriptor, Layout, Manifest

BUILD_LIMIT = 3600.0
"""Seconds that one environment may take."""

PATH = f"/{contents.ENVIRONMENT}/bin:/usr/local/bin:/usr/bin:/bin"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@dataclass(frozen=True, slots=True)
class Made:
    """An environment of this machine, from which an image is written."""

    folder: Path
    asked: Asked
    known: Known


@dataclass(frozen=True, slots=True)
class Written:
    """An image of the layout: its manifest, what else belongs to it, and the size of its layers."""

    image: Descriptor
    attached: Descriptor
    size: int


def carry_out(order: ContainerOrder) -> None:
    """Write the images, and send the one that is to be pushed. Raises ContainerFailed and OSError."""
    architecture = _architecture(needs_linux=not order.base)
    if order.push:
        registry.parse(order.push)
    under = base.find(Path(order.base), architecture) if order.base else None
    if under is not None:
        under.refuse_other_c_library()
    here = home.find()
    here.prepare()
    place = Place(here.images)
    with tempfile.TemporaryDirectory(prefix="flyte-oci-") as kept:
        layout = Layout(Path(order.layout or kept))
        for spec in order.images:
            name = spec.environment.name
            made = _environment(place, spec, order)
            build.tell(f"{name}: writing the image")
            written = write(layout, spec, made, under, architecture)
            reference = _pushed(layout, written, order.push) if order.push else ""
            image = ContainerImage(
                environment=name,
                digest=written.image.digest,
                python=str(made.known.interpreter),
                bytes=written.size,
                reference=reference,
            )
            _say(ContainerNews(image=image))


def _pushed(layout: Layout, written: Written, to: str) -> str:
    return asyncio.run(registry.push(layout, written.image, written.attached, to, build.tell))


def _architecture(needs_linux: bool) -> str:
    if needs_linux and sys.platform != "linux":
        raise ContainerFailed("an image without a base holds files of this machine, which is not Linux: give --base")
    machine = platform.machine().lower()
    if machine not in ARCHITECTURES:
        raise ContainerFailed(f"container images for {machine} cannot be made; only for x86_64 and aarch64")
    return ARCHITECTURES[machine]


def _environment(place: Place, spec: ContainerSpec, order: ContainerOrder) -> Made:
    """The environment that the image names, made where it is not there."""
    name, request = spec.environment.name, request_of(spec.environment)
    whole = build.Order(
        folder=str(place.path),
        timeout=BUILD_LIMIT,
        log=str(home.find().image_log(request.id)),
        request=request,
        secrets=_secrets(spec),
        parent=order.parent,
        force=order.force,
    )
    news = build.carried_out(whole)
    if news.error:
        raise ContainerFailed(f"environment {name!r}: {news.error}")
    asked, known = place.asked(request.id), place.known(news.key)
    if asked is None or known is None:
        raise ContainerFailed(f"environment {name!r} was removed while its image was being made; try again")
    for note in asked.notes:
        _say(ContainerNews(warning=f"environment {name!r}: {note}"))
    return Made(place.environment(news.key), asked, known)


def _secrets(spec: ContainerSpec) -> dict[str, str]:
    """The secrets that packages and indexes name: without a platform they are variables of this process."""
    names = [secret.env for secret in spec.environment.image.secrets]
    if missing := [name for name in names if name not in os.environ]:
        raise ContainerFailed(
            f"environment {spec.environment.name!r} needs the secret {missing[0]} for its packages: set that variable"
        )
    return {name: os.environ[name] for name in names}


# ----------------------------------------------------------------------------------------------------------- one image


def write(layout: Layout, spec: ContainerSpec, made: Made, under: Base | None, architecture: str) -> Written:
    """One image, with the list of its components, into the layout."""
    system: dict[str, Entry] = {}
    files = {_below_usr(path): layers.file_entry(Path(file)) for path, file in spec.files.items()}
    if under is None:
        system, parts, moved = _whole(made, files)
    else:
        parts, moved = _upon(made, under, files)
    parts["files"] = files
    written = [_layer(layout, name, part) for name, part in parts.items() if part]
    for blob in under.blobs if under is not None else ():
        layers.take(blob, layout.blobs)
    config = layout.put(_json(_config(spec, under, written, architecture, moved)), CONFIG)
    described = [*(under.layers if under is not None else ()), *map(_described, written)]
    image = layout.put(
        msgspec.json.encode(Manifest(schema_version=2, media_type=MANIFEST, config=config, layers=described)), MANIFEST
    )
    attached = _attach_sbom(layout, spec, made, None if under is not None else system, image)
    layout.add(spec.environment.name, [image, attached])
    return Written(image, attached, sum(one.size for one in described))


def _layer(layout: Layout, name: str, part: dict[str, Entry]) -> Layer:
    """One layer. Those that seldom change are kept for the next image."""
    created_by = f"flyte build: {name}"
    if name in ("system", "python"):
        return layers.kept_or_written(part, layout.blobs, created_by, home.find().images / "layers")
    return layers.write(part, layout.blobs, created_by)


Parts = dict[str, dict[str, Entry]]
"""Layers by their names, the lowest first."""


def _whole(made: Made, files: dict[str, Entry]) -> tuple[dict[str, Entry], Parts, bool]:
    """The system's files, all layers of an image that is built on nothing, and whether libraries were moved."""
    python = made.known.interpreter
    own = contents.interpreter(python)
    minor = f"{python.minor[0]}.{python.minor[1]}"
    environment = contents.environment(made.folder, python, f"/{contents.PYTHON}/bin/python{minor}")
    needed = contents.libraries([*contents.programs({**own, **environment, **files}), *contents.tools()])
    moved = contents.libraries_of_the_interpreter(needed, made.folder)
    system = contents.system(needed)
    _warn_of_missing(made, needed.missing)
    parts = {"system": system, "python": {**own, **moved}, "environment": environment, "flyte": contents.ours(python)}
    return system, parts, bool(moved)


def _upon(made: Made, under: Base, files: dict[str, Entry]) -> tuple[Parts, bool]:
    """The layers that come upon a base, which has the interpreter."""
    python = made.known.interpreter
    environment = contents.environment(made.folder, python, under.python(python.minor))
    needed = contents.libraries(contents.programs({**environment, **files}))
    there = {os.path.basename(path) for path in under.files}
    absent = [name for path in needed.of_system if (name := os.path.basename(path)) not in there]
    _warn_of_missing(made, (*needed.missing, *absent))
    return {"environment": environment, "flyte": contents.ours(python)}, False


def _warn_of_missing(made: Made, names: tuple[str, ...]) -> None:
    within = {path.name for path in made.folder.rglob("*.so*")}  # packages find their own in their own ways
    if missing := sorted(set(names) - within):
        _say(
            ContainerNews(
                warning=f"packages are linked to libraries that the image does not have: {', '.join(missing)}"
            )
        )


def _below_usr(path: str) -> str:
    """/bin and /lib are links to /usr/bin and /usr/lib, which a folder of that name would replace."""
    inside = path.lstrip("/")
    return f"usr/{inside}" if inside.startswith(("bin/", "sbin/", "lib/", "lib64/")) else inside


def _described(layer: Layer) -> Descriptor:
    return Descriptor(media_type=layer.media_type, digest=layer.digest, size=layer.size)


def _config(
    spec: ContainerSpec, under: Base | None, written: list[Layer], architecture: str, moved: bool
) -> dict[str, Any]:
    """What an engine has to know to run it. There is no entry point: what an engine is told to run is run as it is."""
    history = [{"created": layers.CREATED, "created_by": layer.created_by} for layer in written]
    inherited = under.config.config if under is not None else {}
    config = {
        **inherited,
        "Env": _variables(spec, inherited.get("Env") or [], moved, has_certificates=under is None),
        "Entrypoint": None,
        "Cmd": spec.command or ["python"],
        "WorkingDir": spec.workdir,
        "Labels": {**(inherited.get("Labels") or {}), "org.opencontainers.image.title": spec.environment.name},
    }
    if spec.port is not None:
        config["ExposedPorts"] = {**(inherited.get("ExposedPorts") or {}), f"{spec.port}/tcp": {}}
    diffs = [*(under.config.rootfs.diff_ids if under is not None else ()), *(layer.diff_id for layer in written)]
    return {
        "created": layers.CREATED,
        "architecture": architecture,
        "os": "linux",
        "config": {name: value for name, value in config.items() if value is not None},
        "rootfs": {"type": "layers", "diff_ids": diffs},
        "history": [*(under.config.history if under is not None else ()), *history],
    }


def _variables(spec: ContainerSpec, inherited: list[str], moved: bool, has_certificates: bool) -> list[str]:
    """As NAME=VALUE; what the user declares counts before what the image sets, and that before the base's own."""
    own = {
        **dict(line.split("=", 1) for line in inherited if "=" in line),
        "PATH": PATH,
        "VIRTUAL_ENV": f"/{contents.ENVIRONMENT}",
        "LANG": "C.UTF-8",
        **({"SSL_CERT_FILE": f"/{contents.CERTIFICATES}"} if has_certificates else {}),
        **({"LD_LIBRARY_PATH": f"/{contents.PYTHON}/lib"} if moved else {}),
        **spec.environment.image.env,
        **spec.environment.env_vars,
    }
    return [f"{name}={value}" for name, value in own.items()]


def _attach_sbom(
    layout: Layout, spec: ContainerSpec, made: Made, system: dict[str, Entry] | None, image: Descriptor
) -> Descriptor:
    """The list of components as an artifact that names the image as its subject."""
    python = made.known.interpreter if system is not None else None
    listed = layout.put(sbom.document(spec.environment.name, made.known.lock, python, system or {}), sbom.MEDIA_TYPE)
    artifact = Manifest(
        schema_version=2,
        media_type=MANIFEST,
        artifact_type=sbom.MEDIA_TYPE,
        config=layout.put(b"{}", EMPTY),
        layers=[listed],
        subject=image,
    )
    described = layout.put(msgspec.json.encode(artifact), MANIFEST)
    return msgspec.structs.replace(described, artifact_type=sbom.MEDIA_TYPE)


def _json(value: dict[str, Any]) -> bytes:
    return msgspec.json.encode(value)


def _say(news: ContainerNews) -> None:
    print(msgspec.json.encode(news).decode(), flush=True)


def main() -> None:
    """`python -P -m tarmac.oci.write`."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=ContainerOrder)
    process.die_with(order.parent)
    try:
        carry_out(order)
    except (ContainerFailed, BaseRuntimeError, OSError) as error:
        _say(ContainerNews(error=str(error)))


if __name__ == "__main__":
    main()
