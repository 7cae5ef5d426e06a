"""The index of names against a plain search, whatever comes and goes."""

from hypothesis import given
from hypothesis import strategies as st

from gateway.native.codec.dns import encode_name
from gateway.native.nameserver_names import Names
from gateway.snapshot import Dns, Name

SPELLINGS = st.sampled_from(["a.test", "b.test", "c.a.test", "x.y.cluster.local", "*.test", "*.a.test", "A.TEST", "bad..name"])
ADDRESSES = st.lists(st.sampled_from(["10.0.0.1", "10.0.0.2", "fd00::1", "none"]), max_size=2, unique=True).map(tuple)
NAMES = st.builds(
    Name, name=SPELLINGS, aliases=st.lists(SPELLINGS, max_size=2).map(tuple), addresses=ADDRESSES, backends=st.just(("b",))
)
WORLDS = st.lists(NAMES, max_size=4, unique_by=lambda name: name.name)
ASKED = (
    "a.test",
    "b.test",
    "c.a.test",
    "d.a.test",
    "z.test",
    "test",
    "x.y.cluster.local",
    "y.cluster.local",
    "q.x.y.cluster.local",
)


def parts(names):
    return {f"name/{name.name}": name for name in names}


def shown(index):
    found = {}
    for text in ASKED:
        wire = encode_name(text)
        found[text] = index.find(wire), index.zone(wire), index.above(wire)
    for reverse in ("1.0.0.10.in-addr.arpa", "2.0.0.10.in-addr.arpa"):
        found[reverse] = index.pointed(encode_name(reverse))
    return found


@given(st.lists(WORLDS, min_size=1, max_size=4))
def test_changes_end_where_beginning_afresh_does(worlds):
    changing, before = Names(), {}
    for world in worlds:
        now = parts(world)
        differing = {name for name in before.keys() | now.keys() if before.get(name) != now.get(name)}
        list(changing.apply(Dns(), now, differing))
        afresh = Names()
        list(afresh.apply(Dns(), now))
        assert shown(changing) == shown(afresh)
        assert len(changing) == len(world)
        before = now


def test_zones():
    index = Names()
    assert index.zone(encode_name("a.b.cluster.local")) == encode_name("cluster.local")
    assert index.zone(encode_name("global")) == encode_name("global")
    assert index.zone(encode_name("local")) is None
    list(index.apply(Dns(zones=("b.cluster.local", "cluster.local")), {}))
    assert index.zone(encode_name("a.b.cluster.local")) == encode_name("b.cluster.local")
