"""What lies in the storage when all runs are over: everything that is named, and no more after the collector."""

from __future__ import annotations

import re

from tests.faults.world import World
from tests.platform_fixture import Platform
from tests.torture.checking import rows_of

_DIGEST = re.compile(r"[0-9a-f]{64}")

PATIENCE = 90.0


def violations(platform: Platform, world: World, database_url: str) -> list[str]:
    """Let the collector run, then compare the blobs with the rows; the platform is still up."""
    world.http.timeout = PATIENCE
    world.call("POST", "/v1/storage/prune", {"grace": 0}, PATIENCE)
    left = world.call("POST", "/v1/storage/prune", {"grace": 0, "dry_run": True}, PATIENCE).get("removed", [])
    with rows_of(platform.home, database_url) as rows:
        found = rows("select inputs_blob from actions union select outputs_blob from actions")
        found += rows(
            "select outputs_blob from cache union select bundle from tasks union select bundle from app_versions"
        )
        files = rows(
            "select outputs from actions where task = 'hurt.made' and phase = 'succeeded' and outputs is not null"
        )
    named = {row[0] for row in found if row[0]}
    stored = {path.name for path in (platform.home / "blobs").iterdir() if _DIGEST.fullmatch(path.name)}
    texts = [bytes(row[0]) for row in files] + [
        (platform.home / "blobs" / name).read_bytes() for name in named & stored
    ]
    numbers = {path.name for path in (platform.home / "files").iterdir() if re.fullmatch("[0-9a-f]{32}", path.name)}
    unnamed = {name for name in numbers if not any(name.encode() in text for text in texts)}
    return [
        *(f"after the collector {use['items']} {use['kind']} are left that nothing refers to" for use in left),
        *(f"the blob {name} is named and is gone" for name in sorted(named - stored)),
        *(f"the file {name} is named by nothing and is there" for name in sorted(unnamed)),
    ]
