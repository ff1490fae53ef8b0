"""Make the bucket of LIVERSEG_STORE, with the rule that incomplete multiparts go after a day."""

import os
from urllib.parse import urlsplit

from minio import Minio, S3Error
from minio.commonconfig import ENABLED, Filter
from minio.lifecycleconfig import AbortIncompleteMultipartUpload, LifecycleConfig, Rule

from liverseg.storage.s3.credentials import S3Credentials, credentials_from

RULE = LifecycleConfig(
    [
        Rule(
            status=ENABLED,
            rule_filter=Filter(prefix=""),
            rule_id="incomplete-multiparts",
            abort_incomplete_multipart_upload=AbortIncompleteMultipartUpload(
                days_after_initiation=1
            ),
        )
    ]
)
# How servers say that they know no such rule: MinIO, others.
UNKNOWN = ("InvalidArgument", "MalformedXML", "NotImplemented")


def make_bucket(credentials: S3Credentials, bucket: str) -> bool:
    """Make the bucket unless there is one; False: the server knows no such rule."""
    server = Minio(
        credentials.host,
        credentials.access_key,
        credentials.secret_key,
        credentials.session_token,
        secure=credentials.secure,
        region=credentials.region,
    )
    if not server.bucket_exists(bucket):
        server.make_bucket(bucket)
    try:
        server.set_bucket_lifecycle(bucket, RULE)
    except S3Error as exc:
        if exc.code not in UNKNOWN:
            raise
        return False
    return True


if __name__ == "__main__":
    name = urlsplit(os.environ["LIVERSEG_STORE"]).netloc
    ruled = make_bucket(credentials_from(os.environ), name)
    print(
        f"bucket {name}: there;",
        "incomplete multiparts are aborted after a day"
        if ruled
        else "this server takes no rule for incomplete multiparts (MinIO has a setting instead)",
    )
