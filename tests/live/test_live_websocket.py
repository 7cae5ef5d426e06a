"""The `websockets` library as client and server, the gateway between them: over HTTP/1.1 upgrades, plain and over TLS."""

import contextlib
import http
import socket
import threading

import pytest
import traffic
from curling import HOST, WEB, World
from running import fresh_address, listening, routes, running, server, service, to

client = pytest.importorskip("websockets.sync.client", reason="websockets is not installed")
serving = pytest.importorskip("websockets.sync.server", reason="websockets is not installed")
errors = pytest.importorskip("websockets.exceptions", reason="websockets is not installed")

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.xdist_group("live-websocket")]

LARGE = 8_000_000


class Room:
    """A websocket server in a thread: echoes; `close CODE` closes with it; `drop` closes the connection without a word."""

    def __init__(self):
        self.address = fresh_address()
        self.codes = []
        self.closed = threading.Condition()
        self.server = serving.serve(
            self.talk, self.address, 0, process_request=self.look, select_subprotocol=self.choose, max_size=None
        )
        self.port = self.server.socket.getsockname()[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def choose(self, connection, offered):
        return "chat.v2" if "chat.v2" in offered else None

    def look(self, connection, request):
        if request.path == "/secret":
            return connection.respond(http.HTTPStatus.UNAUTHORIZED, "not you\n")
        return None

    def talk(self, connection):
        try:
            for message in connection:
                if isinstance(message, str) and message.startswith("close "):
                    connection.close(int(message.split()[1]), "as you wish")
                elif message == "drop":
                    connection.socket.shutdown(socket.SHUT_RDWR)
                else:
                    connection.send(message)
        except errors.ConnectionClosedError:
            pass
        finally:
            with self.closed:
                self.codes.append(connection.close_code)
                self.closed.notify_all()

    def wait_code(self, code):
        with self.closed:
            assert self.closed.wait_for(lambda: code in self.codes, 10), self.codes

    def stop(self):
        self.server.shutdown()
        self.thread.join(10)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    room, made = Room(), World(tmp_path_factory.mktemp("websocket"))
    gateway = made.gateway
    gateway.write(
        "shop",
        listening("web", server(gateway, [HOST]), server(gateway, [HOST], tls=made.tls)),
        service("room.shop", [{"address": room.address, "ports": {"http": room.port}}]),
        routes("room", [HOST], {"route": [to("room.shop")]}, gateways=["web"]),
    )
    try:
        with running(gateway):
            yield made, room
    finally:
        room.stop()


@pytest.fixture(params=["ws", "wss"])
def connect(world, request):
    """connect(path, **options) → a connection; all are closed in the end."""
    made, _ = world
    with contextlib.ExitStack() as stack:

        def one(path="/", **options):
            secure = request.param == "wss"
            sock = socket.create_connection((made.gateway.address, made.gateway.secure if secure else made.gateway.ingress), 10)
            tls = {"ssl": traffic.client_context(WEB), "server_hostname": HOST} if secure else {}
            try:
                connection = client.connect(f"{request.param}://{HOST}{path}", sock=sock, max_size=None, **tls, **options)
            except BaseException:
                sock.close()
                raise
            return stack.enter_context(connection)

        yield one


def test_echo(connect):
    talk = connect("/room?id=7")
    for message in ("hello", "Straße", b"\x00\x01\xff", "", "x" * 70_000):
        talk.send(message)
        assert talk.recv(10) == message


@pytest.mark.parametrize("compression", ["deflate", None])
def test_large_messages(connect, compression):
    talk = connect(compression=compression)
    message = bytes(range(256)) * (LARGE // 256)
    sending = threading.Thread(target=talk.send, args=(message,))
    sending.start()
    assert talk.recv(30) == message
    sending.join(10)


def test_a_message_in_many_frames(connect):
    talk = connect()
    talk.send(str(number) for number in range(1000))
    assert talk.recv(10) == "".join(str(number) for number in range(1000))


def test_ping(connect):
    talk = connect()
    assert talk.ping("are you there").wait(10)


def test_subprotocol(connect):
    assert connect(subprotocols=["chat.v1", "chat.v2"]).subprotocol == "chat.v2"


@pytest.mark.parametrize("code", [1000, 1001, 4000])
def test_the_servers_close_code_reaches_the_client(connect, code):
    talk = connect()
    talk.send(f"close {code}")
    with pytest.raises(errors.ConnectionClosed):
        talk.recv(10)
    assert (talk.close_code, talk.close_reason) == (code, "as you wish")


@pytest.mark.parametrize("code", [1000, 4321])
def test_the_clients_close_code_reaches_the_server(connect, world, code):
    _, room = world
    room.codes.clear()
    connect().close(code)
    room.wait_code(code)


def test_a_server_that_drops_the_line(connect):
    talk = connect()
    talk.send("drop")
    with pytest.raises(errors.ConnectionClosedError):
        talk.recv(10)
    assert talk.close_code == 1006


def test_a_client_that_drops_the_line(connect, world):
    _, room = world
    room.codes.clear()
    talk = connect()
    talk.send("hello")
    assert talk.recv(10) == "hello"
    talk.socket.shutdown(socket.SHUT_RDWR)
    room.wait_code(1006)


def test_a_refused_upgrade_is_an_ordinary_answer(connect):
    with pytest.raises(errors.InvalidStatus) as caught:
        connect("/secret")
    assert caught.value.response.status_code == 401
    assert caught.value.response.body == b"not you\n"


def test_many_conversations_at_once(connect):
    talks = [connect(f"/{number}") for number in range(40)]
    for turn in range(3):
        for number, talk in enumerate(talks):
            talk.send(f"{turn} {number}")
        assert [talk.recv(10) for talk in talks] == [f"{turn} {number}" for number in range(len(talks))]
