"""The nameserver of a running engine, asked by dnspython over real sockets."""

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
import trio
from nameserving import LOOPBACK, nameserving, texts
from native_engine import backend, endpoint

from gateway.snapshot import Dns, EndpointSet, Name
from gateway.verdicts import Health, Verdict, Verdicts

REVIEWS = Name(
    "reviews.shop.svc.cluster.local",
    aliases=("reviews.shop", "reviews.shop.svc", "reviews.shop.global"),
    addresses=("240.240.0.7", "2001:2::7"),
    ports=(("http", "tcp", 80), ("grpc", "tcp", 9000)),
)
HEADLESS = Name("db.shop.svc.cluster.local", backends=("outbound|5432||db.shop",), ports=(("pg", "tcp", 5432),), headless=True)


async def test_addresses_are_answered_under_every_spelling_and_in_any_case():
    async with nameserving(REVIEWS) as server:
        for name in ("reviews.shop.svc.cluster.local", "reviews.shop", "REVIEWS.shop.svc", "reviews.shop.GLOBAL."):
            answer = await server.ask(name)
            assert texts(answer) == ["240.240.0.7"]
            assert answer.answer[0].ttl == 30
            assert answer.flags & dns.flags.AA
            assert answer.question[0].name.to_text(omit_final_dot=True) == name.rstrip(".")
        assert await server.texts("reviews.shop", "AAAA") == ["2001:2::7"]
        assert await server.texts("reviews.shop", "ANY") == ["2001:2::7", "240.240.0.7"]


async def test_the_second_time_the_answer_comes_from_the_cache_with_the_new_id():
    async with nameserving(REVIEWS) as server:
        query = dns.message.make_query("reviews.shop", "A")
        for number in (1, 2, 3):
            query.id = number
            assert texts(await server.ask(query)) == ["240.240.0.7"]
        assert (server.nameserver.counts["made"], server.nameserver.counts["kept"]) == (1, 2)


async def test_a_snapshot_with_other_addresses_is_answered_at_once():
    async with nameserving(REVIEWS) as server:
        assert await server.texts("reviews.shop") == ["240.240.0.7"]
        moved = Name(REVIEWS.name, REVIEWS.aliases, ("240.240.0.8",))
        server.snapshots.set(server.snapshot(moved, dns=Dns(allow=LOOPBACK, synced=True)))
        with trio.fail_after(10):
            while await server.texts("reviews.shop") != ["240.240.0.8"]:
                await trio.lowlevel.checkpoint()
        server.snapshots.set(server.snapshot(dns=Dns(allow=LOOPBACK, synced=True)))
        with trio.fail_after(10):
            while (await server.ask(REVIEWS.name)).rcode() != dns.rcode.NXDOMAIN:
                await trio.lowlevel.checkpoint()


def headless(*endpoints):
    return (HEADLESS, backend(HEADLESS.backends[0]), EndpointSet(HEADLESS.backends[0], endpoints))


async def test_a_headless_service_is_answered_by_its_healthy_endpoints_of_the_nearest_priority():
    near, other = endpoint(5432, address="10.0.0.1"), endpoint(5432, address="10.0.0.2")
    far = endpoint(5432, address="10.0.9.9", priority=1)
    peer = endpoint(15443, address="192.0.2.1", peer="west")
    async with nameserving(*headless(near, other, far, peer)) as server:
        assert await server.texts(HEADLESS.name) == ["10.0.0.1", "10.0.0.2"]
        for sick, left in (({near}, ["10.0.0.2"]), ({near, other}, ["10.0.9.9"]), ({near, other, far}, [])):
            verdicts = {each.id: Verdict(Health.UNHEALTHY) for each in sick}
            server.verdicts.set(Verdicts(endpoints={HEADLESS.backends[0]: verdicts}))
            with trio.fail_after(10):
                while await server.texts(HEADLESS.name) != left:
                    await trio.lowlevel.checkpoint()


async def test_the_orders_of_several_addresses_change_and_come_from_the_cache():
    async with nameserving(*headless(*(endpoint(5432, address=f"10.0.0.{number}") for number in range(1, 9)))) as server:
        firsts = {(await server.ask(HEADLESS.name)).answer[0][0].to_text() for _ in range(40)}
        assert len(firsts) > 2
        assert server.nameserver.counts["kept"] >= 20


async def test_peculiar_questions_are_answered_as_the_plain_ones_they_stand_for():
    cookie = dns.edns.GenericOption(dns.edns.OptionType.COOKIE, b"12345678")
    async with nameserving(REVIEWS) as server:
        for options in ({"options": [cookie], "use_edns": 0}, {"use_edns": 0, "payload": 4096, "want_dnssec": True}):
            for name in ("reviews.shop", "rEviews.shop"):
                answer = await server.ask(name, **options)
                assert texts(answer) == ["240.240.0.7"]
                assert answer.question[0].name.to_text() == f"{name}."
                assert (answer.edns, answer.payload, answer.options) == (0, 1232, ())
                assert bool(answer.ednsflags & dns.flags.DO) == ("want_dnssec" in options)
        assert server.nameserver.counts["made"] == 2  # with signatures wanted and without
        assert server.nameserver.counts["kept"] == 2


async def test_nobody_outside_the_networks_is_answered():
    async with nameserving(REVIEWS, dns=Dns(allow=("10.0.0.0/8",), synced=True)) as server:
        answer = await server.ask("reviews.shop")
        assert answer.rcode() == dns.rcode.REFUSED
        assert not answer.answer
        with pytest.raises(AssertionError, match="closed early"):
            await server.ask_stream(dns.message.make_query("reviews.shop", "A"))


@pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0"])
async def test_nor_is_what_others_have_asked(address):
    dns_part = Dns(allow=("127.0.0.1/32",), synced=True)
    async with nameserving(REVIEWS, dns=dns_part, address=address) as server:
        for _ in range(2):
            assert texts(await server.ask("reviews.shop", address="127.0.0.1", source="127.0.0.1")) == ["240.240.0.7"]
            assert texts(await server.ask("REVIEWS.shop", address="127.0.0.1", source="127.0.0.1")) == ["240.240.0.7"]
            for name in ("reviews.shop", "REVIEWS.shop"):
                answer = await server.ask(name, address="127.0.0.1", source="127.25.0.9")
                assert (answer.rcode(), answer.answer) == (dns.rcode.REFUSED, [])


async def test_what_is_neither_a_service_nor_in_a_zone_is_refused_without_upstreams():
    async with nameserving(REVIEWS) as server:
        assert (await server.ask("www.example.com")).rcode() == dns.rcode.REFUSED
        chaos = dns.message.make_query("version.bind", "TXT", "CH")
        assert (await server.ask(chaos)).rcode() == dns.rcode.REFUSED


async def test_before_the_first_sync_unknown_names_fail_and_known_ones_are_answered():
    async with nameserving(REVIEWS, dns=Dns(allow=LOOPBACK, synced=False)) as server:
        assert (await server.ask("other.shop.svc.cluster.local")).rcode() == dns.rcode.SERVFAIL
        assert await server.texts("reviews.shop") == ["240.240.0.7"]


@pytest.mark.parametrize(
    ("wire", "answer"),
    [
        (b"", None),
        (b"\x12\x34\x81\x80" + b"\0" * 8, None),  # a response: two servers would answer each other
        (b"\x12\x34\x01\0\0\x01" + b"\0" * 6 + b"\x05shor", dns.rcode.FORMERR),
        (b"\x12\x34\x01\0\0\x02" + b"\0" * 6, dns.rcode.FORMERR),
        (b"\x12\x34\x28\0\0\x01" + b"\0" * 6 + b"\0\0\x06\0\x01", dns.rcode.NOTIMP),  # an update
        (b"\x12\x34\x01\0\0\x01" + b"\0" * 5 + b"\x01\0\0\x01\0\x01" + b"\0\0\x29\x04\xd0\0\x01\0\0\0\0", dns.rcode.BADVERS),
    ],
    ids=["nothing", "response", "cut", "two-questions", "update", "edns-1"],
)
async def test_what_is_no_question_gets_an_error_or_nothing(wire, answer):
    async with nameserving(REVIEWS) as server:
        if answer is None:
            with trio.move_on_after(0.05) as scope:
                await server.exchange(wire)
            assert scope.cancelled_caught
        else:
            reply = dns.message.from_wire(await server.exchange(wire))
            assert (reply.id, reply.rcode()) == (0x1234, answer)
        assert await server.texts("reviews.shop") == ["240.240.0.7"]


async def test_an_answer_that_does_not_fit_is_cut_and_whole_by_tcp():
    many = headless(*(endpoint(5432, address=f"10.0.{number // 200}.{number % 200 + 1}") for number in range(300)))
    async with nameserving(*many) as server:
        for options, most in (({}, 512), ({"use_edns": 0, "payload": 4096}, 1232), ({"use_edns": 0, "payload": 100}, 512)):
            answer = await server.ask(HEADLESS.name, **options)
            assert answer.flags & dns.flags.TC
            assert len(answer.to_wire()) <= most
            assert 20 < len(answer.answer[0]) < 300
        whole, again = await server.ask_stream(*[dns.message.make_query(HEADLESS.name, "A")] * 2)
        assert len(whole.answer[0]) == len(again.answer[0]) == 300
        assert not whole.flags & dns.flags.TC


async def test_a_wildcard_socket_answers_from_the_address_that_was_asked():
    async with nameserving(REVIEWS, address="0.0.0.0") as server:
        for address in ("127.0.0.1", "127.25.0.9"):
            assert texts(await server.ask("reviews.shop", address=address)) == ["240.240.0.7"]
    async with nameserving(REVIEWS, address="::") as server:
        assert texts(await server.ask("reviews.shop", address="::1")) == ["240.240.0.7"]


async def test_the_cache_is_bounded_and_keeps_what_is_asked_for(monkeypatch):
    monkeypatch.setattr("gateway.native.nameserver_kept.HALF", 20)
    async with nameserving(REVIEWS, Name("*.wild.test", addresses=("10.9.9.9",))) as server:
        for number in range(100):
            assert await server.texts(f"n{number}.wild.test") == ["10.9.9.9"]
            await server.texts("reviews.shop")
        assert len(server.nameserver.kept) <= 41
        assert server.nameserver.counts["kept"] == 99


async def test_questions_are_counted_by_how_they_were_answered():
    async with nameserving(REVIEWS) as server:
        for name in ("reviews.shop", "reviews.shop", "www.example.com"):
            await server.ask(name)
        assert server.engine.statistics().dns == (("kept", 1), ("made", 1), ("refused", 1))
        assert repr(server.nameserver).startswith("<Nameserver <Names 1 names 4 spellings> <Forwarder () 0 kept 0 under way>")


def framed(*wires):
    return b"".join(len(wire).to_bytes(2, "big") + wire for wire in wires)


QUESTION = dns.message.make_query("reviews.shop", "A").to_wire()


@pytest.mark.parametrize(
    "data",
    [framed(b"short"), framed(bytes(5000)), framed(QUESTION[:2] + b"\x81" + QUESTION[3:])],
    ids=["short", "zeros", "response"],
)
async def test_what_is_no_question_by_tcp_ends_the_connection(data):
    async with nameserving(REVIEWS) as server:
        async with await trio.open_tcp_stream(server.address, server.port) as stream:
            await stream.send_all(data)
            with trio.fail_after(10):
                assert await ended(stream)
        assert await server.texts("reviews.shop") == ["240.240.0.7"]


async def ended(stream):
    try:
        return await stream.receive_some() == b""
    except trio.BrokenResourceError:
        return True


async def test_a_question_by_tcp_may_come_in_pieces():
    async with nameserving(REVIEWS) as server, await trio.open_tcp_stream(server.address, server.port) as stream:
        for byte in framed(QUESTION):
            await stream.send_all(bytes([byte]))
            await trio.lowlevel.checkpoint()
        with trio.fail_after(10):
            assert texts(dns.message.from_wire((await stream.receive_some())[2:])) == ["240.240.0.7"]


async def test_connections_are_bounded(monkeypatch):
    monkeypatch.setattr("gateway.native.nameserver._CONNECTIONS", 2)
    async with nameserving(REVIEWS) as server:
        first, second = [await trio.open_tcp_stream(server.address, server.port) for _ in range(2)]
        async with first, second:
            for stream in (first, second):
                await stream.send_all(framed(QUESTION))
                await stream.receive_some()
            async with await trio.open_tcp_stream(server.address, server.port) as third:
                with trio.fail_after(10):
                    assert await ended(third)
            assert server.nameserver.connections == 2


@pytest.mark.slow
async def test_a_connection_that_idles_is_closed_after_its_time_and_at_once_in_a_drain(monkeypatch):
    monkeypatch.setattr("gateway.native.nameserver._IDLE_S", 0.2)
    async with nameserving(REVIEWS) as server:
        async with await trio.open_tcp_stream(server.address, server.port) as stream:
            await stream.send_all(framed(QUESTION))
            await stream.receive_some()
            with trio.fail_after(10):
                assert await ended(stream)
        monkeypatch.setattr("gateway.native.nameserver._IDLE_S", 60.0)
        async with await trio.open_tcp_stream(server.address, server.port) as stream:
            await stream.send_all(framed(QUESTION))
            await stream.receive_some()
            with trio.fail_after(10):
                await server.engine.drain(trio.current_time() + 30)
                assert await ended(stream)
