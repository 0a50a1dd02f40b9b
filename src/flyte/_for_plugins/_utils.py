"""A private module of Flyte's that plugins import: modules that are loaded when they are used."""

from flyte._importing import lazy_module

__all__ = ["lazy_module"]
