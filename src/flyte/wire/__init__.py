"""Every message that crosses a process boundary, and nothing else.

Five groups, in this order: *specs* (what a declaration becomes), *records* (what the HTTP API answers), *filters*
(which entries a list has), *frames* (what runs over the duplex link between the control plane and a worker, a
replica, the agent or the gateway) and *containers* (what the program that makes container images is told).
HTTP bodies are JSON, frames are msgpack: four bytes of length (little endian), then the frame.
`flyte` and `tarmac` share this module and `flyte.rules`, whose rules its fields name; both import msgspec and nothing
else. Decoding checks types alone: the rules are applied where a record or frame comes in (`tarmac.checks`).
"""

from __future__ import annotations

from flyte.wire.agent_frames import *  # noqa: F403
from flyte.wire.artifacts import *  # noqa: F403
from flyte.wire.containers import *  # noqa: F403
from flyte.wire.filters import *  # noqa: F403
from flyte.wire.frames import *  # noqa: F403
from flyte.wire.framing import *  # noqa: F403
from flyte.wire.gateway_frames import *  # noqa: F403
from flyte.wire.ids import *  # noqa: F403
from flyte.wire.records import *  # noqa: F403
from flyte.wire.runs import *  # noqa: F403
from flyte.wire.specs import *  # noqa: F403
from flyte.wire.storage import *  # noqa: F403
from flyte.wire.triggers import *  # noqa: F403
