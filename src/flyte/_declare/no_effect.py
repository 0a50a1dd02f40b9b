"""What Flyte's API lets a program declare and Tarmac does not carry out: the one list, and who says so.

A declaration without effect is accepted, so that a program for Flyte runs unchanged, and is never silent:
`flyte.deploy`, `flyte.run` and `flyte.serve` give one line for each option, and with `strict=True` (or FLYTE_STRICT=1)
they refuse it.
The line also travels in the spec (`no_effect`), for the page of the task or app. docs/limits.md has the same list.

What depends on the platform's machine (its Python, its cores) the platform says itself: see `tarmac.images`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flyte import rules
from flyte.errors import InvalidInputError

if TYPE_CHECKING:
    from flyte._declare.environment import Environment
    from flyte._declare.task import TaskEnvironment, TaskTemplate

S = TypeVar("S")

STRICT = "FLYTE_STRICT"
"""The environment variable that makes every line an error."""


@dataclass(frozen=True, slots=True)
class Row(Generic[S]):
    """One option: how it is written, what happens instead, and what a subject declares of it."""

    option: str
    instead: str
    declared: Callable[[S], object]


@dataclass(frozen=True, slots=True)
class Note:
    """One option that somebody declared. `str` gives the line for people."""

    option: str
    instead: str
    places: tuple[str, ...]
    """The tasks, apps or environments that declare it; the call, for an option of a call."""

    def __str__(self) -> str:
        shown = ", ".join(self.places[:3]) + (f" and {len(self.places) - 3} more" if len(self.places) > 3 else "")
        return f"{self.option} of {shown} has no effect: {self.instead} (docs/limits.md)"


_NO_ANNOTATIONS = "runs have labels only"
_NO_NOTICES = "nobody is notified; watch `run.stream()`, or send it from a task"
_NO_PODS = "every action and replica is a process of this machine, not a pod"
_NO_QUEUES = "there are no queues; all tasks share the platform's slots"
_NO_ACCOUNTS = "processes run as the user who started the platform"
_NO_SPOT = "the machine is not taken away, and a lost process is tried again in any case"
_NO_CLUSTERS = "there is one machine"

ENVIRONMENT: tuple[Row[Environment], ...] = (
    Row("pod_template=", _NO_PODS, lambda env: env.pod_template),
    Row("interruptible=", _NO_SPOT, lambda env: env.interruptible),
    Row("service_account=", _NO_ACCOUNTS, lambda env: env.service_account),
    Row(
        "Resources(gpu=)",
        "accelerators are not assigned; a process sees all that the machine has",
        lambda env: env.resources and env.resources.gpu,
    ),
    Row("Resources(disk=)", "disk space is not reserved", lambda env: env.resources and env.resources.disk),
    Row("Resources(shm=)", "/dev/shm is the machine's own", lambda env: env.resources and env.resources.shm),
    Row(
        "Image.from_base()",
        "no container is started; name its packages with `with_pip_packages()`; containers need an engine",
        lambda env: _image(env) and _shown(_image(env).base_image or _image(env).ref_name),
    ),
    Row(
        "Image.from_dockerfile()",
        "no container is built; name its packages with `with_pip_packages()`; containers need an engine",
        lambda env: _image(env) and _shown(_image(env).dockerfile),
    ),
    Row(
        "Image.with_apt_packages()",
        "nothing is installed; what the machine has is used: install them there, as root",
        lambda env: _layers(env, "apt"),
    ),
    Row(
        "Image.with_commands()",
        "the commands are not executed; only a container engine can",
        lambda env: _layers(env, "run"),
    ),
    Row(
        "Image.with_workdir() of an absolute path",
        "the folder that holds the shipped code stands for it: relative paths work, and that path does not exist",
        lambda env: _absolute_workdirs(env),
    ),
    Row(
        "Image.with_source_folder() or with_source_file() to a place outside of the working directory",
        "nothing is copied there; copy to a relative path: that travels with the code",
        lambda env: _copied_elsewhere(env),
    ),
    Row(
        "project_install_mode='install_project'",
        "only the project's dependencies are installed; its modules are shipped where your code imports them",
        lambda env: any(("install_mode", "install_project") in layer.options for layer in _image_layers(env)),
    ),
    Row(
        "pixi projects and scripts",
        "conda packages are not installed; name them with `with_pip_packages()`, as PyPI has them",
        lambda env: _layers(env, "pixi"),
    ),
)

TASK_ENVIRONMENT: tuple[Row[TaskEnvironment], ...] = (
    Row("queue=", _NO_QUEUES, lambda env: env.queue),
    Row("plugin_config=", "the tasks run as plain functions, on this machine", lambda env: env.plugin_config),
    Row(
        "ReusePolicy(scaledown_ttl=)",
        "idle processes end together, after `idle_ttl`",
        lambda env: env.reusable and env.reusable.scaledown_ttl != type(env.reusable)().scaledown_ttl,
    ),
    Row(
        "ReusePolicy(scope='run')",
        "processes are shared by all runs of the version",
        lambda env: env.reusable and env.reusable.scope == "run",
    ),
)

TASK: tuple[Row[TaskTemplate[..., Any, Any]], ...] = (
    Row("Trigger(queue=)", _NO_QUEUES, lambda task: _any_trigger(task, "queue")),
    Row("Trigger(interruptible=)", _NO_SPOT, lambda task: _any_trigger(task, "interruptible")),
    Row("Trigger(annotations=)", _NO_ANNOTATIONS, lambda task: _any_trigger(task, "annotations")),
    Row("Trigger(notifications=)", _NO_NOTICES, lambda task: _any_trigger(task, "notifications")),
    Row("queue=", _NO_QUEUES, lambda task: task.options.queue),
    Row("interruptible=", _NO_SPOT, lambda task: task.options.interruptible),
    Row("service_account=", _NO_ACCOUNTS, lambda task: task.options.service_account),
    Row("pod_template=", _NO_PODS, lambda task: task.options.pod_template),
    Row("task_resolver=", "a task is found by its module and name", lambda task: task.options.task_resolver),
    Row("entrypoint=", "lists of tasks do not set entry points apart", lambda task: task.options.entrypoint),
    Row(
        "override(plugin_config=)",
        "the task runs as a plain function, on this machine",
        lambda task: task.overrides.plugin_config,
    ),
    Row(
        "override(resources=Resources(gpu=))",
        "accelerators are not assigned; a process sees all that the machine has",
        lambda task: task.overrides.resources and task.overrides.resources.gpu,
    ),
)

APP: tuple[Row[Any], ...] = (
    Row(
        "Scaling(replicas=(least, most))",
        "an app does not scale up under load: it has `least` replicas, and one while it is awake",
        lambda app: app.scaling.get_replicas()[1] > max(1, app.scaling.get_replicas()[0]),
    ),
    Row("Scaling(metric=)", "an app does not scale up under load", lambda app: app.scaling.metric),
    Row("cluster=", _NO_CLUSTERS, lambda app: app.cluster),
    Row("cluster_pool=", _NO_CLUSTERS, lambda app: app.cluster_pool != "default"),
    Row("type=", "the app's page does not show it", lambda app: app.type not in (None, type(app).type)),
    Row(
        "Subdomain(project_domain_suffix=)",
        "host names have no suffix",
        lambda app: getattr(app.domain and app.domain.subdomain, "project_domain_suffix", None),
    ),
)

LOCAL: tuple[Row[Environment], ...] = (
    Row(
        "Secret(mount=)",
        f"in local mode no file is made in {rules.SECRETS_FOLDER}; put it there yourself",
        lambda env: any(secret.mount and not secret.is_file_here() for secret in env.secret_list()),
    ),
)
"""What an environment declares and only a platform carries out, though a program may rely on it."""

Given = Mapping[str, Any]
"""The options of a call that differ from their defaults."""


def _option(name: str, instead: str) -> Row[Given]:
    return Row(f"{name}=", instead, lambda given: given.get(name))


RUN: tuple[Row[Given], ...] = (
    _option("service_account", _NO_ACCOUNTS),
    _option("queue", _NO_QUEUES),
    _option("interruptible", _NO_SPOT),
    _option("notifications", _NO_NOTICES),
    _option("annotations", _NO_ANNOTATIONS),
    _option("run_start_time", "a run starts when it is asked for"),
    _option("preserve_original_types", "values come back as their annotations say"),
    _option("debug", "there is no debug mode; run the task in local mode under your debugger"),
    _option("tracked", "a run in this process is not recorded elsewhere"),
    _option("tracked_strict", "a run in this process is not recorded elsewhere"),
    _option("interactive_mode", "code of an interactive session is not shipped; put it into a file"),
)

SERVE: tuple[Row[Given], ...] = (
    _option("cluster", _NO_CLUSTERS),
    _option("cluster_pool", _NO_CLUSTERS),
    _option("interactive_mode", "code of an interactive session is not shipped; put it into a file"),
    _option("copy_bundle_to", "the code goes to the platform only"),
    _option("activate_timeout", "the platform waits as long as TARMAC_START_TIMEOUT says"),
    _option("deactivate_timeout", "the call returns when the app has stopped"),
    _option("health_check_timeout", "the platform watches whether the app answers"),
    _option("health_check_interval", "the platform watches whether the app answers"),
    _option("health_check_path", "the platform asks for `/`"),
)

INIT: tuple[Row[Given], ...] = (
    _option("images", "images have no registry here"),
    _option("image_builder", "images are not built"),
    _option("image_registry", "images have no registry here"),
    _option("local_persistence", "a run in this process ends with it"),
    _option("local_tracked", "a run in this process is not recorded elsewhere"),
    _option("local_tracked_strict", "a run in this process is not recorded elsewhere"),
    _option("scopes", "a key may do everything"),
)

CALLS: Mapping[str, tuple[Row[Given], ...]] = {
    "flyte.with_runcontext()": RUN,
    "flyte.with_servecontext()": SERVE,
    "flyte.init()": INIT,
}


class _Shown(str):
    """Text that the note shows: what exactly was declared."""

    __slots__ = ()


def _shown(value: object) -> _Shown | None:
    return _Shown(value) if value else None


def _image(env: Environment) -> Any:
    from flyte._declare.image import Image

    if isinstance(env.image, str) and env.image != "auto":
        return Image.from_base(env.image)
    return env.image if isinstance(env.image, Image) else None


def _image_layers(env: Environment) -> Any:
    image = _image(env)
    return image.layers if image is not None else ()


def _any_trigger(task: TaskTemplate[..., Any, Any], option: str) -> _Shown | None:
    return _shown("; ".join(each.name for each in task.options.triggers if getattr(each, option)))


def _layers(env: Environment, kind: str) -> _Shown | None:
    """What the layers of that kind say: `apt install git; apt install ffmpeg`."""
    return _shown("; ".join(layer.text for layer in _image_layers(env) if layer.kind == kind))


def _absolute_workdirs(env: Environment) -> _Shown | None:
    layers = [layer for layer in _image_layers(env) if layer.kind == "workdir" and layer.target.startswith("/")]
    return _shown("; ".join(layer.text for layer in layers if layer.target.rstrip("/") != "/root"))


def _copied_elsewhere(env: Environment) -> _Shown | None:
    from flyte._declare import copies

    image = _image(env)
    return _shown("; ".join(copies.elsewhere(image))) if image is not None else None


# ---------------------------------------------------------------------------------------------------------- the notes


def of_environment(env: Environment) -> list[Note]:
    """What the environment itself declares: for an app also what only apps have."""
    from flyte._declare.task import TaskEnvironment

    own = TASK_ENVIRONMENT if isinstance(env, TaskEnvironment) else APP
    return _found(ENVIRONMENT, env, env.name) + _found(own, env, env.name)


def of_local(envs: Iterable[Environment]) -> list[Note]:
    """What the environments declare and local mode does not carry out."""
    return [note for env in envs for note in _found(LOCAL, env, env.name)]


def of_task(task: TaskTemplate[..., Any, Any]) -> list[Note]:
    """What the task declares beyond its environment."""
    return _found(TASK, task, task.name)


def of_environments(envs: Iterable[Environment]) -> tuple[Note, ...]:
    """What the environments and their tasks declare, with one note for each option."""
    notes: list[Note] = []
    for env in envs:
        notes += of_environment(env)
        notes += [note for task in getattr(env, "tasks", {}).values() if task.env is env for note in of_task(task)]
    return merged(notes)


def of_call(call: str, given: Given) -> tuple[Note, ...]:
    """What the options of one of `CALLS` declare; those that are None or False are not given."""
    return tuple(_found(CALLS[call], given, call))


def merged(notes: Iterable[Note]) -> tuple[Note, ...]:
    """One note for each option, with all places."""
    places: dict[tuple[str, str], list[str]] = {}
    for note in notes:
        places.setdefault((note.option, note.instead), []).extend(note.places)
    return tuple(Note(*key, tuple(dict.fromkeys(found))) for key, found in places.items())


def lines(notes: Iterable[Note]) -> list[str]:
    """The notes for the page of the one that declares them, without its name."""
    return [f"{note.option} has no effect: {note.instead}" for note in merged(notes)]


def _found(rows: Iterable[Row[S]], subject: S, place: str) -> list[Note]:
    notes = []
    for row in rows:
        if declared := row.declared(subject):
            detail = f" (`{declared}`)" if isinstance(declared, _Shown) else ""
            notes.append(Note(f"{row.option}{detail}", row.instead, (place,)))
    return notes


# --------------------------------------------------------------------------------------------------------- saying them


def is_strict(strict: bool | None) -> bool:
    """As the call says; where it says nothing, as FLYTE_STRICT says."""
    if strict is not None:
        return strict
    return os.environ.get(STRICT, "").lower() in ("1", "true", "yes", "on")


def refuse(notes: Iterable[Note], strict: bool | None) -> None:
    """Raise InvalidInputError (code `NoEffectError`) with all notes, if there are any and they are to be errors."""
    found = [str(note) for note in notes]
    if found and is_strict(strict):
        raise InvalidInputError("\n".join([f"strict: {found[0]}", *found[1:]]), "NoEffectError")


_said: set[str] = set()
"""The lines that this process has logged."""


def say(warnings: Iterable[str]) -> None:
    """Log each line as a warning, once in this process."""
    from flyte._logging import system_logger

    for line in warnings:
        if line not in _said:
            _said.add(line)
            system_logger.warning(line)
