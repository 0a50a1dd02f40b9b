"""The platform: control plane, gateway, agent and console behind the `flyte` package."""

try:
    import flyte.official  # noqa: F401 - a file that only our `flyte` has
except ImportError:
    raise ImportError(
        "the `flyte` package on this Python's path is not the one that belongs to this platform: the official "
        "distribution has replaced it. Mend it with: pip uninstall flyte tarmac, and then, in a clone of this "
        "project, pip install ."
    ) from None

__version__ = "0.1.0"
