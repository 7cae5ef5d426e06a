"""A real OpenStack in miniature: Keystone, Glance, Placement, Nova with its fake driver, Neutron, Octavia with drivers that do nothing,
Designate with BIND; MariaDB and RabbitMQ under them. Each service is a process (or two) on one loopback address.

    with running_openstack() as cloud:                         # some 40 s
        cloud.balancer("reviews", members=[("10.0.0.1", 80)])
        cloud.sdk.load_balancer…                               # openstacksdk, as the project's administrator
        cloud.service("keystone").kill()

The databases' tables are made once and kept with the environment (python_peers.prepared): that alone takes minutes.
"""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading

from peers import openstack_parts as parts
from peers import openstack_processes as processes
from running import running

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "live"))
import python_peers

missing = processes.missing
PREPARATION = "4"  # to be changed when what _prepare makes changes


def _prepare(environment, made):
    """Databases with their tables, Keystone's keys and its first administrator, a CA for Octavia."""
    with tempfile.TemporaryDirectory(prefix="fg-os-") as scratch:
        settings = processes.Settings(scratch, environment)
        parts.write(settings)
        account = [f"--user={'root' if os.getuid() == 0 else os.environ.get('USER', '')}"]
        data = settings.folder / "mysql"
        processes.run(
            settings,
            "mariadb-install-db",
            "--no-defaults",
            f"--datadir={data}",
            "--auth-root-authentication-method=normal",
            *account,
        )
        mariadb = processes.mariadb(settings)
        with running(mariadb):
            processes.sql(settings, "".join(f"CREATE DATABASE {name} CHARACTER SET utf8mb4;" for name in parts.DATABASES))
            _tables(settings)
            keystone = processes.wsgi(settings, "keystone")
            with running(keystone):
                _point(settings, "keystone")
                _register(OpenStack(settings))
            processes.sql(settings, "SET GLOBAL innodb_fast_shutdown = 0; SHUTDOWN;")
            mariadb.process.wait(60)
        shutil.copytree(data, made / "mysql")
        shutil.copytree(settings.folder / "keystone", made / "keystone")
        _ca(settings, made)


def _ca(settings, made):
    subject = ["-subj", "/CN=live", "-days", "3650", "-nodes"]
    processes.run(
        settings, "openssl", "req", "-x509", "-newkey", "rsa:2048", "-keyout", made / "ca.key", "-out", made / "ca.pem", *subject
    )


def _nowhere(name):
    """What stands for a service's address in what is prepared."""
    return f"http://{name}.invalid{parts.PATHS.get(name, '')}"


def _tables(settings):
    bin_, folder = settings.environment / "bin", settings.folder

    def at(service):
        return ["--config-file", folder / service / ("glance-api.conf" if service == "glance" else f"{service}.conf")]

    keystone = [bin_ / "keystone-manage", *at("keystone")]
    processes.run(settings, *keystone, "db_sync")
    account = ["--keystone-user", "root", "--keystone-group", "root"] if os.getuid() == 0 else []
    processes.run(settings, *keystone, "fernet_setup", *account)
    processes.run(settings, *keystone, "credential_setup", *account)
    processes.run(settings, *keystone, "bootstrap", "--bootstrap-password", parts.PASSWORD, "--bootstrap-region-id", parts.REGION,
         "--bootstrap-public-url", _nowhere("keystone"), "--bootstrap-internal-url", _nowhere("keystone"))  # fmt: skip
    processes.run(settings, bin_ / "glance-manage", *at("glance"), "db_sync")
    processes.run(settings, bin_ / "placement-manage", *at("placement"), "db", "sync")
    nova = [bin_ / "nova-manage", *at("nova")]
    processes.run(settings, *nova, "api_db", "sync")
    processes.run(settings, *nova, "cell_v2", "map_cell0", "--database_connection", parts.database(settings, "nova_cell0"))
    processes.run(settings, *nova, "cell_v2", "create_cell", "--name", "cell1")
    processes.run(settings, *nova, "db", "sync")
    processes.run(settings, bin_ / "neutron-db-manage", *at("neutron"), "upgrade", "heads")
    processes.run(settings, bin_ / "octavia-db-manage", *at("octavia"), "upgrade", "head")
    processes.run(settings, bin_ / "designate-manage", *at("designate"), "database", "sync")


class OpenStack:
    """The running stack. sdk: a connection as its administrator. credential: (id, secret) for a gateway, of project `shop`."""

    def __init__(self, settings):
        self.settings = settings
        self.auth_url = parts.url(settings, "keystone") + "/v3"
        self.services = {}
        self.sdk = None
        self.network = self.subnet = ""

    def service(self, name):
        """A process: `keystone-api`, `nova-compute`, `designate-worker` …; a name alone is its API."""
        return self.services.get(name) or self.services[f"{name}-api"]

    def connect(self, project="shop"):
        import openstack

        return openstack.connect(
            load_yaml_config=False,
            load_envvars=False,
            auth_type="password",
            auth={
                "auth_url": self.auth_url,
                "username": "admin",
                "password": parts.PASSWORD,
                "project_name": project,
                "user_domain_id": "default",
                "project_domain_id": "default",
            },
            region_name=parts.REGION,
        )

    def credential(self, name="gateway"):
        """An application credential of the project: (id, secret)."""
        user = self.sdk.current_user_id
        made = self.sdk.identity.create_application_credential(user, name)
        return made.id, made.secret

    def balancer(self, name, *, members=(), port=80, tags=(), weight=1, monitor=False):
        """A load balancer with a listener, a pool and members [(address, port)], all ACTIVE."""
        octavia = self.sdk.load_balancer
        made = octavia.create_load_balancer(name=name, vip_subnet_id=self.subnet, tags=list(tags))
        self.active(made.id)
        listener = octavia.create_listener(name="http", load_balancer_id=made.id, protocol="HTTP", protocol_port=port)
        self.active(made.id)
        pool = octavia.create_pool(name=name, listener_id=listener.id, protocol="HTTP", lb_algorithm="ROUND_ROBIN")
        self.active(made.id)
        for address, number in members:
            self.member(made.id, pool.id, address, number, weight=weight)
        return made.id, pool.id

    def member(self, balancer, pool, address, port, **more):
        made = self.sdk.load_balancer.create_member(pool, address=address, protocol_port=port, subnet_id=self.subnet, **more)
        self.active(balancer)
        return made.id

    def active(self, balancer):
        """Wait until the load balancer can be changed again."""
        octavia = self.sdk.load_balancer

        def settled():
            found = octavia.get_load_balancer(balancer).provisioning_status
            assert found != "ERROR", f"load balancer {balancer} is in ERROR:\n{self.service('octavia-worker').text()[-3000:]}"
            return found == "ACTIVE"

        _wait(settled, f"load balancer {balancer} is ACTIVE")

    def server(self, name, **metadata):
        """A server of the fake driver with these metadata, ACTIVE."""
        image = next(iter(self.sdk.image.images())).id
        made = self.sdk.compute.create_server(
            name=name, image_id=image, flavor_id="1", networks=[{"uuid": self.network}], metadata=metadata
        )
        return self.sdk.compute.wait_for_server(made, wait=60, interval=0.2)

    def say_member(self, member, status):
        """What a health monitor would say of a member: there is none whose heartbeats could be forged."""
        processes.sql(self.settings, f"UPDATE octavia.member SET operating_status = '{status}' WHERE id = '{member}';")

    def zone(self, name):
        """A zone that the nameserver answers for."""
        dns = self.sdk.dns
        made = dns.create_zone(name=name, email="hostmaster@example.com")
        _wait(lambda: dns.get_zone(made.id).status == "ACTIVE", f"zone {name} is ACTIVE")
        return made.id

    def record(self, zone, name, kind, records):
        return self.sdk.dns.create_recordset(self.sdk.dns.find_zone(zone), name=name, type=kind, records=records)

    def dig(self, name, kind="A"):
        """What the nameserver answers, sorted."""
        where = [f"@{self.settings.nameserver}", "-p", str(self.settings.ports["named"])]
        done = subprocess.run(["dig", "+short", "+tries=1", *where, name, kind], capture_output=True, text=True, check=False)
        return sorted(done.stdout.split("\n")[:-1])


@contextlib.contextmanager
def running_openstack():
    """The whole stack, ended at the end."""
    environment = python_peers.install("openstack")
    ready = python_peers.prepared("openstack", PREPARATION, _prepare)
    with tempfile.TemporaryDirectory(prefix="fg-os-", ignore_cleanup_errors=True) as scratch:
        settings = processes.Settings(scratch, environment)
        shutil.copytree(ready / "mysql", settings.folder / "mysql")
        for name in ("fernet", "credential"):
            shutil.copytree(ready / "keystone" / name, settings.folder / "keystone" / name)
        parts.write(settings)
        for name in ("ca.pem", "ca.key"):
            shutil.copy(ready / name, settings.folder / "octavia" / name)
        yield from _started(OpenStack(settings))


def _started(cloud):
    settings = cloud.settings
    below = [processes.mariadb(settings), processes.epmd(settings), processes.rabbitmq(settings), processes.named(settings)]
    apis = [processes.wsgi(settings, name) for name in parts.WSGI]
    daemons = [processes.daemon(settings, name) for name in parts.DAEMONS]
    programs = [*below, *apis, *daemons]
    cloud.services = {program.name: program for program in programs}
    try:
        for program in below:
            program.start()
        for program in below:
            program.wait_ready()
        _point(settings)
        for program in (*apis, *daemons):  # Keystone is the first: those that ask it at once ask again
            program.start()
        for program in apis:
            program.wait_ready()
        cloud.sdk = cloud.connect()
        _furnish(cloud)
        yield cloud
    finally:
        for program in reversed(programs):
            program.kill()


def _point(settings, *names):
    """What stands in the prepared databases and is of this run: addresses."""
    text = ""
    for name in names or parts.TYPES:
        url = parts.url(settings, name) + parts.PATHS.get(name, "")
        text += f"UPDATE keystone.endpoint e JOIN keystone.service s ON e.service_id = s.id SET e.url = '{url}'"
        text += f" WHERE s.type = '{parts.TYPES[name]}';"
    cells = {1: ("nova_cell0", "none:///"), 2: ("nova", parts.transport(settings))}
    for number, (name, transport) in cells.items():
        values = f"database_connection = '{parts.database(settings, name)}', transport_url = '{transport}'"
        text += f"UPDATE nova_api.cell_mappings SET {values} WHERE id = {number};"
    processes.sql(settings, text)


def _register(cloud):
    """Users, services and endpoints in Keystone, and the project `shop`."""
    admin = cloud.connect("admin").identity
    role = admin.find_role("admin").id
    trusted = admin.find_role("service").id  # whose tokens may come beside a user's
    me = admin.find_user("admin").id
    project = admin.create_project(name="service", domain_id="default").id
    shop = admin.create_project(name="shop", domain_id="default").id
    admin.assign_project_role_to_user(shop, me, role)
    for name, kind in parts.TYPES.items():
        if name == "keystone":
            continue
        user = admin.create_user(name=name, password=parts.PASSWORD, domain_id="default").id
        for each in (role, trusted):
            admin.assign_project_role_to_user(project, user, each)
        made = admin.create_service(name=name, type=kind).id
        for interface in ("public", "internal"):
            admin.create_endpoint(service_id=made, region_id=parts.REGION, interface=interface, url=_nowhere(name))


def _furnish(cloud):
    """A network, an image and a flavor; the nameserver in Designate's pool; a host that Nova can use."""
    settings, sdk = cloud.settings, cloud.sdk
    failed = []
    pool = threading.Thread(target=_pool, args=(settings, failed))
    pool.start()  # it takes a third of the time
    cloud.network = sdk.network.create_network(name="private").id
    cloud.subnet = sdk.network.create_subnet(network_id=cloud.network, ip_version=4, cidr="10.24.0.0/16", enable_dhcp=False).id
    sdk.image.create_image(name="tiny", disk_format="raw", container_format="bare", data=b"0" * 512)
    sdk.compute.create_flavor(name="tiny", id="1", ram=64, vcpus=1, disk=0)
    _wait(lambda: list(sdk.compute.hypervisors()), "Nova has a host")
    pool.join()
    assert not failed, failed[0]


def _pool(settings, failed):
    """Tell Designate of its nameserver."""
    written = settings.folder / "designate" / "pools.yaml"
    written.write_text(json.dumps(parts.pools(settings)))
    config = ["--config-file", settings.folder / "designate" / "designate.conf"]
    try:
        processes.run(settings, settings.environment / "bin" / "designate-manage", *config, "pool", "update", "--file", written)
    except AssertionError as error:
        failed.append(error)


def _wait(ask, what):
    """As wait_until, with pauses: each question costs these services a tenth of a second of a core."""
    never = threading.Event()
    for _ in range(processes.PATIENCE_S * 4):
        if ask():
            return
        never.wait(0.25)
    raise AssertionError(f"not in {processes.PATIENCE_S} s: {what}")
