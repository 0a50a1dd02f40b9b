"""The parameters that many routes share, each described once."""

from __future__ import annotations

from typing import Annotated

from litestar.params import Parameter

LONGEST_WAIT = 300
"""Seconds that a call with `wait` is kept waiting at most."""

Name = Annotated[str, Parameter(description="The name, as the lists show it.")]
Digest = Annotated[str, Parameter(pattern="^[0-9a-f]{64}$", description="sha256 of the bytes, in hex.")]
Project = Annotated[str, Parameter(description="The project's id.")]
Domain = Annotated[str, Parameter(description="development, staging or production.")]
Limit = Annotated[int, Parameter(ge=1, le=1000, description="How many to answer at most.")]
Wait = Annotated[
    float, Parameter(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end before answering.")
]
Tail = Annotated[int | None, Parameter(ge=0, description="Only that many last lines.")]
LogAfter = Annotated[int | None, Parameter(query="after", ge=0, description="Only what follows this byte offset.")]
Follow = Annotated[bool, Parameter(description="Go on with what is written from now on.")]
After = Annotated[int | None, Parameter(ge=0, description="Only events after this number, and no snapshot.")]
LastEventId = Annotated[
    int | None,
    Parameter(
        header="Last-Event-ID", required=False, description="What a browser sends when it reconnects; as `after`."
    ),
]
