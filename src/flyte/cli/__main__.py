"""`python -m flyte.cli` is `flyte`."""

from flyte.cli import main

main()
