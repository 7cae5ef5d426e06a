"""Small real HTTP/1.1 workloads of a test, as a process: `python workload.py ADDRESS NAME=PORT…`.

It ends when its input does. Threads and blocking sockets and nothing
that is imported from the product, so that it starts in 50 ms and what it saw is its own reading of the bytes.

Every answer is JSON of the request it saw: method, path, headers (as pairs, in their order), length of the body. Paths that misbehave:
    /status/N  /sleep/SECONDS  /big/N (bytes of body)  /chunked
    /only/NAME/N    status N, and only from the workload of that name
    /close          closes without an answer
    /half           closes in the middle of a body
    /noise          answers what is no HTTP
    /empty/N        status N, and neither a body nor a length (204, 304)
    /echo           the body that came
    /range          CONTENT, or the part of it that `range: bytes=FIRST-LAST` asks for
    /early          103 Early Hints before the answer
    /seen           the requests that this name saw, without the ones to /seen and /healthz
"""

import json
import socket
import sys
import threading

CONTENT = bytes(range(256)) * 4000
SLEEP = threading.Event()  # never set: its wait is what /sleep sleeps on


class Name:
    """What runs under one name."""

    def __init__(self, name, address, port):
        self.name = name
        self.seen = []
        self.listener = socket.create_server((address, port), backlog=1024)

    def accept(self):
        while True:
            connection, _ = self.listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        try:
            with connection, connection.makefile("rb", 65536) as file:
                while self.one(connection, file):
                    pass
        except (OSError, ValueError):
            pass

    def one(self, connection, file):
        """One exchange; False when the connection is at its end."""
        line = file.readline()
        if not line.strip():
            return False
        method, path, _ = line.decode("latin-1").split()
        headers = []
        while (line := file.readline().decode("latin-1")) not in ("\r\n", ""):
            name, _, value = line.partition(":")
            headers.append((name.lower(), value.strip()))
        known = dict(headers)
        if known.get("expect", "").lower() == "100-continue":
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        data = body(file, known)
        request = {"method": method, "path": path, "headers": headers, "body": len(data), "served_by": self.name}
        where = path.partition("?")[0]
        if where not in ("/seen", "/healthz"):
            self.seen.append(request)
        if where == "/seen":
            request = self.seen[-1000:]
        if where == "/echo":
            connection.sendall(self.head(200, [f"content-length: {len(data)}"]) + data)
            return True
        if where == "/range":
            return self.part(connection, method, known.get("range", ""))
        return self.answer(connection, method, where.split("/")[1:], request) and known.get("connection", "").lower() != "close"

    def answer(self, connection, method, words, request):
        status, content = 200, None
        match words:
            case ["status", number]:
                status = int(number)
            case ["only", name, number] if name == self.name:
                status = int(number)
            case ["sleep", seconds]:
                SLEEP.wait(float(seconds))
            case ["big", number]:
                content = b"x" * int(number)
            case ["empty", number]:
                connection.sendall(self.head(int(number), ['etag: "1"']))
                return True
            case ["early"]:
                connection.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")
            case ["close"]:
                return False
            case ["noise"]:
                connection.sendall(b"220 this is no web server\r\n")
                return False
            case ["half"]:
                connection.sendall(self.head(200, ["content-length: 100"]) + b"x" * 10)
                return False
            case ["chunked"]:
                connection.sendall(self.head(200, ["transfer-encoding: chunked"]) + b"5\r\nhello\r\n7\r\n chunks\r\n0\r\n\r\n")
                return True
        if content is None:
            content = json.dumps(request).encode()
        head = self.head(status, ["content-type: application/json", f"content-length: {len(content)}"])
        connection.sendall(head if method == "HEAD" else head + content)
        return True

    def part(self, connection, method, wanted):
        """RFC 9110 section 14, one range."""
        status, content, lines = 200, CONTENT, ["accept-ranges: bytes"]
        if wanted.startswith("bytes="):
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            status, content = 206, CONTENT[int(first) : int(last or len(CONTENT)) + 1]
            lines.append(f"content-range: bytes {first}-{int(first) + len(content) - 1}/{len(CONTENT)}")
        head = self.head(status, [*lines, f"content-length: {len(content)}"])
        connection.sendall(head if method == "HEAD" else head + content)
        return True

    def head(self, status, lines):
        return "\r\n".join([f"HTTP/1.1 {status} Whatever", f"x-served-by: {self.name}", *lines, "", ""]).encode()


def body(file, headers):
    if "chunked" not in headers.get("transfer-encoding", ""):
        return file.read(int(headers.get("content-length", 0)))
    data = b""
    while size := int(file.readline().split(b";")[0], 16):
        data += file.read(size)
        file.readline()
    while file.readline().strip():
        pass
    return data


def main():
    address, *names = sys.argv[1:]
    for name, _, port in (each.partition("=") for each in names):
        threading.Thread(target=Name(name, address, int(port)).accept, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
