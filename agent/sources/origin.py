"""Which API servers to follow when nobody says so.

Law: looks at the environment and at whether files exist; reads and imports nothing, so that it can be asked before the
agent answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from agent.errors import ConfigError

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


class Origin(NamedTuple):
    """Which API servers, and as whom.

    Attributes:
        kubeconfig: path, or several joined by colons; "" for the service account of the pod.
        context: of the kubeconfig, "" for its current one.
        service_account: folder with token and ca.crt.
    """

    kubeconfig: str
    context: str = ""
    service_account: Path = SERVICE_ACCOUNT

    def __str__(self) -> str:
        if not self.kubeconfig:
            return "the API servers of this pod's cluster"
        return f"the API servers of kubeconfig {self.kubeconfig}" + (
            f", context {self.context}" if self.context else ""
        )


def detect(
    environ: Mapping[str, str], *, kubeconfig: str = "", context: str = "", service_account: Path = SERVICE_ACCOUNT
) -> Origin:
    """Choose the origin: the one named, else in-cluster, else $KUBECONFIG, else ~/.kube/config.

    Raises:
        ConfigError: there is none; the hint says what to write.
    """
    if kubeconfig:
        return Origin(_existing(kubeconfig, "kubeconfig"), context)
    if not context and environ.get("KUBERNETES_SERVICE_HOST") and (service_account / "token").is_file():
        return Origin("", "", service_account)
    if environ.get("KUBECONFIG"):
        return Origin(_existing(environ["KUBECONFIG"], "$KUBECONFIG"), context)
    own = Path(environ.get("HOME", "/nonexistent")) / ".kube" / "config"
    if own.is_file():
        return Origin(str(own), context)
    raise ConfigError(
        "no source of cluster state is named, this is no pod with a service account, and there is no kubeconfig",
        hint="Write --source file:PATH for the output of `kubectl get services,endpointslices,namespaces -A -o json`, "
        "or --source kubernetes with KUBECONFIG=FILE in the environment",
    )


def _existing(paths: str, what: str) -> str:
    expanded = [str(Path(path).expanduser()) for path in paths.split(":") if path]
    if not any(Path(path).is_file() for path in expanded):
        raise ConfigError(f"{what} names {paths}, and there is no such file", hint="Name an existing kubeconfig")
    return ":".join(expanded)
