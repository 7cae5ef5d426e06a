"""A control process without a plane: publishes the Snapshot in a file, again at each reload. For tests of the processes.

`python static_control.py FILE --channel FD --parent PID`. FILE: {"workers", "drain_ms", "state_dir", "parts": {name: part}}.
"""

import pathlib
import sys

import msgspec
import trio

from appliance.admin.gateway import GatewayView, Nothing
from appliance.control import Begun, CannotBegin, main
from appliance.messages import Settings
from discovery.watch import Watchable
from federation.remembered import Remembered
from gateway.snapshot import Part, Snapshot
from gateway.verdicts import Verdicts


class Configuration(msgspec.Struct):
    workers: int
    state_dir: str
    parts: dict[str, Part]
    drain_ms: int = 5000


class StaticPlane:
    """control.Plane that publishes what is in the file."""

    def __init__(self, path):
        self.path = path
        self.snapshots = Watchable(Snapshot())
        self.verdicts = Watchable(Verdicts())
        self.secrets = Watchable({})
        self.rounds = Watchable(0)
        self.remembered = Remembered()

    async def run(self):
        self.reload()
        await trio.sleep_forever()

    def reload(self):
        self.snapshots.set(Snapshot(read(self.path).parts))

    def report(self, report):
        pass

    def hand_off(self, connection, hello):
        connection.send(b"handed off: " + hello[:5])
        connection.close()


def read(path):
    return msgspec.json.decode(pathlib.Path(path).read_bytes(), type=Configuration)


def write(path, *, workers, state_dir, parts, drain_ms=5000):
    """Write the file; parts are Parts."""
    named = Snapshot.of(parts).parts
    new = pathlib.Path(f"{path}.new")
    new.write_bytes(msgspec.json.encode(Configuration(workers, str(state_dir), dict(named), drain_ms)))
    new.rename(path)


def begin(paths):
    try:
        configuration = read(paths[0])
    except (OSError, msgspec.DecodeError) as exc:
        raise CannotBegin([f"{paths[0]}: {exc}"]) from exc
    settings = Settings(workers=configuration.workers, drain_ms=configuration.drain_ms, state_dir=configuration.state_dir)
    return Begun(StaticPlane(paths[0]), settings)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], begin, lambda parts: GatewayView(parts, Nothing())))
