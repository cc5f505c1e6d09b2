"""A real control plane on the loopback: etcd and kube-apiserver, TLS, tokens, an audit log; no network, no root.

Law: it can be stopped, killed, frozen, compacted and replaced like a real one, always at the same address.
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Self

from tests.control_plane import binaries
from tests.control_plane.api_client import ApiClient, ApiError
from tests.control_plane.processes import Child, free_port, wait_until

SERVICE_RANGE = "10.96.0.0/12,fd00:10:96::/108"
"""The ranges the cluster generator hands out."""
ADMIN, READER, PEER = "admin-token", "reader-token", "peer-token"
USERS = {ADMIN: "admin", READER: "nodens", PEER: "coredns"}
"""Who each token is. nodens and coredns may list and watch three kinds (coredns also pods), nothing else."""
_POLICY = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "users": ["nodens", "coredns"]}, {"level": "None"}],
}


class Spent(NamedTuple):
    """One request in the audit log."""

    user: str
    verb: str
    resource: str
    uri: str
    code: int
    stage: str
    """ResponseComplete, or ResponseStarted for a watch that is still open."""
    audit_id: str

    @property
    def streamed(self) -> bool:
        """Whether it is a list by way of a watch."""
        return "sendInitialEvents=true" in self.uri

    @property
    def is_list(self) -> bool:
        """Whether it reads a whole kind; one namespace, asked for the cluster's identity, is none."""
        return (self.verb == "list" and "metadata.name" not in self.uri) or self.streamed


class ControlPlane:
    """etcd + kube-apiserver below `root`; a context manager."""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.etcd_port, self.peer_port, self.port = free_port(), free_port(), free_port()
        self.api: Child | None = None
        self.etcd: Child | None = None
        self._etcd_life = 0
        self._certificates()
        self._tokens()
        self.admin = ApiClient("127.0.0.1", self.port, ADMIN, str(self.ca))

    def __enter__(self) -> Self:
        try:
            self.start_etcd()
            self.start_api()
            self._permit()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    # ── life ──

    def start_etcd(self) -> None:
        client = f"http://127.0.0.1:{self.etcd_port}"
        peer = f"http://127.0.0.1:{self.peer_port}"
        command = [
            binaries.program("etcd"), "--data-dir", self.root / f"etcd-{self._etcd_life}", "--unsafe-no-fsync",
            "--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error",
            "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
            "--quota-backend-bytes", str(4 << 30),
        ]  # fmt: skip
        self.etcd = Child([str(part) for part in command], self.root / "etcd.log")
        wait_until("etcd", self._etcd_answers)

    def _etcd_answers(self) -> bool:
        if self.etcd is not None:
            self.etcd.check()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.etcd_port}/health", timeout=2) as answer:
                return b"true" in answer.read()
        except OSError:
            return False

    def start_api(self) -> float:
        """Start the API server (again) and wait until it is ready; returns the seconds it took."""
        key = self.root / "sa.key"
        command = [
            binaries.program("kube-apiserver"), f"--etcd-servers=http://127.0.0.1:{self.etcd_port}",
            f"--secure-port={self.port}", "--bind-address=127.0.0.1", f"--tls-cert-file={self.root / 'api.crt'}",
            f"--tls-private-key-file={self.root / 'api.key'}", f"--service-cluster-ip-range={SERVICE_RANGE}",
            "--service-account-issuer=https://nodens.test", f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}", f"--token-auth-file={self.root / 'tokens.csv'}",
            "--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none", f"--audit-policy-file={self.root / 'policy.json'}",
            f"--audit-log-path={self.audit_log}",
        ]  # fmt: skip
        self.api = Child([str(part) for part in command], self.root / "api.log")
        wait_until("kube-apiserver", self._api_answers, timeout_s=60)
        return time.monotonic() - self.api.started_s

    def _api_answers(self) -> bool:
        if self.api is not None:
            self.api.check()
        try:
            self.admin.request("GET", "/readyz")
            self.admin.get("Namespace", "", "kube-system")
            self.admin.get("Service", "default", "kubernetes")
        except (OSError, ApiError):
            return False
        return True

    def stop_api(self) -> None:
        """End the API server as an operator does."""
        self.admin.close()
        if self.api is not None:
            self.api.stop(timeout_s=20)

    def kill_api(self) -> None:
        """End it without a word."""
        self.admin.close()
        if self.api is not None:
            self.api.kill()

    def stop(self) -> None:
        """End everything."""
        self.admin.close()
        for child in (self.api, self.etcd):
            if child is not None:
                child.kill()
        self.api = self.etcd = None

    def replace_cluster(self) -> None:
        """Come back as another cluster at the same address: an empty etcd, a new kube-system UID."""
        self.stop()
        self._etcd_life += 1
        self.start_etcd()
        self.start_api()
        self._permit()

    # ── etcd ──

    def _etcd(self, path: str, body: Mapping[str, Any]) -> Any:
        url = f"http://127.0.0.1:{self.etcd_port}/v3/kv/{path}"
        request = urllib.request.Request(url, json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def revision(self) -> int:
        """Return etcd's present revision, which is the cluster's highest resourceVersion."""
        return int(self._etcd("range", {"key": base64.b64encode(b"/").decode()})["header"]["revision"])

    def compact(self) -> int:
        """Forget all history up to now; returns the revision."""
        revision = self.revision()
        self._etcd("compaction", {"revision": revision, "physical": True})
        return revision

    # ── who may what ──

    def _permit(self) -> None:
        for user, core in (("nodens", ["services", "namespaces"]), ("coredns", ["services", "namespaces", "pods"])):
            kinds = [("", core), ("discovery.k8s.io", ["endpointslices"])]
            rules = [{"apiGroups": [group], "resources": names, "verbs": ["list", "watch"]} for group, names in kinds]
            meta = {"name": f"dns-{user}"}
            api = "rbac.authorization.k8s.io"
            role = {"apiVersion": f"{api}/v1", "kind": "ClusterRole", "metadata": meta, "rules": rules}
            subject = {"kind": "User", "name": user, "apiGroup": api}
            bound = {"kind": "ClusterRole", "name": meta["name"], "apiGroup": api}
            binding = {**role, "kind": "ClusterRoleBinding", "subjects": [subject], "roleRef": bound}
            binding.pop("rules")
            self.admin.request("POST", f"/apis/{api}/v1/clusterroles", role)
            self.admin.request("POST", f"/apis/{api}/v1/clusterrolebindings", binding)
        self._permit_events()

    def _permit_events(self) -> None:
        """Let nodens create Events, in namespace default alone."""
        api, place = "rbac.authorization.k8s.io", "namespaces/default"
        rules = [{"apiGroups": [""], "resources": ["events"], "verbs": ["create"]}]
        role = {"apiVersion": f"{api}/v1", "kind": "Role", "metadata": {"name": "nodens-events"}, "rules": rules}
        reference = {"kind": "Role", "name": "nodens-events", "apiGroup": api}
        subjects = [{"kind": "User", "name": "nodens", "apiGroup": api}]
        binding = {**role, "kind": "RoleBinding", "subjects": subjects, "roleRef": reference}
        binding.pop("rules")
        self.admin.request("POST", f"/apis/{api}/v1/{place}/roles", role)
        self.admin.request("POST", f"/apis/{api}/v1/{place}/rolebindings", binding)

    def forbid_events(self) -> None:
        """Take that back."""
        self.admin.request("DELETE", "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings/nodens-events")

    @property
    def ca(self) -> Path:
        return self.root / "ca.crt"

    @property
    def audit_log(self) -> Path:
        return self.root / "audit.log"

    def kubeconfig(self, token: str = READER, port: int | None = None) -> Path:
        """Write a kubeconfig for a token; `port` when something stands between (`relay.Relay`)."""
        path = self.root / f"kubeconfig-{token}-{port or self.port}"
        cluster = {"server": f"https://127.0.0.1:{port or self.port}", "certificate-authority": str(self.ca)}
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "test", "cluster": cluster}],
            "users": [{"name": "test", "user": {"token": token}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
            "current-context": "test",
        }
        path.write_text(json.dumps(content))
        path.chmod(0o600)
        return path

    def _tokens(self) -> None:
        lines = [f'{ADMIN},admin,1,"system:masters"', f"{READER},nodens,2", f"{PEER},coredns,3"]
        (self.root / "tokens.csv").write_text("\n".join(lines) + "\n")
        (self.root / "policy.json").write_text(json.dumps(_POLICY))
        self.audit_log.touch()

    def _certificates(self) -> None:
        def openssl(*words: str) -> None:
            subprocess.run(["openssl", *words], cwd=self.root, check=True, capture_output=True)

        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test-ca")
        names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
        openssl("req", *curve, "-keyout", "api.key", "-out", "api.csr", "-subj", "/CN=kube-apiserver", "-addext", names)
        signed = ("-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2", "-copy_extensions", "copy")
        openssl("x509", "-req", "-in", "api.csr", "-out", "api.crt", *signed)
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "sa.key")

    # ── what was spent ──

    def audit_mark(self) -> int:
        """Return a mark to count requests from."""
        return self.audit_log.stat().st_size

    def spent(self, user: str = "nodens", since: int = 0) -> list[Spent]:
        """Return the requests of a user after a mark, each once (its last stage)."""
        found: dict[str, Spent] = {}
        with self.audit_log.open("rb") as log:
            log.seek(since)
            for line in log:
                event = json.loads(line)
                who = event.get("user", {}).get("username", "")
                if who != user:
                    continue
                resource = event.get("objectRef", {}).get("resource", "")
                code = event.get("responseStatus", {}).get("code", 0)
                spent = Spent(who, event["verb"], resource, event["requestURI"], code, event["stage"], event["auditID"])
                found[spent.audit_id] = spent
        return list(found.values())

    def counts(self, user: str = "nodens", since: int = 0) -> Counter[str]:
        """Return requests by `verb resource` after a mark; a streamed list counts as `list`, one object as `get`."""
        requests = self.spent(user, since)
        verbs = ["list" if spent.is_list else {"list": "get"}.get(spent.verb, spent.verb) for spent in requests]
        return Counter(f"{verb} {spent.resource}" for verb, spent in zip(verbs, requests, strict=True))
