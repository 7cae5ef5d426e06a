"""Floods a nameserver with questions, as fast as one process can, and reads no answers: `python dns_flood.py ADDRESS PORT KIND SECONDS`.

KIND: known, unknown (in a zone), outside (forwarded), garbage. Prints how many it sent.
"""

import os
import socket
import struct
import sys
import time


def question(name, number):
    wire = b"".join(bytes([len(label)]) + label for label in name.encode().split(b"."))
    return struct.pack(">HHHHHH", number & 0xFFFF, 0x0100, 1, 0, 0, 0) + wire + b"\0\0\1\0\1"


def main(address, port, kind, seconds):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.connect((address, port))
        sent, until = 0, time.monotonic() + seconds
        while time.monotonic() < until:
            for _ in range(100):
                sent += 1
                wire = {
                    "known": lambda: question("reviews.shop.svc.cluster.local", sent),  # noqa: B023  called at once
                    "unknown": lambda: question(f"n{sent}.shop.svc.cluster.local", sent),  # noqa: B023
                    "outside": lambda: question(f"n{sent}.example.com", sent),  # noqa: B023
                    "garbage": lambda: os.urandom(sent % 200),  # noqa: B023
                }[kind]()
                try:
                    sock.send(wire)
                except OSError:
                    sent -= 1
    print(sent)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4]))
