"""Who may use a backend: least privilege for egress (ExternalService `from`). Evaluated in the worker, before anything is sent."""

from __future__ import annotations

import msgspec


class Allowed(msgspec.Struct, frozen=True, gc=False):
    """One kind of client; every list that is not empty must match. principals: `TRUSTDOMAIN/ns/NS/sa/SA`, exact, `prefix*`, `*suffix` or `*`
    (proven by a client certificate). ip_blocks: CIDRs of the client's address."""

    principals: tuple[str, ...] = ()
    ip_blocks: tuple[str, ...] = ()
