"""Python imports this at the start of every program that an app executes, since its folder is on PYTHONPATH.

It installs the bind shim where TARMAC_BIND (`declared:real`) asks for it, and then hands over to the `sitecustomize`
that would have been imported without us, if there is one.
"""

import importlib.machinery
import importlib.util
import os
import sys

_here = os.path.dirname(os.path.abspath(__file__))


def _install() -> None:
    declared, _, real = os.environ["TARMAC_BIND"].partition(":")
    import tarmac_bind  # type: ignore[import-not-found]  # beside this file, which is on PYTHONPATH

    tarmac_bind.install(int(declared), int(real))


def _hand_over() -> None:
    others = [place for place in sys.path if os.path.abspath(place or os.curdir) != _here]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", others)
    if spec is None or spec.loader is None:
        return
    module = importlib.util.module_from_spec(spec)
    sys.modules["sitecustomize"] = module
    spec.loader.exec_module(module)


if "TARMAC_BIND" in os.environ:
    _install()
_hand_over()
