"""The store in an S3 bucket, and how it waits for its server."""
