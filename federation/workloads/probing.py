"""One probe of one workload of a WorkloadGroup, as Kubernetes' kubelet makes it: from here, over the network, on a connection of its own.

`httpGet` passes with 200 to 399 and does not look at certificates (kubelet's rule: a probe asks whether it serves, not who it is);
`tcpSocket` passes when the connection is taken; `grpc` asks grpc.health.v1.
"""

from __future__ import annotations

import ssl

import httpx2
import trio

from federation.probe import ProbeFailed, Target, probe
from federation.resources.workload_group import HttpGet, Probe
from gateway.snapshot import HealthCheck

_unverified: list[ssl.SSLContext] = []


async def check(address: str, asked: Probe) -> None:
    """Raises ProbeFailed unless the workload passes within the probe's timeout. Cancelled, it leaves nothing open."""
    try:
        with trio.fail_after(asked.timeout):
            if asked.http_get is not None:
                await _get(address, asked.http_get)
            else:
                await probe(_target(address, asked), None)
    except trio.TooSlowError:
        raise ProbeFailed(f"no answer within {asked.timeout:g} s") from None


def _target(address: str, asked: Probe) -> Target:
    timeout = int(asked.timeout * 1000)
    if asked.grpc is not None:
        return Target(address, asked.grpc.port, HealthCheck("grpc", timeout_ms=timeout, service=asked.grpc.service), host=address)
    assert asked.tcp_socket is not None
    return Target(asked.tcp_socket.host or address, asked.tcp_socket.port, HealthCheck("tcp", timeout_ms=timeout))


async def _get(address: str, asked: HttpGet) -> None:
    host = asked.host or address
    url = f"{asked.scheme.lower()}://{f'[{host}]' if ':' in host else host}:{asked.port}{asked.path or '/'}"
    headers = {"user-agent": "fedgate-probe", "accept": "*/*", "connection": "close"}
    headers |= {each.name.lower(): each.value for each in asked.http_headers}
    transport = httpx2.AsyncHTTPTransport(verify=_any_certificate() if asked.scheme == "HTTPS" else False, trust_env=False)
    try:
        async with (
            httpx2.AsyncClient(transport=transport, trust_env=False, timeout=None) as client,
            client.stream("GET", url, headers=headers) as answer,
        ):
            status = answer.status_code  # the body is left: it may be of any length
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise ProbeFailed(f"http probe: {error or type(error).__name__}") from None
    if not 200 <= status < 400:
        raise ProbeFailed(f"http probe: status {status}, expected 200 to 399")


def _any_certificate() -> ssl.SSLContext:
    """Made once: it costs milliseconds."""
    if not _unverified:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        _unverified.append(context)
    return _unverified[0]
