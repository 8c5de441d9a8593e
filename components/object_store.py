"""The keys of an S3 server, where the S3 clients of the cluster's services look for them.

Owns the credentials file, which is a Swarm secret, the file with the server's certificates and the
variables that name both. Users' programs need no storage options, which would travel in the graph.

s3fs, boto3 and the AWS CLI read everything from the credentials file, pyarrow only the keys. It
takes the endpoint from `AWS_ENDPOINT_URL`, for addresses such as s3://bucket/data. It ignores
`AWS_CA_BUNDLE` and reads `SSL_CERT_FILE`, which applies to other servers too: in workers and
notebook the user decides on it; the scheduler connects to no other server.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pulumi

from components.service import MountedFile, mount_config, mount_secret
from config.settings import ObjectStoreSettings

FILE_NAME = "s3_credentials"  # in /run/secrets
SCHEDULER_FILE = "/dev/shm/s3_credentials"  # noqa: S108  memory of the container, never on disk
CA_TARGET = "/etc/dask-swarm/s3-ca.pem"
# Servers other than Amazon's often refuse the checksums that clients add by default.
CHECKSUMS = ("request_checksum_calculation", "response_checksum_validation")


@dataclass(frozen=True, kw_only=True)
class ObjectStore:
    """The files that services mount, and the variables that name them; all empty without keys."""

    secrets: tuple[MountedFile, ...] = ()
    configs: tuple[MountedFile, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)


def declare_object_store(
    name: str, settings: ObjectStoreSettings | None, opts: pulumi.ResourceOptions
) -> ObjectStore:
    """Declare the credentials as a Swarm secret and the certificates, if any, as a config."""
    if settings is None:
        return ObjectStore()
    credentials = credentials_file(settings)
    bundle = settings.ca_bundle
    return ObjectStore(
        secrets=(mount_secret(f"{name}-credentials", FILE_NAME, credentials, opts),),
        configs=(mount_config(f"{name}-ca", CA_TARGET, bundle, opts),) if bundle else (),
        variables=object_store_variables(settings),
    )


def credentials_file(settings: ObjectStoreSettings) -> str:
    """Return keys, region and endpoint in the format of ~/.aws/credentials.

    Without blanks around `=`: for pyarrow a `#` or `;` after a blank begins a comment.
    """
    values = {
        "aws_access_key_id": settings.access_key,
        "aws_secret_access_key": settings.secret_key,
        "region": settings.region,
        "endpoint_url": settings.endpoint,
        **dict.fromkeys(CHECKSUMS, "when_required"),
    }
    lines = [f"{key}={value}" for key, value in values.items() if value]
    style = "path" if settings.path_style else "virtual"
    return "\n".join(["[default]", *lines, "s3=", f"    addressing_style={style}", ""])


def object_store_variables(settings: ObjectStoreSettings) -> dict[str, str]:
    """Return the variables by which S3 clients find the files; none is a secret."""
    values = {
        "AWS_SHARED_CREDENTIALS_FILE": f"/run/secrets/{FILE_NAME}",
        "AWS_ENDPOINT_URL": settings.endpoint,
        "AWS_REGION": settings.region,
        "AWS_DEFAULT_REGION": settings.region,
        "AWS_CA_BUNDLE": CA_TARGET if settings.ca_bundle else "",
        **{f"AWS_{name.upper()}": "when_required" for name in CHECKSUMS},
        "S3_BUCKET": settings.bucket,
    }
    return {name: value for name, value in values.items() if value}


def scheduler_variables(store: ObjectStore) -> dict[str, str]:
    """Return the scheduler's environment variables; the user's are for work only.

    Workers send it the credentials file (`images/scheduler_preload.py`), so that a new key does
    not restart it. Nor does another bucket, whose name only users' programs need.
    """
    if not store.variables:
        return {}
    variables = {name: value for name, value in store.variables.items() if name != "S3_BUCKET"}
    certificates = {"SSL_CERT_FILE": CA_TARGET} if store.configs else {}
    return {**variables, "AWS_SHARED_CREDENTIALS_FILE": SCHEDULER_FILE, **certificates}
