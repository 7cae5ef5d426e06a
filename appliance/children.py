"""The supervisor's child processes: how one is started, spoken to and waited for, and what a child does about its parent's death.

A child gets one end of a packet pair as an inherited descriptor, named on its command line, and nothing else: all other
descriptors come to it as messages. It asks the kernel to be killed when the supervisor dies (PR_SET_PDEATHSIG, set by the child
itself so that nothing runs between fork and exec); a port is therefore never held by an orphan.

The kernel sends that signal when the *thread* that made the child ends. So children are started by the main thread: trio's own
open_process would use a thread of its cache, which ends after 10 s of idleness, and the children with it.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import math
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

import msgspec
import trio

from appliance.channel import Closed, Packets, packet_pair

T = TypeVar("T")

# sysexits.h EX_CONFIG: control ends so when it has nothing to run at all, and has said why on stderr.
EXIT_CONFIG = 78

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
# A child that has closed its conversation is about to exit (it exits by itself in milliseconds); after this it is stuck.
_LAST_BREATH_S = 5.0
# A process that lived this long was started well: its death says nothing about the next one's fate, which begins at once.
_SETTLED_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


def pause_before_restart(lived_s: float, failures: int) -> float:
    """Seconds to wait before a process is started again; `failures`: how many in a row died young, this one included.

    None for one that had settled and for the first that had not; then 0.1 s, doubling, 5 s at most: traffic waits for this."""
    if lived_s >= _SETTLED_S or failures <= 1:
        return 0.0
    return min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 2, 16))


def settled(lived_s: float) -> bool:
    """True if a process that lived so long counts as started well."""
    return lived_s >= _SETTLED_S


def die_with_parent(parent: int) -> None:
    """For a child, first thing: be killed when the supervisor (process `parent`) is. Exits at once if it is dead already."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:
        os._exit(1)


def parse_child(arguments: Sequence[str]) -> argparse.Namespace:
    """What every child process is told on its command line; asks to die with its parent."""
    parser = argparse.ArgumentParser(prog="python -m appliance", description="a process of `fedgate run`; not for people")
    parser.add_argument("--channel", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    die_with_parent(options.parent)
    return options


class Child(Generic[T]):
    """One running process and the conversation with it."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], packets: Packets[T]) -> None:
        self.name = name
        self.pid = process.pid
        self._process = process
        self._packets = packets
        self._send: trio.MemorySendChannel[tuple[msgspec.Struct, list[int]]]
        # Unbounded, but short: messages follow changes of listeners and of processes, and a child is told each once.
        self._send, self._outbox = trio.open_memory_channel(math.inf)

    @classmethod
    def start(cls, name: str, command: Sequence[str], incoming: Any) -> Child[T]:
        """Start `command`, with `--channel FD --parent PID` appended. Blocks until it has been executed, some milliseconds. For the
        main thread. Raises OSError when it cannot be started."""
        ours, theirs = packet_pair()
        with theirs:
            number = theirs.fileno()
            try:
                arguments = [*command, "--channel", str(number), "--parent", str(os.getpid())]
                process = subprocess.Popen(arguments, pass_fds=(number,), stdin=subprocess.DEVNULL)
            except OSError:
                ours.close()
                raise
        return cls(name, process, Packets(ours, incoming))

    def tell(self, message: msgspec.Struct, descriptors: Sequence[int] = ()) -> None:
        """Queue a message. Descriptors are duplicated: the caller may close its own. To a dead child nothing is said."""
        copies = [os.dup(number) for number in descriptors]
        try:
            self._send.send_nowait((message, copies))
        except trio.BrokenResourceError:
            _close(copies)

    async def write(self) -> None:
        """Carry queued messages over until cancelled or the child is gone."""
        try:
            async for message, copies in self._outbox:
                try:
                    await self._packets.send(message, copies)
                except Closed:
                    return
                finally:
                    _close(copies)
        finally:
            self._forget()

    async def hear(self) -> T | None:
        """The next thing the child says; None when it has nothing more to say. No child sends descriptors: any are closed."""
        try:
            message, descriptors = await self._packets.receive()
        except Closed:
            return None
        with descriptors:
            return message

    async def ended(self) -> int:
        """Wait for its end: exit status, or minus the signal. One that closed its conversation and lingers is killed."""
        while (status := self._process.poll()) is None:
            # Several may wait, and trio lets one task wait for a descriptor: each has its own.
            watch = os.pidfd_open(self.pid)
            try:
                await trio.lowlevel.wait_readable(watch)
            finally:
                os.close(watch)
        return status

    async def last_breath(self) -> None:
        """After `hear` said None: the process is about to end; see to it that it does."""
        with trio.move_on_after(_LAST_BREATH_S):
            await self.ended()
            return
        self.kill()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    def close(self) -> None:
        """End the conversation; of a process that has ended."""
        self._forget()
        self._packets.close()

    def _forget(self) -> None:
        self._outbox.close()  # from now on `tell` closes what it is given
        with contextlib.suppress(trio.ClosedResourceError, trio.WouldBlock, trio.EndOfChannel):
            while True:
                _close(self._outbox.receive_nowait()[1])

    def __repr__(self) -> str:
        return f"<Child {self.name} pid {self.pid}>"


def _close(numbers: Sequence[int]) -> None:
    for number in numbers:
        os.close(number)
