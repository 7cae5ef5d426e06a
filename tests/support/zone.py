"""A real nameserver on a UDP socket of 127.0.0.1, for tests: answers from a table that the test changes."""

import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import trio


class Zone:
    """records: {(name, kind): [rdata text, …]}; a name with any record answers NOERROR for its other kinds, an unknown one
    NXDOMAIN. broken: {name: rcode, or None for silence}. ttl: of every record. asked: every question, in order."""

    def __init__(self, records, *, ttl=300):
        self.records = records
        self.ttl = ttl
        self.broken = {}
        self.asked = []
        self.waiting = 0
        self.most_waiting = 0
        self.hold = None
        self._moved = trio.Event()

    async def serve(self, task_status=trio.TASK_STATUS_IGNORED):
        with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as socket:
            await socket.bind(("127.0.0.1", 0))
            async with trio.open_nursery() as nursery:
                task_status.started(socket.getsockname()[1])
                while True:
                    data, client = await socket.recvfrom(65535)
                    nursery.start_soon(self._reply, socket, dns.message.from_wire(data), client)

    async def wait(self, condition):
        """Until `condition()` is true; looked at whenever a question arrived or was answered."""
        while not condition():
            await self._moved.wait()

    async def _reply(self, socket, query, client):
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        self.waiting += 1
        self.most_waiting = max(self.most_waiting, self.waiting)
        self._move()
        if self.hold is not None:
            await self.hold.wait()
        self.waiting -= 1
        response = dns.message.make_response(query)
        if name in self.broken:
            if self.broken[name] is None:
                return self._note(name, kind)
            response.set_rcode(self.broken[name])
        elif texts := self.records.get((name, kind)):
            for text in texts:  # one by one, as dnspython shuffles the records of a set
                response.answer.append(dns.rrset.from_text(question.name, self.ttl, "IN", kind, text))
        elif not any(known == name for known, _ in self.records):
            response.set_rcode(dns.rcode.NXDOMAIN)
        await socket.sendto(response.to_wire(), client)
        self._note(name, kind)

    def _note(self, name, kind):
        self.asked.append((name, kind))
        self._move()

    def _move(self):
        moved, self._moved = self._moved, trio.Event()
        moved.set()
