"""File systems by URI."""

import os

import fsspec


def filesystem(uri: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """Returns the file system of a URI, and the path in it."""
    scheme, _, rest = uri.partition("://")
    if scheme == "minio":
        endpoint = os.environ.get(
            "AWS_ENDPOINT_URL", "http://minio-service.kubeflow:9000"
        )
        fs = fsspec.filesystem(
            "s3",
            client_kwargs={"endpoint_url": endpoint},
            use_listings_cache=False,
            skip_instance_cache=True,
        )
        return fs, rest
    return fsspec.core.url_to_fs(uri, use_listings_cache=False)
