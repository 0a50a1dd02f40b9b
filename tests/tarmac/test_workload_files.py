"""What a task puts in the place of a file that the platform reads or writes does not lead the platform elsewhere."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from flyte.errors import CodeBundleError, NotFoundError
from flyte.wire import SLOT_SIZE
from tarmac import logs
from tarmac.agent.bundle import unpack
from tarmac.agent.last_lines import tail
from tarmac.blobs import FileBlobs
from tarmac.control.workers.in_flight import LARGEST, InFlightFile
from tarmac.gateway.access_log import append

DIGEST = "a" * 64


def link(path: Path) -> None:
    path.symlink_to(path.parent / "token")


def pipe(path: Path) -> None:
    os.mkfifo(path)


def listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening, contextlib.chdir(path.parent):  # its whole path is too long
        listening.bind(path.name)


@pytest.fixture(params=[link, pipe, listener])
def planted(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that is not a regular file, beside the owner's token."""
    (tmp_path / "token").write_text("tk_secret")
    plant: Callable[[Path], None] = request.param
    plant(tmp_path / DIGEST)
    return tmp_path / DIGEST


def test_a_log_that_leads_elsewhere_has_no_lines_and_nobody_waits_for_it(planted: Path) -> None:
    assert logs.read(planted) == []
    assert logs.read(planted, tail=3) == []
    assert tail(planted) == ""


def test_an_access_log_that_leads_elsewhere_is_not_written_to(planted: Path) -> None:
    with pytest.raises(OSError):
        append(planted, [b"{}"])
    assert (planted.parent / "token").read_text() == "tk_secret"


async def test_a_blob_that_leads_elsewhere_is_not_there(planted: Path) -> None:
    with pytest.raises(NotFoundError, match="is not a regular file"):
        await FileBlobs(planted.parent).get(DIGEST)


def test_a_bundle_that_leads_elsewhere_is_named_and_fails_alone(planted: Path) -> None:
    with pytest.raises(CodeBundleError, match="is not a regular file"):
        unpack(planted, DIGEST, planted.parent / "code")


def test_the_platform_starts_however_long_a_worker_made_the_file_of_holdings(tmp_path: Path) -> None:
    path = tmp_path / "holdings"
    path.write_bytes(b'{"unit":"w-1","held":[]}\n'.ljust(SLOT_SIZE, b"\0"))
    os.truncate(path, 2**42)
    assert list(InFlightFile(path).left) == [0]
    assert LARGEST < 2**27
