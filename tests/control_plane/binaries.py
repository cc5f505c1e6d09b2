"""Where etcd, kube-apiserver and CoreDNS are: $KUBEBUILDER_ASSETS and $COREDNS_BIN, else what `make envtest` built."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def folder() -> Path:
    """Return the folder the control plane's programs are expected in."""
    named = os.environ.get("KUBEBUILDER_ASSETS")
    if named:
        return Path(named)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "nodens" / "envtest"


def program(name: str) -> Path | None:
    """Return the path of a program of the control plane, or None."""
    path = folder() / name
    return path if path.is_file() and os.access(path, os.X_OK) else None


def coredns() -> Path | None:
    """Return the path of CoreDNS, or None."""
    named = os.environ.get("COREDNS_BIN")
    if named:
        return Path(named) if os.access(named, os.X_OK) else None
    return program("coredns")


def missing() -> str:
    """Return why no control plane can be started, or an empty string."""
    absent = [name for name in ("etcd", "kube-apiserver") if program(name) is None]
    if absent:
        return f"no {' and '.join(absent)} in {folder()} (`make envtest` builds them, or set KUBEBUILDER_ASSETS)"
    if shutil.which("openssl") is None:
        return "no openssl on this machine (it makes the test certificates)"
    return ""


def coredns_missing() -> str:
    """Return why no CoreDNS can be started, or an empty string."""
    return "" if coredns() else f"no coredns in {folder()} (`make envtest` builds it, or set COREDNS_BIN)"
