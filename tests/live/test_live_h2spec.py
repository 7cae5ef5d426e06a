"""h2spec, whole and strict: generic, http2 and hpack, 146 cases, against each thing of ours that serves HTTP/2."""

import xml.etree.ElementTree as ElementTree

import go_peers
import pytest
import trio
from h2_server import serve_codec

pytestmark = [
    pytest.mark.live,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # the first time it is built
    pytest.mark.skipif(bool(go_peers.NO_GO), reason=go_peers.NO_GO),
    pytest.mark.xdist_group("live-h2spec"),
]

SUITES = ("generic", "http2", "hpack")
CASES = 146  # in h2spec 2.2.1
TARGETS = {"codec": serve_codec}
"""By name: what serves HTTP/2 on a free port until it is cancelled, and tells the port when it is ready."""


def outcome(report):
    """(cases, what failed and how) of a JUnit report."""
    cases, failed = 0, []
    for suite in ElementTree.fromstring(report).iter("testsuite"):
        for case in suite.iter("testcase"):
            cases += 1
            for kind in ("failure", "error", "skipped"):
                for found in case.findall(kind):
                    text = " ".join((found.text or "").split())
                    failed.append(f"{kind}: {suite.get('name')}: {case.get('classname')}: {text}")
    return cases, failed


@pytest.mark.parametrize("target", TARGETS)
async def test_h2spec(target, tmp_path, capsys):
    h2spec = (await trio.to_thread.run_sync(go_peers.build, "h2spec")) / "h2spec"
    report = tmp_path / "report.xml"
    async with trio.open_nursery() as nursery:
        port = await nursery.start(TARGETS[target])
        where = ["-h", "127.0.0.1", "-p", str(port)]
        command = [str(h2spec), *SUITES, *where, "--strict", "-o", "2", "-j", str(report)]
        done = await trio.run_process(command, capture_stdout=True, capture_stderr=True, check=False)
        nursery.cancel_scope.cancel()
    cases, failed = outcome(report.read_text())
    with capsys.disabled():
        print(f"\nh2spec --strict {' '.join(SUITES)} against {target}: {cases - len(failed)} of {cases} passed")
    assert not failed, "\n".join(failed)
    assert cases == CASES
    assert done.returncode == 0
