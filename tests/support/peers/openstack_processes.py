"""The processes that an OpenStack in miniature is made of, and where each one is."""

import base64
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request

from peers import openstack_parts as parts
from running import Program, fresh_address, wait_until
from running_gateway import free_ports

COMMANDS = {
    "mariadb-server": ("mariadbd", "mariadb-install-db", "mariadb"),
    "rabbitmq-server": ("/usr/lib/rabbitmq/bin/rabbitmq-server",),
    "bind9": ("named", "rndc"),
    "bind9-dnsutils": ("dig",),
}
PATIENCE_S = 180  # for the whole to be up, on two cores that others use too


def missing():
    """Why it cannot be had here; empty if it can."""
    packages = [name for name, commands in COMMANDS.items() if not all(shutil.which(command, path=_PATH) for command in commands)]
    return f"not installed (Debian packages): {', '.join(packages)}" if packages else ""


_PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


class Settings:
    """Where everything is. ports: by service."""

    def __init__(self, folder, environment):
        self.folder = pathlib.Path(folder)
        self.environment = environment
        self.address = fresh_address()
        names = [*parts.WSGI, "rabbitmq", "dist", "mdns"]
        self.ports = dict(zip(names, free_ports(len(names), self.address), strict=True))
        self.nameserver = "127.0.0.1"  # BIND listens on addresses that an interface lists only
        self.epmd, self.ports["named"], self.ports["rndc"] = free_ports(3, self.nameserver)
        self.socket = self.folder / "sql"


class _Service(Program):
    """A process of the stack. ready: a callable, or none when running is enough."""

    def __init__(self, name, settings, command, *, ready=lambda: True, environment=None):
        super().__init__(name, settings.folder / "logs")
        self._settings, self._command, self._ready = settings, command, ready
        self._environment = environment or {}

    def command(self):
        pairs = {**parts.environment(self._settings), **self._environment}
        return ["env", *(f"{key}={value}" for key, value in pairs.items()), *map(str, self._command)]

    def wait_ready(self):
        def ready():
            assert self.process.poll() is None, f"{self.name} ended with status {self.process.returncode}:\n{self.text()[-3000:]}"
            return self._ready()

        wait_until(ready, f"{self.name} is ready", within=PATIENCE_S)

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)


def _answers(url):
    """Any answer that is no fault of the server's own."""
    try:
        urllib.request.urlopen(url, timeout=20).close()
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    return True


def run(settings, *command, given=None):
    done = subprocess.run(
        [*map(str, command)],
        input=given,
        env=os.environ | parts.environment(settings),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout[-2000:]}{done.stderr[-3000:]}"
    return done.stdout


def sql(settings, text):
    return run(settings, "mariadb", f"--socket={settings.socket}", "--user=root", "--batch", given=text)


def mariadb(settings):
    data = settings.folder / "mysql"
    fast = ["--innodb-flush-log-at-trx-commit=0", "--skip-log-bin", "--innodb-buffer-pool-size=64M", "--performance-schema=off"]
    account = ["--user=root"] if os.getuid() == 0 else []
    command = [
        "mariadbd",
        "--no-defaults",
        f"--datadir={data}",
        f"--socket={settings.socket}",
        "--skip-networking",
        "--skip-name-resolve",
    ]
    command += [*fast, *account, "--max-connections=500", f"--pid-file={settings.folder / 'mariadb.pid'}"]
    return _Service("mariadb", settings, command, ready=lambda: _listens(settings.socket))


def _listens(path):
    with socket.socket(socket.AF_UNIX) as probe:
        probe.connect(str(path))
    return True


def rabbitmq(settings):
    folder = settings.folder / "rabbitmq"
    folder.mkdir(parents=True, exist_ok=True)
    port = settings.ports["rabbitmq"]
    (folder / "rabbitmq.conf").write_text(f"listeners.tcp.1 = {settings.address}:{port}\nlog.console = true\nlog.file = false\n")
    (folder / "plugins").write_text("[].\n")
    environment = {
        "RABBITMQ_NODENAME": f"live{settings.epmd}@localhost",
        "RABBITMQ_CONFIG_FILE": folder / "rabbitmq.conf",
        "RABBITMQ_MNESIA_BASE": folder,
        "RABBITMQ_LOG_BASE": folder,
        "RABBITMQ_ENABLED_PLUGINS_FILE": folder / "plugins",
        "RABBITMQ_DIST_PORT": settings.ports["dist"],
        "RABBITMQ_HOME": "/usr/lib/rabbitmq",
        "ERL_EPMD_PORT": settings.epmd,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "LANG": "C.UTF-8",
    }
    command = ["/usr/lib/rabbitmq/bin/rabbitmq-server"]
    return _Service("rabbitmq", settings, command, ready=lambda: _speaks(settings.address, port), environment=environment)


def _speaks(host, port):
    with socket.create_connection((host, port), timeout=2) as probe:
        probe.sendall(b"AMQP\x00\x00\x09\x01")
        return probe.recv(1) != b""


def epmd(settings):
    command = ["epmd", "-port", settings.epmd, "-address", "127.0.0.1"]
    return _Service("epmd", settings, command, ready=lambda: _connects("127.0.0.1", settings.epmd))


def _connects(host, port):
    socket.create_connection((host, port), timeout=2).close()
    return True


def named(settings):
    folder = settings.folder / "named"
    folder.mkdir(parents=True, exist_ok=True)
    secret = base64.b64encode(os.urandom(32)).decode()
    (folder / "rndc.key").write_text(f'key "rndc-key" {{ algorithm hmac-sha256; secret "{secret}"; }};\n')
    (folder / "named.conf").write_text(parts.named(settings))
    command = ["named", "-g", "-c", folder / "named.conf", "-n", "1"]
    return _Service("named", settings, command, ready=lambda: _connects(settings.nameserver, settings.ports["rndc"]))


def wsgi(settings, name):
    python = settings.environment / "bin" / "python"
    command = [python, settings.folder / "serve.py", settings.address, settings.ports[name], parts.WSGI[name]]
    return _Service(f"{name}-api", settings, command, ready=lambda: _answers(parts.url(settings, name) + "/"))


def daemon(settings, name):
    service = parts.DAEMONS[name]
    config = settings.folder / service / f"{service}.conf"
    return _Service(name, settings, [settings.environment / "bin" / name, "--config-file", config])
