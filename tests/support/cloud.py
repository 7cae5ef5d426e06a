"""A scripted OpenStack on a real socket: answers as Keystone, Octavia, Nova, Neutron and Designate do, from tables that a test changes."""

import json
import re
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

_VERSIONS = {
    "identity": ("v3", "v3.14"),
    "compute": ("v2.1", "v2.1"),
    "network": ("v2.0", "v2.0"),
    "load-balancer": ("v2", "v2.0"),
    "dns": ("v2", "v2"),
}
_LISTED = {"loadbalancers", "listeners", "pools", "servers", "ports", "zones"}


class Cloud:
    """tables: {listing: {id: entry}}; members and recordsets by "pools/ID/members" and "zones/ID/recordsets".
    broken: {part of a path: a status, "hang" (until `close`), "cut" (half an answer)}. credentials: {id: secret}.
    missing: services the catalog has not. limit: entries in a page. asked: (method, path) of every request."""

    def __init__(self, *, limit=1000):
        self.tables = {}
        self.broken = {}
        self.credentials = {"gateway": "s3cret-of-the-credential"}
        self.project = ("p1", "shop")
        self.missing = set()
        self.limit = limit
        self.settled = "ACTIVE"  # what becomes of new record sets
        self.asked = []
        self.tokens = set()
        self.bodies = []
        self._over = threading.Event()
        cloud = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                cloud._answer(self)

            do_POST = do_PUT = do_DELETE = do_PATCH = do_GET

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.24.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.24.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self):
        self._over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def put(self, listing, **entry):
        """An entry into a table; its id is its name if none is given."""
        entry.setdefault("id", entry.get("name") or uuid.uuid4().hex)
        self.tables.setdefault(listing, {})[entry["id"]] = entry
        return entry["id"]

    def balancer(self, name, *, port=80, members=(), tags=(), protocol="HTTP", pool="HTTP", listener="http", **more):
        """A load balancer with one listener and its pool."""
        self.put("loadbalancers", id=name, name=name, tags=list(tags), created_at="2026-01-02T03:04:05", **more)
        self.put(
            "listeners",
            id=f"{name}-listener",
            name=listener,
            protocol=protocol,
            protocol_port=port,
            default_pool_id=f"{name}-pool",
            loadbalancers=[{"id": name}],
        )
        self.put("pools", id=f"{name}-pool", protocol=pool, loadbalancers=[{"id": name}])
        self.tables[f"pools/{name}-pool/members"] = {}
        for member in members:
            self.member(name, **member)

    def member(self, balancer, address, port=8080, **more):
        entry = {"operating_status": "ONLINE", "weight": 1, "backup": False, "admin_state_up": True, "subnet_id": "net", **more}
        listing = f"pools/{balancer}-pool/members"
        return self.put(listing, id=f"m-{address}-{port}", address=address, protocol_port=port, **entry)

    def server(self, name, address, **more):
        """A server with its port of Neutron."""
        more.setdefault("metadata", {"fedgate-service": "web", "fedgate-ports": "http:80:8080"})
        self.put(
            "servers",
            id=name,
            name=name,
            status=more.pop("status", "ACTIVE"),
            addresses={"private": [{"addr": address, "version": 4, "OS-EXT-IPS:type": "fixed"}]},
            **{"OS-EXT-AZ:availability_zone": more.pop("zone", "az1")},
            **more,
        )
        self.port(f"port-{name}", address, name)

    def port(self, name, address, server="", *, zone="az1", status="ACTIVE", subnet="net"):
        self.put(
            "ports",
            id=name,
            device_id=server,
            device_owner=f"compute:{zone}",
            status=status,
            admin_state_up=True,
            fixed_ips=[{"ip_address": address, "subnet_id": subnet}],
        )

    def count(self, path, method="GET"):
        return sum(1 for asked, at in self.asked if asked == method and path in at)

    def _answer(self, handler):
        at = urlsplit(handler.path)
        length = int(handler.headers.get("Content-Length") or 0)
        body = json.loads(handler.rfile.read(length)) if length else None
        self.asked.append((handler.command, at.path))
        broken = next((how for part, how in self.broken.items() if part in at.path), None)
        if broken == "hang":
            self._over.wait(30)
            handler.close_connection = True
            return
        if isinstance(broken, int):
            return self._reply(handler, broken, {"faultstring": f"broken on purpose with {broken}"})
        try:
            status, answer, headers = self._route(handler, at, body)
        except KeyError:
            status, answer, headers = 404, {"faultstring": f"{at.path} is not there"}, {}
        self._reply(handler, status, answer, headers, cut=broken == "cut")

    def _reply(self, handler, status, answer, headers=None, *, cut=False):
        data = b"" if answer is None else json.dumps(answer).encode()
        handler.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": str(len(data)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data[: len(data) // 2] if cut else data)
        if cut:
            handler.close_connection = True

    def _route(self, handler, at, body):
        service, _, rest = at.path.strip("/").partition("/")
        rest = rest.partition("/")[2]  # without the version
        if service == "identity" and rest == "auth/tokens":
            return self._token(body)
        if not rest:
            return 200, self._discovery(service), {}
        if handler.headers.get("X-Auth-Token") not in self.tokens:
            return 401, {"error": {"code": 401, "message": "The request you have made requires authentication."}}, {}
        rest = rest.removeprefix("lbaas/")
        if handler.command == "GET":
            return 200, self._list(service, rest, parse_qs(at.query)), {}
        return self._write(handler.command, rest, body)

    def _token(self, body):
        wanted = body["auth"]["identity"]
        self.bodies.append(body)
        credential = wanted["application_credential"] if wanted["methods"] == ["application_credential"] else {}
        if self.credentials.get(credential.get("id")) != credential.get("secret", ""):
            return 401, {"error": {"code": 401, "message": "The request you have made requires authentication."}}, {}
        token = f"token-{uuid.uuid4().hex}"
        self.tokens.add(token)
        catalog = [
            {
                "type": service,
                "name": service,
                "id": service,
                "endpoints": [
                    {"id": service, "interface": "public", "region": "R1", "region_id": "R1", "url": f"{self.url}/{service}"}
                ],
            }
            for service in _VERSIONS
            if service not in self.missing
        ]
        until = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + 3600))
        project = {"id": self.project[0], "name": self.project[1], "domain": {"id": "default", "name": "Default"}}
        answer = {"methods": ["application_credential"], "user": {"id": "u", "name": "u", "domain": project["domain"]}}
        answer |= {"project": project, "catalog": catalog, "expires_at": until, "issued_at": until, "roles": []}
        return 201, {"token": answer}, {"X-Subject-Token": token}

    def _discovery(self, service):
        path, version = _VERSIONS[service]
        link = {"rel": "self", "href": f"{self.url}/{service}/{path}"}
        state = "stable" if service == "identity" else "CURRENT"
        entry = {"id": version, "status": state, "links": [link], "version": "", "min_version": ""}
        return {"versions": {"values": [entry]}} if service == "identity" else {"versions": [entry]}

    def _list(self, service, path, query):
        listing = path.removesuffix("/detail")
        table = self.tables.get(listing, {}) if listing in _LISTED else self.tables[listing]
        key = listing.rpartition("/")[2]
        entries = list(table.values())
        for name, values in query.items():
            if name not in ("marker", "limit") and name != "project_id":
                entries = [entry for entry in entries if str(entry.get(name)) == values[0]]
        marker = query.get("marker", [None])[0]
        if marker is not None:
            ids = [entry["id"] for entry in entries]
            entries = entries[ids.index(marker) + 1 :]
        page = entries[: self.limit]
        answer = {key: page}
        if len(entries) > self.limit:
            href = f"https://wrong.example/{path}?limit={self.limit}&marker={page[-1]['id']}"  # as behind a proxy that ends TLS
            answer |= {"links": {"next": href}} if service == "dns" else {f"{key}_links": [{"rel": "next", "href": href}]}
        return answer

    def _write(self, method, path, body):
        if match := re.fullmatch(r"zones/([^/]+)/recordsets(?:/([^/]+))?", path):
            return self._recordset(method, f"zones/{match[1]}/recordsets", match[2], body)
        raise KeyError(path)

    def _recordset(self, method, listing, entry, body):
        table = self.tables[listing]
        if method == "POST":
            if any((each["name"], each["type"]) == (body["name"], body["type"]) for each in table.values()):
                return 409, {"code": 409, "type": "duplicate_recordset", "message": "Duplicate RecordSet"}, {}
            made = self.put(listing, id=uuid.uuid4().hex, status=self.settled, **body)
            return 202, table[made], {}
        elif method == "PUT":
            table[entry] |= body
        else:
            del table[entry]
        return 202, {}, {}
