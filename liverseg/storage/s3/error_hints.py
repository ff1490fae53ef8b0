"""What to do about an S3 server's refusals, by the code that it gives them."""

_HINTS = {
    "AccessDenied": "AWS_ACCESS_KEY_ID needs the rights to get, put, delete and list there",
    "AllAccessDisabled": "the bucket's owner has closed it",
    "AuthorizationHeaderMalformed": "set AWS_REGION to the bucket's region",
    "ExpiredToken": "AWS_SESSION_TOKEN has expired, get new credentials",
    "InvalidAccessKeyId": "AWS_ACCESS_KEY_ID is unknown there",
    "InvalidToken": "AWS_SESSION_TOKEN does not belong to AWS_ACCESS_KEY_ID",
    "NoSuchBucket": "make the bucket, or correct the store's URL",
    "PermanentRedirect": "set AWS_REGION to the bucket's region",
    "RequestTimeTooSkewed": "set this machine's clock",
    # VersityGW's name for InvalidAccessKeyId.
    "XAdminUserNotFound": "AWS_ACCESS_KEY_ID is unknown there",
    "SignatureDoesNotMatch": "AWS_SECRET_ACCESS_KEY is not the one of AWS_ACCESS_KEY_ID",
}


def hint(code: str | None) -> str:
    """Return what to do, in a few words."""
    return _HINTS.get(code or "", "look at the server's log")
