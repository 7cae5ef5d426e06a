"""The whole table: rows by topic, and the sites that they go to."""

from __future__ import annotations

import rows_frames
import rows_grpc
import rows_headers
import rows_http2
import rows_malformed
import rows_operators
import rows_protocol
import rows_proxies
import rows_redirects
import rows_resilience
import rows_rewriting
import rows_routing
import rows_shares

TOPICS = (
    rows_routing,
    rows_rewriting,
    rows_redirects,
    rows_headers,
    rows_operators,
    rows_resilience,
    rows_shares,
    rows_protocol,
    rows_http2,
    rows_grpc,
    rows_malformed,
    rows_frames,
)
ROWS = [row for topic in TOPICS for row in topic.ROWS]
SITES = {name: site for topic in TOPICS for name, site in topic.SITES.items()}

PROXIED = [*rows_proxies.ROWS, *rows_operators.PROXIED]
PROXIED_SITES = rows_proxies.SITES | rows_operators.PROXIED_SITES
"""For gateways that trust one proxy before them."""
