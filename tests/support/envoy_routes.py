"""Parts of an Istio HTTPRoute, each as Envoy's route has it (see envoy_intent)."""

from __future__ import annotations

from envoys import T

FILTER = T + "extensions.filters.http."
RETRY_ON = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"
GRPC = {
    "OK": 0, "CANCELLED": 1, "UNKNOWN": 2, "INVALID_ARGUMENT": 3, "DEADLINE_EXCEEDED": 4, "NOT_FOUND": 5, "ALREADY_EXISTS": 6,
    "PERMISSION_DENIED": 7, "RESOURCE_EXHAUSTED": 8, "FAILED_PRECONDITION": 9, "ABORTED": 10, "OUT_OF_RANGE": 11, "UNIMPLEMENTED": 12,
    "INTERNAL": 13, "UNAVAILABLE": 14, "DATA_LOSS": 15, "UNAUTHENTICATED": 16,
}  # fmt: skip
CODES = {301: "MOVED_PERMANENTLY", 302: "FOUND", 303: "SEE_OTHER", 307: "TEMPORARY_REDIRECT", 308: "PERMANENT_REDIRECT"}


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
