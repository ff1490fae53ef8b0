"""Pod Security Standard "restricted", field by field.

Source: kubernetes.io/docs/concepts/security/pod-security-standards. `make manifests-check` asks an
API server the same; this says it where there is none.
"""

from typing import Any

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim",
    "projected", "secret",
}  # fmt: skip
SECCOMP = ("RuntimeDefault", "Localhost")


def violations(template: dict[str, Any]) -> list[str]:
    """Return the fields of a pod template that `restricted` forbids."""
    spec = template["spec"]
    pod = spec.get("securityContext", {})
    problems = [name for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    problems += [
        f"volume {volume['name']}"
        for volume in spec.get("volumes", [])
        if not (set(volume) - {"name"}) <= VOLUMES
    ]
    problems += [name for name in ("sysctls", "seLinuxOptions", "windowsOptions") if name in pod]
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        for container in spec.get(kind, []):
            problems += [f"{container['name']}: {name}" for name in _of_container(container, pod)]
    return problems


def _of_container(container: dict[str, Any], pod: dict[str, Any]) -> list[str]:
    own = container.get("securityContext", {})
    both = pod | own
    capabilities = own.get("capabilities", {})
    wrong = {
        "privileged": own.get("privileged"),
        "procMount": own.get("procMount", "Default") != "Default",
        "seLinuxOptions": "seLinuxOptions" in own,
        "appArmorProfile": both.get("appArmorProfile", {}).get("type") == "Unconfined",
        "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
        "capabilities.drop": "ALL" not in capabilities.get("drop", []),
        "capabilities.add": set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"},
        "runAsNonRoot": both.get("runAsNonRoot") is not True,
        "runAsUser": both.get("runAsUser") == 0,
        "seccompProfile": both.get("seccompProfile", {}).get("type") not in SECCOMP,
        "hostPort": any("hostPort" in port for port in container.get("ports", [])),
    }
    return [name for name, is_wrong in wrong.items() if is_wrong]
