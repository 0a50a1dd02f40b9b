"""The platform: control plane, gateway, agent and console behind the `flyte` package."""

__version__ = "0.1.0"
