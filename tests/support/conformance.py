"""What every implementation of a protocol must do. Real ones and fakes pass the same check."""

import trio

from discovery.model import Service, ShardKey
from discovery.update import Absent, Remove, Reset, Upsert


async def check_source(source, *, change=None, within=5.0):
    """Any Source: names itself; begins each watch with a Reset of distinct services; whatever `change()` (async) alters
    comes as updates that lead to what the next watch's Reset says; two watches in a row say the same; leaving the context
    ends it at once. Returns the last Reset's services by hostname.
    """
    assert source.name
    assert source.cluster
    str(ShardKey(source.cluster, source.name))
    with trio.fail_after(within):
        known = await _first(source)
        assert await _first(source) == known, "two watches of an unchanged registry differ"
        if change is None:
            return known
        async with source.watch() as updates:
            known = _applied({}, await updates.receive())
            await change()
            while True:
                expected = await _first(source)
                if known == expected:
                    return known
                known = _applied(known, await updates.receive())


async def _first(source):
    async with source.watch() as updates:
        update = await updates.receive()
        assert isinstance(update, Reset), f"a watch begins with {update!r}, not a Reset"
        names = [service.hostname for service in update.services]
        assert len(names) == len(set(names)), "a Reset says a service twice"
        return _applied({}, update)


def _applied(known, update):
    match update:
        case Reset(services=services):
            assert all(isinstance(service, Service) for service in services)
            return {service.hostname: service for service in services}
        case Upsert(service=service):
            assert known.get(service.hostname) != service, "an Upsert that changes nothing"
            return {**known, service.hostname: service}
        case Remove(hostname=hostname) | Absent(hostname=hostname):
            return {name: service for name, service in known.items() if name != hostname}
    raise AssertionError(f"not an Update: {update!r}")
