"""Environment variables of a run, and what the import of its code made of them.

Code is imported once, before a run is known. Where the import looks at a variable that a run sets, that run's processes
import it anew.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from flyte.wire import PoolSpec

_READ_BY_LIBRARIES = re.compile(
    "OMP_|MKL_|OPENBLAS_|BLIS_|NUMEXPR_|KMP_|CUDA_|NVIDIA_|NCCL_|TF_|XLA_|PYTORCH_|TORCH_|PYTHON|LD_|MALLOC_|GLIBC_"
    "|LC_|LANG|TZ$"
)
"""Variables that libraries which are not written in Python, and Python as it starts, read without anybody seeing it."""

_OURS = ("FLYTE_", "TARMAC_")


class Looked:
    """Which variables the import of each code looked at, as its fork servers have told."""

    def __init__(self) -> None:
        self._names: dict[str, set[str] | None] = {}

    def heard(self, code: str, names: list[str] | None) -> None:
        """`names`: None where it may have looked at any."""
        known = self._names.setdefault(code, set())
        self._names[code] = None if known is None or names is None else known | set(names)

    def meets(self, code: str, variables: Mapping[str, str]) -> bool:
        """Whether the import has looked at one of the variables, as far as anybody knows."""
        names = self._names.get(code)
        return bool(variables) and (names is None or any(_is_read(name, names) for name in variables))


def _is_read(name: str, names: set[str]) -> bool:
    return name in names or _READ_BY_LIBRARIES.match(name) is not None


def imported_with(spec: PoolSpec, variables: Mapping[str, str], digest: str) -> PoolSpec:
    """`spec` for processes that import the code with these variables; those of the platform are not replaced."""
    own = {name: value for name, value in variables.items() if not name.startswith(_OURS)}
    return msgspec.structs.replace(spec, id=f"{spec.id}-i{digest}", env={**spec.env, **own})
