"""`Resources`: what a process asks for, and the accelerators that there are."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from flyte import wire

DeviceClass = Literal["GPU", "TPU", "NEURON", "AMD_GPU", "HABANA_GAUDI", "APPLE_SILICON"]

_GPUS = ("A10", "A10G", "A100", "A100 80G", "B200", "GB10", "H100", "H200", "L4", "L40s", "T4", "V100", "RTX PRO 6000")
_AMD = ("MI100", "MI210", "MI250", "MI250X", "MI300A", "MI300X", "MI325X", "MI350X", "MI355X")
_NEURON = ("Inf1", "Inf2", "Trn1", "Trn1n", "Trn2", "Trn2u")
_GAUDI = ("Gaudi1",)
_TPUS = ("V5P", "V5LITE_POD", "V6E")


@dataclass(frozen=True, slots=True)
class Device:
    """Accelerators of one kind. Use `GPU`, `TPU` and the like to make one."""

    quantity: int
    device_class: DeviceClass
    device: str | None = None
    """The model; None is any."""
    partition: str | None = None

    def __post_init__(self) -> None:
        if self.quantity < 1:
            raise ValueError(f"a number of accelerators must be at least 1, not {self.quantity}")

    def __str__(self) -> str:
        return f"{self.device or self.device_class}:{self.quantity}"


def _device(device_class: DeviceClass, known: tuple[str, ...], model: str, quantity: int, partition: Any) -> Device:
    if model not in known:
        raise ValueError(f"{model!r} is not a {device_class}; choose one of {', '.join(known)}")
    return Device(quantity, device_class, model, partition)


def GPU(device: str, quantity: int = 1, partition: str | None = None) -> Device:
    """NVIDIA GPUs of one model, such as `GPU("A100", 2)`."""
    return _device("GPU", _GPUS, device, quantity, partition)


def TPU(device: str, partition: str | None = None) -> Device:
    """A TPU slice."""
    return _device("TPU", _TPUS, device, 1, partition)


def Neuron(device: str, quantity: int = 1) -> Device:
    """AWS Neuron devices."""
    return _device("NEURON", _NEURON, device, quantity, None)


def AMD_GPU(device: str, quantity: int = 1) -> Device:
    """AMD GPUs."""
    return _device("AMD_GPU", _AMD, device, quantity, None)


def HABANA_GAUDI(device: str = "Gaudi1", quantity: int = 1) -> Device:
    """Habana Gaudi accelerators."""
    return _device("HABANA_GAUDI", _GAUDI, device, quantity, None)


def APPLE_SILICON(quantity: int = 1) -> Device:
    """The GPU of an Apple machine."""
    return Device(quantity, "APPLE_SILICON")


_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50}
_QUANTITY = re.compile(r"^(\d+(?:\.\d+)?)(k|[KMGTP]i?)?$")


def parse_bytes(text: str, what: str = "memory") -> int:
    """Bytes of a quantity such as `512Mi`, `2G` or `1.5Gi`. Raises ValueError that names `what`."""
    found = _QUANTITY.match(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"{what} must be text such as '512Mi' or '2Gi', not {text!r}")
    return int(float(found[1]) * _UNITS[found[2] or ""])


def parse_cpu(value: float | str) -> float:
    """Cores of `2`, `0.5`, `"1"` or `"500m"`. Raises ValueError for anything else and for negative numbers."""
    text = str(value)
    try:
        cores = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        raise ValueError(f"cpu must be cores such as 2, '0.5' or '500m', not {value!r}") from None
    if isinstance(value, bool) or cores < 0:
        raise ValueError(f"cpu must not be negative or a bool: {value!r}")
    return cores


@dataclass(frozen=True, slots=True)
class Resources:
    """What a process asks for. A pair is (request, limit); on one machine the request counts, as a weight for cpu."""

    cpu: float | str | tuple[float | str, float | str] | None = None
    """Cores."""
    memory: str | tuple[str, str] | None = None
    gpu: int | str | Device | None = None
    """A number, `"T4:1"`, or a Device."""
    disk: str | None = None
    shm: str | None = None
    """`"auto"`, or a quantity."""

    def __post_init__(self) -> None:
        self.to_wire()

    def to_wire(self) -> wire.ResourcesSpec:
        cpu, memory = _request(self.cpu, parse_cpu), _request(self.memory, parse_bytes)
        return wire.ResourcesSpec(
            cpu=cpu,
            memory=memory,
            gpu=str(_gpu(self.gpu)) if self.gpu else None,
            disk=parse_bytes(self.disk, "disk") if self.disk else None,
            shm=parse_bytes(self.shm, "shm") if self.shm and self.shm != "auto" else None,
        )


def _request(value: Any, parse: Callable[[Any], Any]) -> Any:
    if not isinstance(value, tuple):
        return None if value is None else parse(value)
    if len(value) != 2:
        raise ValueError(f"a pair is (request, limit), not {value!r}")
    request, limit = map(parse, value)
    if request > limit:
        raise ValueError(f"the request {value[0]!r} is over the limit {value[1]!r}")
    return request


def _gpu(value: int | str | Device) -> Device:
    if isinstance(value, Device):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return Device(value, "GPU")
    model, _, count = str(value).partition(":")
    families: tuple[tuple[DeviceClass, tuple[str, ...]], ...] = (
        ("GPU", _GPUS),
        ("AMD_GPU", _AMD),
        ("NEURON", _NEURON),
        ("HABANA_GAUDI", _GAUDI),
    )
    for device_class, known in families:
        if model in known and count.isdigit():
            return Device(int(count), device_class, model)
    raise ValueError(f"gpu must be a number, a Device, or text such as 'T4:1', not {value!r}")
