"""Apps: programs that answer requests, declared here and run by the platform.

Importing this package loads none of it: each name is fetched from its module on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from flyte._absent import missing

if TYPE_CHECKING:
    from flyte._declare.deployment import DeployedAppEnvironment as DeployedAppEnvironment
    from flyte.app._context import AppContext as AppContext
    from flyte.app._context import ctx as ctx
    from flyte.app._environment import AppEnvironment as AppEnvironment
    from flyte.app._parameter import AppEndpoint as AppEndpoint
    from flyte.app._parameter import ArtifactValue as ArtifactValue
    from flyte.app._parameter import Input as Input
    from flyte.app._parameter import Parameter as Parameter
    from flyte.app._parameter import RunOutput as RunOutput
    from flyte.app._parameter import get_input as get_input
    from flyte.app._parameter import get_parameter as get_parameter
    from flyte.app._settings import Domain as Domain
    from flyte.app._settings import Link as Link
    from flyte.app._settings import Port as Port
    from flyte.app._settings import Scaling as Scaling
    from flyte.app._settings import Subdomain as Subdomain
    from flyte.app._settings import Timeouts as Timeouts

_MODULES = {
    "_declare.deployment": "DeployedAppEnvironment",
    "app._context": "AppContext ctx",
    "app._environment": "AppEnvironment",
    "app._parameter": "AppEndpoint ArtifactValue Input Parameter RunOutput get_input get_parameter",
    "app._settings": "Domain Link Port Scaling Subdomain Timeouts",
}
_PLACES = {name: module for module, names in _MODULES.items() for name in names.split()}

__all__ = [
    "AppContext",
    "AppEndpoint",
    "AppEnvironment",
    "ArtifactValue",
    "DeployedAppEnvironment",
    "Domain",
    "Input",
    "Link",
    "Parameter",
    "Port",
    "RunOutput",
    "Scaling",
    "Subdomain",
    "Timeouts",
    "ctx",
    "get_input",
    "get_parameter",
]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise missing("flyte.app", name)
    value = getattr(importlib.import_module(f"flyte.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
