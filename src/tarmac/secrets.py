"""Secrets at rest: encrypted with AES-256-GCM under a key that is never in the database.

The ciphertext is bound to project, domain and name, so that a row which is copied to another name cannot be decrypted.
Its form: one byte of format (1), a nonce of 12 bytes, the ciphertext with its tag.
"""

from __future__ import annotations

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from flyte.errors import RuntimeSystemError

_FORMAT = b"\x01"
_NONCE = 12


def derive(master_key: bytes, purpose: str) -> bytes:
    """A key of 32 bytes for one purpose; it reveals nothing of the master key or of the keys for other purposes."""
    return HKDF(algorithm=SHA256(), length=32, salt=None, info=b"tarmac " + purpose.encode()).derive(master_key)


class Sealer:
    """Encrypts and decrypts the platform's secrets, all of them with one key."""

    def __init__(self, master_key: bytes) -> None:
        self._cipher = AESGCM(derive(master_key, "secrets"))

    def seal(self, project: str, domain: str, name: str, value: str) -> bytes:
        """The encrypted value; encrypting it again gives other bytes."""
        nonce = os.urandom(_NONCE)
        return _FORMAT + nonce + self._cipher.encrypt(nonce, value.encode(), _bound_to(project, domain, name))

    def open(self, project: str, domain: str, name: str, sealed: bytes) -> str:
        """The value. Raises RuntimeSystemError if it was encrypted with another key, or for another name."""
        nonce, text = sealed[1 : 1 + _NONCE], sealed[1 + _NONCE :]
        try:
            if sealed[:1] != _FORMAT or len(nonce) != _NONCE:
                raise InvalidTag
            return self._cipher.decrypt(nonce, text, _bound_to(project, domain, name)).decode()
        except InvalidTag:
            raise RuntimeSystemError(
                "SecretUnreadable",
                f"secret {name!r} of {project}/{domain} was sealed with another master.key; create it again: "
                f"flyte create secret {name}",
            ) from None


def _bound_to(project: str, domain: str, name: str) -> bytes:
    return f"{project}/{domain}/{name}".encode()
