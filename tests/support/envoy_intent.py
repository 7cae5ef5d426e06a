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

from envoys import T, where

HCM = T + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
FILTER = T + "extensions.filters.http."
EVERYTHING = 2**32 - 1  # Istio's "no limit" of circuit breakers
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
GRPC = {
    "OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12,
    "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
CODES = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}
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


def route_match(match):
    out = {"case_sensitive": not match.get("ignoreUriCase", False)}
    uri = match.get("uri", {"prefix": "/"})
    kind, value = next(iter(uri.items()))
    out |= {"exact": {"path": value}, "prefix": {"prefix": value}, "regex": {"safe_regex": {"regex": value}}}[kind]
    headers = [header_match(name, one) for name, one in match.get("headers", {}).items()]
    for name, one in match.get("withoutHeaders", {}).items():
        made = header_match(name, one) | {"invert_match": True}
        headers.append(made if "present_match" in made else made | {"treat_missing_header_as_empty": True})
    headers.sort(key=lambda one: one["name"])
    for field in ("method", "authority", "scheme"):
        if field in match:
            headers.append(header_match(f":{field}", match[field]))
    query = [{"name": name, **presence_or(one)} for name, one in match.get("queryParams", {}).items()]
    return out | ({"headers": headers} if headers else {}) | ({"query_parameters": query} if query else {})


def header_match(name, one):
    return {"name": name, **presence_or(one)}


def presence_or(one):
    return {"string_match": string_match(one)} if one and one.get("regex") != "*" else {"present_match": True}


def string_match(one):
    ((kind, value),) = one.items()
    return {"safe_regex": {"regex": value}} if kind == "regex" else {kind: value}


def apply_headers(out, headers):
    """Add these operations to a route or weighted cluster; the authority that they name, or ""."""
    authority = ""
    for side in ("request", "response"):
        operations = headers.get(side, {})
        options = list(out.get(f"{side}_headers_to_add", ()))
        for field, action in (("set", "OVERWRITE_IF_EXISTS_OR_ADD"), ("add", "APPEND_IF_EXISTS_OR_ADD")):
            for name, value in sorted(operations.get(field, {}).items()):
                if name.lower() in ("host", ":authority"):
                    authority = authority or (value if side == "request" else "")
                elif not name.startswith(":"):
                    options.append({"header": {"key": name, "value": value}, "append_action": action})
        removed = [*out.get(f"{side}_headers_to_remove", ()), *operations.get("remove", ())]
        if options:
            out[f"{side}_headers_to_add"] = options
        if removed:
            out[f"{side}_headers_to_remove"] = removed
    return authority


def redirect(written, server):
    out = {"response_code": CODES[written.get("redirectCode", 301)]}
    if written.get("authority"):
        out["host_redirect"] = written["authority"]
    if written.get("prefixRewrite"):
        out["prefix_rewrite"] = written["prefixRewrite"]
    elif written.get("uri"):
        out["path_redirect"] = written["uri"]
    if written.get("scheme"):
        out["scheme_redirect"] = written["scheme"]
    port = written.get("port", 0)
    if written.get("derivePort") == "FROM_REQUEST_PORT":
        port = server["port"]["number"]
    scheme = written.get("scheme") or ("https" if server.get("tls", {}).get("mode") else "http")
    if port and (scheme, port) not in (("http", 80), ("https", 443)):
        out["port_redirect"] = port
    return out


def direct_response(written):
    body = written.get("body", {})
    if not body:
        return {"status": written["status"]}
    source = {"inline_string": body["string"]} if "string" in body else {"inline_bytes": body["bytes"]}
    return {"status": written["status"], "body": source}


def percent(written):
    return {"numerator": int(written.get("value", 0) * 10_000), "denominator": "MILLION"}


def mirrored(rule):
    """(destination, share or None for off) of every mirror."""
    everything = {"numerator": 100}
    if "mirror" in rule:
        share = rule.get("mirrorPercentage")
        yield rule["mirror"], everything if share is None else percent(share) if share.get("value") else None
    for mirror in rule.get("mirrors", ()):
        share = mirror.get("percentage")
        yield mirror["destination"], everything if share is None else percent(share) if share.get("value") else None


def fault(written):
    out = {"@type": FILTER + "fault.v3.HTTPFault"}
    if delay := written.get("delay"):
        out["delay"] = {"fixed_delay": delay["fixedDelay"], "percentage": percent(delay.get("percentage", {}))}
    if abort := written.get("abort"):
        out["abort"] = {"percentage": percent(abort.get("percentage", {}))}
        if "grpcStatus" in abort:
            out["abort"]["grpc_status"] = GRPC[abort["grpcStatus"]]
        else:
            out["abort"]["http_status"] = abort["httpStatus"]
    return out


def cors(written):
    out = {
        "@type": FILTER + "cors.v3.CorsPolicy",
        "forward_not_matching_preflights": written.get("unmatchedPreflights") != "IGNORE",
        "allow_origin_string_match": [string_match(one) for one in written.get("allowOrigins", ())],
        "filter_enabled": {"default_value": {"numerator": 100}},
        "allow_methods": ",".join(written.get("allowMethods", ())),
        "allow_headers": ",".join(written.get("allowHeaders", ())),
        "expose_headers": ",".join(written.get("exposeHeaders", ())),
    }
    if "allowCredentials" in written:
        out["allow_credentials"] = written["allowCredentials"]
    if "maxAge" in written:
        out["max_age"] = str(int(float(written["maxAge"].removesuffix("s"))))
    return out


def destinations(rule):
    return [one["destination"]["host"] for one in rule.get("route", ())]


def local_rate_limit(policy):
    """Of a ServicePolicy's first rateLimits entry."""
    limit = policy["rateLimits"][0]
    tokens, every = limit["requests"], limit.get("per", "1s")
    always = {"default_value": {"numerator": 100}}
    return {
        "@type": FILTER + "local_ratelimit.v3.LocalRateLimit",
        "stat_prefix": "limit",
        "token_bucket": {"max_tokens": limit.get("burst", tokens), "tokens_per_fill": tokens, "fill_interval": every},
        "filter_enabled": always,
        "filter_enforced": always,
    }


def retry_policy(written, *, hashed):
    if written is not None and written.get("attempts", 0) <= 0:
        return None
    written = written or {"attempts": 2}
    out = {"num_retries": written["attempts"], "retry_on": RETRY_ON, "host_selection_retry_max_attempts": "5"}
    if written.get("retryOn"):
        words = [word.strip() for word in written["retryOn"].split(",") if word.strip()]
        codes, names = [int(word) for word in words if word.isdigit()], [word for word in words if not word.isdigit()]
        if codes and "retriable-status-codes" not in names:
            names.append("retriable-status-codes")
        out |= {"retry_on": ",".join(names), "retriable_status_codes": codes}
    if "perTryTimeout" in written:
        out["per_try_timeout"] = written["perTryTimeout"]
    if written.get("retryIgnorePreviousHosts", not hashed):
        kind = T + "extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
        out["retry_host_predicate"] = [{"name": "envoy.retry_host_predicates.previous_hosts", "typed_config": {"@type": kind}}]
    if "backoff" in written:
        out["retry_back_off"] = {"base_interval": written["backoff"]}
    return out


def hash_policy(hashing):
    if "httpHeaderName" in hashing:
        return {"header": {"header_name": hashing["httpHeaderName"]}}
    if "httpQueryParameterName" in hashing:
        return {"query_parameter": {"name": hashing["httpQueryParameterName"]}}
    if "httpCookie" in hashing:
        cookie = hashing["httpCookie"]
        kept = {name: cookie[name] for name in ("name", "ttl", "path", "attributes") if name in cookie}
        return {"cookie": kept}
    return {"connection_properties": {"source_ip": True}}


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
