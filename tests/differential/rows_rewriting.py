"""What becomes of path and authority on the way: prefix, whole, by regex; normalisation; Host."""

from __future__ import annotations

from differing import Row
from running import to

ONE = [to("one.shop")]


def rewriting(uri, rewrite):
    """A rule that rewrites what it matches."""
    return {"match": [{"uri": uri}], "rewrite": rewrite, "route": ONE}


SITES = {
    "rewrite": (
        None,
        [
            rewriting({"prefix": "/api/"}, {"uri": "/v2/"}),
            rewriting({"prefix": "/short"}, {"uri": "/"}),
            rewriting({"prefix": "/grow"}, {"uri": "/much/longer/than"}),
            rewriting({"exact": "/exact"}, {"uri": "/else"}),
            rewriting({"exact": "/queried"}, {"uri": "/else"}),
            rewriting({"prefix": "/host"}, {"authority": "inside.example"}),
            rewriting({"prefix": "/both"}, {"uri": "/b", "authority": "inside.example:8080"}),
            rewriting({"regex": "/re/[0-9]+"}, {"uri": "/number"}),
            {"match": [{"uri": {"prefix": "/CaSe"}, "ignoreUriCase": True}], "rewrite": {"uri": "/case"}, "route": ONE},
            {"match": [{"headers": {"x-all": {"exact": "1"}}}], "rewrite": {"uri": "/all"}, "route": ONE},
        ],
    ),
    "by-regex": (
        None,
        [
            rewriting(
                {"prefix": "/service/"}, {"uriRegexRewrite": {"match": "^/service/([^/]+)(/.*)$", "rewrite": "\\2/instance/\\1"}}
            ),
            rewriting({"prefix": "/xxx"}, {"uriRegexRewrite": {"match": "one", "rewrite": "two"}}),
            rewriting({"prefix": "/none"}, {"uriRegexRewrite": {"match": "absent", "rewrite": "two"}}),
            rewriting({"prefix": "/whole"}, {"uriRegexRewrite": {"match": "/whole.*", "rewrite": "/all"}}),
            rewriting({"prefix": "/caseless"}, {"uriRegexRewrite": {"match": "(?i)/X/", "rewrite": "/y/"}}),
            rewriting({"prefix": "/zero"}, {"uriRegexRewrite": {"match": "zero", "rewrite": "<\\0>"}}),
            rewriting({"prefix": "/query"}, {"uriRegexRewrite": {"match": "a=1", "rewrite": "b"}}),
        ],
    ),
    "host-set": (
        None,
        [
            {"match": [{"uri": {"prefix": "/route"}}], "headers": {"request": {"set": {"Host": "set.example"}}}, "route": ONE},
            {
                "match": [{"uri": {"prefix": "/destination"}}],
                "route": [to("one.shop") | {"headers": {"request": {"set": {"Host": "to.example"}}}}],
            },
            {
                "match": [{"uri": {"prefix": "/levels"}}],
                "headers": {"request": {"set": {"host": "outer.example"}}},
                "route": [to("one.shop") | {"headers": {"request": {"set": {"host": "inner.example"}}}}],
            },
            {
                "match": [{"uri": {"prefix": "/weighted"}}],
                "headers": {"request": {"set": {"host": "outer.example"}}},
                "route": [
                    to("one.shop", weight=100) | {"headers": {"request": {"set": {"host": "inner.example"}}}},
                    to("two.shop", weight=0),
                ],
            },
            {
                "match": [{"uri": {"prefix": "/authority"}}],
                "headers": {"request": {"set": {":authority": "pseudo.example"}}},
                "route": ONE,
            },
        ],
    ),
}

PATHS = (
    "/a/./b", "/a/../b", "/a/..", "/a//b", "/a//../b", "/a/%2e/b", "/a/%2E%2e/b", "/%2e%2e%2fb", "/a%2fb", "/a%2Fb", "/a%5cb", "/a\\b",
    "/a\\..\\b", "/..", "/...", "/a/.../b", "/.a", "/a.", "/a/..b", "/%21%24%26%27%28%29", "/%2a%2b%2c%3b%3d%3a%40", "/%c3%a4", "/%zz",
    "/%20%22%3c%3e%60%7b%7c%7d", "/%4", "/%", "/a%", "/a;b=../c", "/a?b/../c", "/?", "/??", "/a'b", "/a[b]", "/~a", "/%2f", "/./",
    "/a/.?x", "/a/..?x",
)  # fmt: skip

ESCAPED = (
    "/%41%7a%30", "/%2d%5F%7e", "/a|b", '/a"b', "/a<b>", "/a{b}", "/a`b", "/a^b", "/a?%41|b", "/a%2fb|%41", "/%61/../%62", "/%2561",
    "/%2%65", "/x/%2%65%2%65/y", "/%%36%31",
)  # fmt: skip

ROWS = [
    Row("rewrite of a prefix", "rewrite", "/api/books/1"),
    Row("rewrite of a prefix keeps the query", "rewrite", "/api/books?x=/api/&y"),
    Row("rewrite of a prefix, nothing after it", "rewrite", "/api/"),
    Row("rewrite to a slash", "rewrite", "/short/x"),
    Row("rewrite to a slash, no segment", "rewrite", "/shorty"),
    Row("rewrite to a slash, nothing left", "rewrite", "/short"),
    Row("rewrite to a slash, only a query left", "rewrite", "/short?x"),
    Row("rewrite to what is longer", "rewrite", "/grow/up"),
    Row("rewrite of an exact path", "rewrite", "/exact"),
    Row("rewrite of an exact path with a query", "rewrite", "/queried?a=b"),
    Row("rewrite of the authority", "rewrite", "/host"),
    Row("rewrite of path and authority", "rewrite", "/both/x"),
    Row("rewrite of the authority of a host with a port", "rewrite", "/host", host="rewrite.test:81"),
    Row("rewrite of what a regex matched", "rewrite", "/re/17?x=1"),
    Row("rewrite of a caseless prefix", "rewrite", "/CASE/x"),
    Row("rewrite of every path", "rewrite", "/any/thing?x=1", headers=(("x-all", "1"),)),
    Row("rewrite after dot segments", "rewrite", "/x/../api/y"),
    Row("rewrite keeps what is escaped", "rewrite", "/api/%20a%2Fb%3F"),
    Row("rewrite over a POST", "rewrite", "/api/x", method="POST", body=b"body"),
    Row("regex rewrite with groups", "by-regex", "/service/foo/v1/api"),
    Row("regex rewrite with groups and a query", "by-regex", "/service/foo/v1/api?a=1&b"),
    Row("regex rewrite of every occurrence", "by-regex", "/xxx/one/yyy/one/zzz"),
    Row("regex rewrite minds case", "by-regex", "/xxx/ONE/yyy"),
    Row("regex rewrite of nothing", "by-regex", "/none/x"),
    Row("regex rewrite of the whole", "by-regex", "/whole/x/y?q"),
    Row("regex rewrite with a flag", "by-regex", "/caseless/x/X/y"),
    Row("regex rewrite with all of the match", "by-regex", "/zero/x"),
    Row("regex rewrite leaves the query", "by-regex", "/query/a=1?a=1"),
    Row("host set by the route", "host-set", "/route"),
    Row("host set by the destination", "host-set", "/destination"),
    Row("host set at both levels", "host-set", "/levels"),
    Row("host set at both levels of a split", "host-set", "/weighted"),
    Row("host set by its pseudo name", "host-set", "/authority"),
    *(Row(f"path {path}", "echo", path, status=400, probe=True) for path in ("/%00", "/%c3%a4%00", "/a%00b?x")),
    *(Row(f"path {path}", "echo", path) for path in PATHS),
    *(Row(f"path {path}", "echo", path) for path in ESCAPED),
]
