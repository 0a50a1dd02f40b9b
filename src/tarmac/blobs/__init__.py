"""Large values and code bundles, by the sha256 of their bytes. A stored blob is never changed."""

from tarmac.blobs.files import Blobs

__all__ = ["Blobs"]
