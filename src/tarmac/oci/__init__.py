"""Container images without a container engine: an environment, its interpreter and what these need, as an OCI layout.

`layers` writes reproducible archives, `contents` says what lies in an image, `base` reads the image that another one
is built on, `layout` is the folder with manifests, `sbom` lists the components, and `registry` sends all of it.
`write` is the program that `flyte build --oci` and `--push` start; it needs no platform that runs.
"""


class ContainerFailed(Exception):
    """A container image cannot be made or sent; the text says why and what to do."""
