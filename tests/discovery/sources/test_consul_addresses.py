"""Instances registered with a DNS name."""

import socket

import trio
import trio.testing

from discovery.sources.consul_addresses import EVERY, Addresses, system_lookup


class Names:
    def __init__(self):
        self.answers = {}
        self.asked = []

    async def lookup(self, name):
        self.asked.append(name)
        answer = self.answers[name]
        if isinstance(answer, Exception):
            raise answer
        return answer


async def begun(nursery):
    names, changed = Names(), []
    addresses = Addresses(changed.append, lookup=names.lookup)
    nursery.start_soon(addresses.run)
    await trio.testing.wait_all_tasks_blocked()
    return names, addresses, changed


async def test_names_are_asked_for_at_once_and_then_now_and_then(nursery, autojump_clock):
    names, addresses, changed = await begun(nursery)
    assert addresses.asked
    names.answers = {"a": ["10.0.0.2", "10.0.0.1", "10.0.0.2"], "b": ["10.0.0.3"]}
    addresses.want(["a", "b"])
    assert not addresses.asked
    await trio.testing.wait_all_tasks_blocked()
    assert addresses.known == {"a": ("10.0.0.1", "10.0.0.2"), "b": ("10.0.0.3",)}
    assert addresses.asked
    assert sorted(changed) == ["a", "b"]
    names.answers["a"] = ["10.0.0.9"]
    addresses.want(["a"])
    await trio.sleep(EVERY + 1)
    assert addresses.known == {"a": ("10.0.0.9",)}
    assert sorted(changed) == ["a", "a", "b"]
    assert names.asked.count("b") == 1
    nursery.cancel_scope.cancel()


async def test_a_failure_keeps_the_last_addresses_and_none_such_takes_them(nursery, autojump_clock):
    names, addresses, changed = await begun(nursery)
    names.answers = {"a": ["10.0.0.1"], "never": TimeoutError("no answer")}
    addresses.want(["a", "never"])
    await trio.testing.wait_all_tasks_blocked()
    assert addresses.known == {"a": ("10.0.0.1",), "never": ()}
    names.answers["a"] = socket.gaierror(socket.EAI_AGAIN, "try again")
    await trio.sleep(EVERY + 1)
    assert addresses.known["a"] == ("10.0.0.1",)
    names.answers["a"] = socket.gaierror(socket.EAI_NONAME, "not known")
    await trio.sleep(EVERY)
    assert addresses.known["a"] == ()
    assert changed.count("a") == 2
    nursery.cancel_scope.cancel()


async def test_the_systems_resolver_knows_addresses():
    assert set(await system_lookup("127.0.0.1")) == {"127.0.0.1"}
