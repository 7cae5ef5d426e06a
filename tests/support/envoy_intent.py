"""Istio documents as configuration of a real Envoy: what a gateway's Envoy would be told for the same intent.

`Intent(documents).configuration(address, admin)` takes the dicts that a test also gives to fedgate (Gateway, VirtualService,
DestinationRule, ServiceEntry) and returns Envoy's bootstrap as a dict. It follows what istiod's gateway code does (istio/istio
86c9f01, pilot/pkg/networking/core): use_remote_address, paths normalised but slashes kept, host matching without ports, fault
before CORS before the router, weighted clusters only for several destinations, headers of a destination after those of its route.

Three things are not istiod's, and are so that the rows can be compared at all, and soon: HTTP/1.0 is accepted (istiod: 426 unless
PILOT_HTTP10), a refused client's connection is closed after 50 ms instead of 1 s, and a local rate limit comes from fedgate's
ServicePolicy (Istio has it through EnvoyFilter only).
"""

from __future__ import annotations

from envoy_routes import (
    FILTER,
    apply_headers,
    cors,
    destinations,
    direct_response,
    fault,
    hash_policy,
    local_rate_limit,
    mirrored,
    redirect,
    retry_policy,
    route_match,
)
from envoys import T, where

HCM = T + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
EVERYTHING = 2**32 - 1  # Istio's "no limit" of circuit breakers
BALANCE = {"ROUND_ROBIN": "ROUND_ROBIN", "RANDOM": "RANDOM", "LEAST_REQUEST": "LEAST_REQUEST", "UNSPECIFIED": "LEAST_REQUEST"}


class Intent:
    """documents: as `running.document` makes them. contexts: Envoy transport sockets by the name of a Gateway's server. proxies: Istio's
    numTrustedProxies."""

    def __init__(self, documents, contexts=None, *, proxies=0):
        self.contexts, self.proxies = contexts or {}, proxies
        self.kinds = {}
        for each in documents:
            self.kinds.setdefault(each["kind"], []).append(each)
        self.rules = {each["spec"]["host"]: each["spec"] for each in self.of("DestinationRule")}
        self.services = {host: each["spec"] for each in self.of("ServiceEntry") for host in each["spec"]["hosts"]}
        self.limits = {host: each["spec"] for each in self.of("ServicePolicy") for host in each["spec"]["hosts"]}

    def of(self, kind):
        return self.kinds.get(kind, [])

    def configuration(self, address, admin):
        listeners = [
            self.listener(gateway["metadata"]["name"], server, address)
            for gateway in self.of("Gateway")
            for server in gateway["spec"]["servers"]
        ]
        clusters = [self.cluster(host, subset) for host in self.services for subset in ["", *self.subsets(host)]]
        return {"admin": {"address": where(address, admin)}, "static_resources": {"listeners": listeners, "clusters": clusters}}

    # --------------------------------------------------------------------------------------------------------- listeners

    def listener(self, gateway, server, address):
        port, tls = server["port"]["number"], server.get("tls")
        manager = {
            "@type": HCM,
            "stat_prefix": server["port"]["name"],
            "codec_type": "AUTO",
            "use_remote_address": True,
            "xff_num_trusted_hops": self.proxies,
            "normalize_path": True,
            "path_with_escaped_slashes_action": "KEEP_UNCHANGED",
            "server_name": "istio-envoy",
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"subject": True, "cert": True, "dns": True, "uri": True},
            "http_protocol_options": {"accept_http_10": True},
            "proxy_100_continue": True,
            "upgrade_configs": [{"upgrade_type": "websocket"}],
            "stream_idle_timeout": "0s",
            "delayed_close_timeout": "0.05s",
            "route_config": {
                "name": f"http.{port}",
                "virtual_hosts": self.virtual_hosts(gateway, server),
                "validate_clusters": False,
                "ignore_port_in_host_matching": True,
            },
            "http_filters": [
                *([named("local_ratelimit", "local_ratelimit.v3.LocalRateLimit", stat_prefix="limit")] if self.limits else []),
                named("grpc_stats", "grpc_stats.v3.FilterConfig"),
                named("fault", "fault.v3.HTTPFault"),
                named("cors", "cors.v3.Cors"),
                named("router", "router.v3.Router"),
            ],
        }
        chain = {"filters": [{"name": "http", "typed_config": manager}]}
        if tls and "mode" in tls:
            chain["transport_socket"] = self.contexts[server["port"]["name"]]
        return {"name": f"in-{port}", "address": where(address, port), "filter_chains": [chain]}

    def virtual_hosts(self, gateway, server):
        found = {}
        for document in self.of("VirtualService"):
            spec = document["spec"]
            if gateway not in spec.get("gateways", ()):
                continue
            routes = self.routes(spec, server)
            for name in spec["hosts"]:
                if not any(covers(served, name) for served in server["hosts"]):
                    continue
                host = found.setdefault(name, {"name": f"{name}:{server['port']['number']}", "domains": [name], "routes": []})
                host["include_request_attempt_count"] = True
                host["routes"] += routes
                if server.get("tls", {}).get("httpsRedirect"):
                    host["require_tls"] = "ALL"
        if server.get("tls", {}).get("httpsRedirect"):
            for name in server["hosts"]:
                found.setdefault(name, {"name": f"{name}:redirect", "domains": [name], "routes": [], "require_tls": "ALL"})
        for host in found.values():  # istiod puts catch-all routes last
            host["routes"].sort(key=is_catch_all)
        return list(found.values())

    # ------------------------------------------------------------------------------------------------------------ routes

    def routes(self, spec, server):
        made = []
        for rule in spec.get("http", ()):
            for match in rule.get("match") or [{}]:
                if match.get("port", server["port"]["number"]) == server["port"]["number"]:
                    made.append(self.route(rule, match, server))
        return made

    def route(self, rule, match, server):
        out = {"match": route_match(match)}
        if name := ".".join(filter(None, (rule.get("name"), match.get("name")))):
            out["name"] = name
        authority = apply_headers(out, rule.get("headers", {}))
        if "redirect" in rule:
            out["redirect"] = redirect(rule["redirect"], server)
        elif "directResponse" in rule:
            out["direct_response"] = direct_response(rule["directResponse"])
        else:
            out["route"] = self.action(out, rule, authority)
        filters = {}
        if "fault" in rule:
            filters["envoy.filters.http.fault"] = fault(rule["fault"])
        if "corsPolicy" in rule:
            filters["envoy.filters.http.cors"] = cors(rule["corsPolicy"])
        if limited := [self.limits[host] for host in destinations(rule) if host in self.limits]:
            filters["envoy.filters.http.local_ratelimit"] = local_rate_limit(limited[0])
        return out | ({"typed_per_filter_config": filters} if filters else {})

    def action(self, out, rule, authority):
        timeout = rule.get("timeout", "0s")
        action = {"timeout": timeout, "max_grpc_timeout": timeout}
        rewrite = rule.get("rewrite", {})
        if regex := rewrite.get("uriRegexRewrite"):
            action["regex_rewrite"] = {"pattern": {"regex": regex["match"]}, "substitution": regex["rewrite"]}
        elif rewrite.get("uri"):
            action["prefix_rewrite"] = rewrite["uri"]
        authority = rewrite.get("authority") or authority
        mirrors = [mirror for mirror in mirrored(rule) if mirror[1]]
        if mirrors:
            action["request_mirror_policies"] = [
                {"cluster": self.name_of(to), "runtime_fraction": {"default_value": share}} for to, share in mirrors
            ]
        hashed = False
        if len(rule["route"]) == 1:
            (only,) = rule["route"]
            action["cluster"] = self.name_of(only["destination"])
            named_by = apply_headers(out, only.get("headers", {}))
            authority = authority or named_by
            hashed = self.hash(action, only["destination"])
        else:
            action["weighted_clusters"] = {"clusters": [self.weighted(action, one) for one in rule["route"] if one.get("weight")]}
        if authority:
            action["host_rewrite_literal"] = authority
        if policy := retry_policy(rule.get("retries"), hashed=hashed):
            action["retry_policy"] = policy
        return action

    def weighted(self, action, one):
        made = {"name": self.name_of(one["destination"]), "weight": one["weight"]}
        if authority := apply_headers(made, one.get("headers", {})):
            made["host_rewrite_literal"] = authority
        self.hash(action, one["destination"])
        return made

    def hash(self, action, destination):
        policy = self.policy(destination["host"], destination.get("subset", ""))
        hashing = policy.get("loadBalancer", {}).get("consistentHash")
        if not hashing:
            return False
        action.setdefault("hash_policy", []).append(hash_policy(hashing))
        return True

    def name_of(self, destination):
        host = destination["host"]
        ports = self.services.get(host, {"ports": [{"number": 80}]})["ports"]
        port = destination.get("port", {}).get("number") or ports[0]["number"]
        return f"outbound|{port}|{destination.get('subset', '')}|{host}"

    # ---------------------------------------------------------------------------------------------------------- clusters

    def subsets(self, host):
        return [subset["name"] for subset in self.rules.get(host, {}).get("subsets", ())]

    def policy(self, host, subset):
        rule = self.rules.get(host, {})
        own = next((each for each in rule.get("subsets", ()) if each["name"] == subset), {})
        return rule.get("trafficPolicy", {}) | own.get("trafficPolicy", {})

    def cluster(self, host, subset):
        service, policy = self.services[host], self.policy(host, subset)
        (port,) = service["ports"]
        labels = next((one.get("labels", {}) for one in self.rules.get(host, {}).get("subsets", ()) if one["name"] == subset), {})
        chosen = [one for one in service.get("endpoints", ()) if labels.items() <= one.get("labels", {}).items()]
        pool, name = policy.get("connectionPool", {}), self.name_of({"host": host, "subset": subset})
        ends = [{"endpoint": {"address": where(one["address"], one["ports"][port["name"]])}} for one in chosen]
        made = {
            "name": name,
            "type": "STATIC",
            "connect_timeout": pool.get("tcp", {}).get("connectTimeout", "10s"),
            "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": ends}]},
            "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
            "circuit_breakers": {"thresholds": [breakers(pool)]},
            "lb_policy": "LEAST_REQUEST",
        }
        balance(made, policy.get("loadBalancer", {}))
        options = {"@type": T + "extensions.upstreams.http.v3.HttpProtocolOptions"}
        two = port["protocol"] in ("HTTP2", "GRPC") or pool.get("http", {}).get("h2UpgradePolicy") == "UPGRADE"
        options["explicit_http_config"] = {"http2_protocol_options": {}} if two else {"http_protocol_options": {}}
        common = {"idle_timeout": pool.get("http", {}).get("idleTimeout", "3600s")}
        if count := pool.get("http", {}).get("maxRequestsPerConnection"):
            common["max_requests_per_connection"] = count
        options["common_http_protocol_options"] = common
        made["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
        return made


def named(name, kind, **fields):
    return {"name": f"envoy.filters.http.{name}", "typed_config": {"@type": FILTER + kind, **fields}}


def covers(served, name):
    """Whether a Gateway's host serves a VirtualService's."""
    served = served.rpartition("/")[2]
    return served in ("*", name) or (served.startswith("*.") and name.endswith(served[1:]))


def is_catch_all(route):
    match = route["match"]
    everything = match.get("prefix") == "/" or match.get("safe_regex", {}).get("regex") == ".*"
    return everything and not match.get("headers") and not match.get("query_parameters")


def balance(cluster, written):
    hashing = written.get("consistentHash")
    if hashing and "maglev" in hashing:
        cluster |= {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": hashing["maglev"].get("tableSize", 65537)}}
    elif hashing:
        size = hashing.get("ringHash", {}).get("minimumRingSize", 1024)
        cluster |= {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": size}}
    elif "simple" in written:
        cluster["lb_policy"] = BALANCE[written["simple"]]


def breakers(pool):
    http, tcp = pool.get("http", {}), pool.get("tcp", {})
    return {
        "max_connections": tcp.get("maxConnections", EVERYTHING),
        "max_pending_requests": http.get("http1MaxPendingRequests", EVERYTHING),
        "max_requests": http.get("http2MaxRequests", EVERYTHING),
        "max_retries": http.get("maxRetries", EVERYTHING),
    }
