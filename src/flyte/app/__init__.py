"""Apps: programs that answer requests, declared here and run by the platform."""

from typing import Any

from flyte._absent import missing
from flyte._declare.deployment import DeployedAppEnvironment
from flyte.app._context import AppContext, ctx
from flyte.app._environment import AppEnvironment
from flyte.app._parameter import AppEndpoint, ArtifactValue, Input, Parameter, RunOutput, get_parameter
from flyte.app._settings import Domain, Link, Port, Scaling, Subdomain, Timeouts

get_input = get_parameter

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
    raise missing("flyte.app", name)
