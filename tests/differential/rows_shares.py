"""Who of several gets a request: rings and Maglev tables by key, cookies that are made, rate limits.

Endpoints of the hashed services are the same for both gateways (addresses decide places on a ring), so equal tables choose equally:
the answer's body names who answered.
"""

from __future__ import annotations

from differing import Row
from differing_world import HASHING, LIMITED
from running import to

SITES = {name: (None, [{"route": [to(f"{name}.shop")]}]) for name in HASHING}
SITES |= {name: (None, [{"route": [to(f"{name}.shop")]}]) for name in LIMITED}

USERS = [f"user-{n}" for n in range(24)] + ["", "\xfc", "a b", "x" * 300]

ROWS = [
    *(Row(f"ring by header {user[:9]!r}", "ring-header", headers=(("x-user", user),)) for user in USERS),
    *(Row(f"Maglev by header {user[:9]!r}", "maglev-header", headers=(("x-user", user),)) for user in USERS),
    *(Row(f"ring by query {user}", "ring-query", f"/?a=b&user={user}") for user in USERS[:12]),
    *(Row(f"ring by cookie {user}", "ring-cookie", headers=(("Cookie", f"other=1; user={user}"),)) for user in USERS[:12]),
    Row("ring by header, twice", "ring-header", headers=(("x-user", "a"), ("x-user", "b"))),
    Row("ring by query, escaped", "ring-query", "/?user=%41"),
    Row("ring by query, twice", "ring-query", "/?user=a&user=b"),
    Row("ring by query, empty", "ring-query", "/?user="),
    Row("ring by source", "ring-source"),
    Row("ring by source, again", "ring-source", times=3),
    Row("ring by a session's cookie that is there", "ring-session", headers=(("Cookie", "session=abc"),)),
    Row("a cookie is made", "ring-session", ignore=("body", "answer.set-cookie")),
    Row("a limit of three", "limited", times=5, status=(200, 200, 200, 429, 429)),
    Row("a limit of three, over HTTP/2", "limited-two", protocol="h2", times=3),
    Row("a limit of three, reached over HTTP/2", "limited-two", protocol="h2", status=429),
    Row("a limit of three, reached by a HEAD", "limited-two", method="HEAD", status=429),
    Row("a limit of three, reached by a POST", "limited-two", method="POST", body=b"x", status=429, ignore=("answer.connection",)),
    Row("a limit of three, over gRPC", "limited-grpc", protocol="grpc", times=3),
    Row("a limit of three, reached over gRPC", "limited-grpc", protocol="grpc"),
]
