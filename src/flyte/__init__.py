"""What user code imports: `import flyte`, and everything below it when it is first used.

Importing this package loads nothing but this file: every public name is fetched from its module on first use, so that
a process pays only for what it uses. No thread, no I/O, nothing global is changed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flyte import app as app
    from flyte import artifacts as artifacts
    from flyte import config as config
    from flyte import errors as errors
    from flyte import extend as extend
    from flyte import io as io
    from flyte import models as models
    from flyte import remote as remote
    from flyte import report as report
    from flyte import syncify as syncify
    from flyte import types as types
    from flyte._checkpoint import BaseCheckpoint as BaseCheckpoint
    from flyte._checkpoint import Checkpoint as Checkpoint
    from flyte._checkpoint import latest_checkpoint as latest_checkpoint
    from flyte._context import TaskContext as TaskContext
    from flyte._context import ctx as ctx
    from flyte._context import custom_context as custom_context
    from flyte._context import get_custom_context as get_custom_context
    from flyte._context import group as group
    from flyte._declare.environment import Environment as Environment
    from flyte._declare.options import AMD_GPU as AMD_GPU
    from flyte._declare.options import APPLE_SILICON as APPLE_SILICON
    from flyte._declare.options import GPU as GPU
    from flyte._declare.options import HABANA_GAUDI as HABANA_GAUDI
    from flyte._declare.options import TPU as TPU
    from flyte._declare.options import Backoff as Backoff
    from flyte._declare.options import Cache as Cache
    from flyte._declare.options import CachePolicy as CachePolicy
    from flyte._declare.options import CacheRequest as CacheRequest
    from flyte._declare.options import Cron as Cron
    from flyte._declare.options import Device as Device
    from flyte._declare.options import DeviceClass as DeviceClass
    from flyte._declare.options import Documentation as Documentation
    from flyte._declare.options import FixedRate as FixedRate
    from flyte._declare.options import Image as Image
    from flyte._declare.options import Link as Link
    from flyte._declare.options import Neuron as Neuron
    from flyte._declare.options import PodTemplate as PodTemplate
    from flyte._declare.options import Resources as Resources
    from flyte._declare.options import RetryStrategy as RetryStrategy
    from flyte._declare.options import ReusePolicy as ReusePolicy
    from flyte._declare.options import Secret as Secret
    from flyte._declare.options import SecretRequest as SecretRequest
    from flyte._declare.options import Timeout as Timeout
    from flyte._declare.options import TimeoutType as TimeoutType
    from flyte._declare.options import Trigger as Trigger
    from flyte._declare.options import TriggerTime as TriggerTime
    from flyte._declare.task import AsyncFunctionTaskTemplate as AsyncFunctionTaskTemplate
    from flyte._declare.task import TaskEnvironment as TaskEnvironment
    from flyte._declare.task import TaskTemplate as TaskTemplate
    from flyte._logging import logger as logger
    from flyte._logging import system_logger as system_logger
    from flyte._map import map as map
    from flyte._run import rerun as rerun
    from flyte._run import run as run
    from flyte._run import with_runcontext as with_runcontext
    from flyte._serve import AppHandle as AppHandle
    from flyte._serve import serve as serve
    from flyte._serve import with_servecontext as with_servecontext
    from flyte._session.init import init as init
    from flyte._session.init import init_from_api_key as init_from_api_key
    from flyte._session.init import init_from_config as init_from_config
    from flyte._session.init import init_in_cluster as init_in_cluster
    from flyte._session.init import init_passthrough as init_passthrough
    from flyte._session.state import current_domain as current_domain
    from flyte._session.state import current_project as current_project
    from flyte._session.state import is_control_plane_available as is_control_plane_available
    from flyte._ship.deploy import ImageBuild as ImageBuild
    from flyte._ship.deploy import build as build
    from flyte._ship.deploy import build_images as build_images
    from flyte._ship.deploy import deploy as deploy
    from flyte._sync import BlockingCallWarning as BlockingCallWarning
    from flyte._trace import trace as trace
    from flyte._version import __version__ as __version__
    from flyte._version import version as version

_MODULES = {
    "_checkpoint": "BaseCheckpoint Checkpoint latest_checkpoint",
    "_context": "TaskContext ctx custom_context get_custom_context group",
    "_ship.deploy": "ImageBuild build build_images deploy",
    "_declare.environment": "Environment",
    "_session.init": "init init_from_api_key init_from_config init_in_cluster init_passthrough",
    "_session.state": "current_domain current_project is_control_plane_available",
    "_logging": "logger system_logger",
    "_map": "map",
    "_run": "rerun run with_runcontext",
    "_serve": "AppHandle serve with_servecontext",
    "_declare.options": "AMD_GPU APPLE_SILICON Backoff Cache CachePolicy CacheRequest Cron Device DeviceClass "
    "Documentation FixedRate GPU HABANA_GAUDI Image Link Neuron PodTemplate Resources RetryStrategy ReusePolicy Secret "
    "SecretRequest TPU Timeout TimeoutType Trigger TriggerTime",
    "_sync": "BlockingCallWarning",
    "_declare.task": "AsyncFunctionTaskTemplate TaskEnvironment TaskTemplate",
    "_trace": "trace",
    "_version": "__version__ version",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}
_SUBMODULES = (
    *("app", "artifacts", "config", "errors", "extend", "io", "models"),
    *("remote", "report", "storage", "syncify", "types"),
)

__path__ += [
    f"{__path__[0]}/_absent_modules",  # those of Flyte's submodules that only say that they are absent
    f"{__path__[0]}/_for_plugins",  # private ones, which plugins import
]

__all__ = [
    *sorted(name for name in _PLACES if name != "__version__"),
    *_SUBMODULES,
]


def __getattr__(name: str) -> Any:
    if name not in _SUBMODULES and name not in _PLACES:
        from flyte._absent import missing

        raise missing("flyte", name)
    from flyte.official import refuse_official

    refuse_official()  # at the first use of a name, and not at the import, which reads nothing
    if name in _SUBMODULES:
        return importlib.import_module(f"flyte.{name}")
    value = getattr(importlib.import_module(f"flyte.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
