"""A guard: the process between a parent and its child where the kernel ends no child with its parent."""

from __future__ import annotations

import sys

from tarmac.process.starting import guard

if __name__ == "__main__":
    sys.exit(guard(sys.argv[1], sys.argv[2:]))
