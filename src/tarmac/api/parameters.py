"""The parameters that many routes share, each described once."""

from __future__ import annotations

from typing import Annotated

from litestar.params import HeaderParameter, PathParameter, QueryParameter

from flyte import rules

LONGEST_WAIT = 300
"""Longest time, in seconds, that a call with `wait` waits."""

LARGEST = int(rules.POSITION.most)
"""The largest number that a database accepts."""

MOST_ATTEMPTS = int(rules.COUNT.most)

LATEST = rules.MOMENT.most
"""The end of the year 9999, in seconds since 1970."""

Name = Annotated[str, PathParameter(description="The name, as the lists show it.")]
Digest = Annotated[str, PathParameter(pattern="^[0-9a-f]{64}$", description="sha256 of the bytes, in hex.")]
Project = Annotated[str, QueryParameter(description="The project's id.")]
Domain = Annotated[str, QueryParameter(description="development, staging or production.")]
Limit = Annotated[int, QueryParameter(ge=1, le=1000, description="How many to answer at most.")]
Offset = Annotated[int, QueryParameter(ge=0, le=LARGEST, description="How many to leave out first.")]
Wait = Annotated[
    float, QueryParameter(ge=0, le=LONGEST_WAIT, description="Seconds to wait for the end before answering.")
]
Tail = Annotated[int | None, QueryParameter(ge=0, le=LARGEST, description="Only that many last lines.")]
LogAfter = Annotated[
    int | None, QueryParameter(name="after", ge=0, le=LARGEST, description="Only what follows this byte offset.")
]
Follow = Annotated[bool, QueryParameter(description="Go on with what is written from now on.")]
Partial = Annotated[
    bool, QueryParameter(description="With `follow`: also what there is of a line that has not ended, marked `open`.")
]
After = Annotated[
    int | None, QueryParameter(ge=0, le=LARGEST, description="Only events after this number, and no snapshot.")
]
LastEventId = Annotated[
    int | None,
    HeaderParameter(
        name="Last-Event-ID",
        required=False,
        ge=0,
        le=LARGEST,
        description="What a browser sends when it reconnects; as `after`.",
    ),
]
