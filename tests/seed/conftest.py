"""What the seed's tests share: the page, and a platform that also speaks TLS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from tests import ports
from tests.conftest import ON_CI
from tests.platform_fixture import Platform, running
from tests.seed.page import Page, page_path, read
from tests.seed.platform_calls import Tls

WEBHOOK_HOST = "your-webhook-url"
"""The name that the page's curl command calls."""


@pytest.fixture(scope="session")
def page() -> Page:
    """The page; where it is absent its tests are skipped, and on CI they fail."""
    path = page_path()
    if path.is_file():
        return read(path)
    reason = f"the seed page is not at {path}; TARMAC_SEED_PAGE says where else it is"
    if ON_CI:
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(autouse=True)
def _needs_the_page(page: Page) -> None:
    """Programs of our own are tested elsewhere too; what stands here is about the page."""


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    """A test authority, and a certificate of its for the host of the page's curl command."""
    folder = tmp_path_factory.mktemp("tls")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "authority.pem")
    authority.issue_cert(WEBHOOK_HOST).private_key_and_cert_chain_pem.write_to_path(folder / "door.pem")
    with ports.one() as port:
        yield Tls(authority=folder / "authority.pem", certificate=folder / "door.pem", port=port)


@pytest.fixture(scope="session")
def platform(tls: Tls) -> Iterator[Platform]:
    """One platform for all of these tests."""
    with running({"tls_cert": str(tls.certificate), "tls_port": str(tls.port)}) as shared:
        yield shared


@pytest.fixture(scope="session")
def silence() -> float:
    """Seconds of silence that a WebSocket has to survive: short by default, five minutes with TARMAC_SLOW=1."""
    import os

    return 300.0 if os.environ.get("TARMAC_SLOW") == "1" else 5.0


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that tasks wait for."""
    return tmp_path / "open"
