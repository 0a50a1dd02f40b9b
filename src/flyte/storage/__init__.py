"""Files in object stores (S3, GCS, Azure) and wherever fsspec reaches: settings, and to copy and stream them.

`flyte.io.File` and `Dir` use it for their `s3://`, `gs://`, `az://` and `abfs://` paths. Settings are those of
`flyte.init(storage=S3(…))`, else those that the environment names.
"""

from flyte.object_store import ABFS, GCS, S3, Storage
from flyte.storage._filesystem import get_configured_fsspec_kwargs, get_underlying_filesystem
from flyte.storage._moves import exists, get, get_stream, put, put_stream
from flyte.storage._paths import get_random_local_directory, get_random_local_path, is_remote, join

__all__ = [
    "ABFS",
    "GCS",
    "S3",
    "Storage",
    "exists",
    "get",
    "get_configured_fsspec_kwargs",
    "get_random_local_directory",
    "get_random_local_path",
    "get_stream",
    "get_underlying_filesystem",
    "is_remote",
    "join",
    "put",
    "put_stream",
]
