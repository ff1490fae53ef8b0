"""Make the Secret `liverseg-store` with random keys, once, and give the right to do so back."""

import secrets
from pathlib import Path

from kubernetes import client, config

NAME = "liverseg-store"
BINDING = "liverseg-store-keys"
NAMESPACE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
CONFLICT = 409


def make_secret(namespace: str) -> bool:
    """Create the Secret; False: there is one, and whatever is stored needs its keys."""
    body = client.V1Secret(
        metadata=client.V1ObjectMeta(name=NAME, labels={"app.kubernetes.io/part-of": "liverseg"}),
        string_data={
            "AWS_ENDPOINT_URL": f"http://liverseg-minio.{namespace}.svc:9000",
            "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
            "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
        },
    )
    try:
        client.CoreV1Api().create_namespaced_secret(namespace, body)
    except client.ApiException as exc:
        if exc.status != CONFLICT:
            raise
        return False
    return True


if __name__ == "__main__":
    config.load_incluster_config()
    own = NAMESPACE.read_text(encoding="utf-8").strip()
    print(f"Secret {NAME}:", "made" if make_secret(own) else "exists, left as it is")
    client.RbacAuthorizationV1Api().delete_namespaced_role_binding(BINDING, own)
