"""Configuration of each service of OpenStack, as small as it runs: one host, no agents, drivers that do nothing to a machine."""

import shutil

PASSWORD = "live"  # of every service's user: it lives for a test, on a loopback address
REGION = "RegionOne"
TYPES = {
    "keystone": "identity",
    "glance": "image",
    "placement": "placement",
    "nova": "compute",
    "neutron": "network",
    "octavia": "load-balancer",
    "designate": "dns",
}
PATHS = {"keystone": "/v3", "nova": "/v2.1"}
DATABASES = ("keystone", "glance", "placement", "nova", "nova_api", "nova_cell0", "neutron", "octavia", "designate")
WSGI = {
    "keystone": "keystone.wsgi.api",
    "glance": "glance.wsgi.api",
    "placement": "placement.wsgi.api",
    "nova": "nova.wsgi.osapi_compute",
    "neutron": "neutron.wsgi.api",
    "octavia": "octavia.wsgi.api",
    "designate": "designate.wsgi.api",
}
DAEMONS = {  # name: the service whose configuration it reads
    "nova-conductor": "nova",
    "nova-scheduler": "nova",
    "nova-compute": "nova",
    "octavia-worker": "octavia",
    "designate-central": "designate",
    "designate-mdns": "designate",
    "designate-producer": "designate",
    "designate-worker": "designate",
}
BINDER = '''"""Binds every port to wherever it is asked for: without agents nobody else would."""
from neutron_lib import constants
from neutron_lib.api.definitions import portbindings
from neutron_lib.plugins.ml2 import api


class Binder(api.MechanismDriver):
    def initialize(self):
        pass

    def bind_port(self, context):
        segment = context.segments_to_bind[0]
        context.set_binding(segment[api.ID], portbindings.VIF_TYPE_OVS, {}, status=constants.PORT_STATUS_ACTIVE)
'''
SERVE = '''"""Serves one WSGI application: HOST PORT MODULE."""
import importlib
import sys

import waitress

host, port, module = sys.argv[1:]
sys.argv[1:] = []
application = importlib.import_module(module).application
waitress.serve(application, host=host, port=int(port), threads=8)
'''


def url(settings, service):
    return f"http://{settings.address}:{settings.ports[service]}"


def write(settings):
    """All configuration files below settings.folder: address, ports by name, socket of the database, environment."""
    folder = settings.folder
    makers = (_keystone, _glance, _placement, _nova, _neutron, _octavia, _designate)
    for maker in makers:
        name = maker.__name__[1:]
        for file, sections in maker(settings).items():
            path = folder / name / file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(_ini(sections))
    for name, paste in (
        ("nova", "api-paste.ini"),
        ("neutron", "api-paste.ini"),
        ("designate", "api-paste.ini"),
        ("glance", "glance-api-paste.ini"),
    ):
        shutil.copy(settings.environment / "etc" / name / paste, folder / name / paste)
    (folder / "serve.py").write_text(SERVE)
    _binder(folder / "plugins")
    home = folder / ".octavia"
    home.mkdir(exist_ok=True)
    shutil.copy(folder / "octavia" / "octavia.conf", home)  # its WSGI module takes no path


def environment(settings):
    """Of every process."""
    folder = settings.folder
    named = {
        f"OS_{name.upper()}_CONFIG_DIR": str(folder / name)
        for name in ("nova", "glance", "designate", "placement", "neutron", "keystone")
    }
    named |= {
        "HOME": str(folder),
        "PYTHONPATH": str(folder / "plugins"),
        "PYTHONWARNINGS": "ignore",
        "OS_NEUTRON_CONFIG_FILES": "neutron.conf",
    }
    return named | {
        "OS_KEYSTONE_CONFIG_FILES": str(folder / "keystone" / "keystone.conf"),
        "PATH": f"{settings.environment}/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    }


def _binder(folder):
    """A mechanism driver for Neutron is found by its entry point."""
    info = folder / "fedgate_live-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "fedgate_live.py").write_text(BINDER)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fedgate-live\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[neutron.ml2.mechanism_drivers]\nbinder = fedgate_live:Binder\n")


def _ini(sections):
    text = ""
    for name, options in sections.items():
        text += f"[{name}]\n" + "".join(f"{key} = {value}\n" for key, value in options.items()) + "\n"
    return text


def database(settings, name):
    return f"mysql+pymysql://root@localhost/{name}?unix_socket={settings.socket}&charset=utf8mb4"


def transport(settings):
    return f"rabbit://guest:guest@{settings.address}:{settings.ports['rabbitmq']}//"


def _common(settings, name):
    state = settings.folder / name
    main = {"transport_url": transport(settings), "state_path": state, "host": "live", "use_stderr": True}
    return {
        "DEFAULT": main,
        "database": {"connection": database(settings, name)},
        "oslo_concurrency": {"lock_path": state / "locks"},
        "keystone_authtoken": _credentials(settings, name) | {"www_authenticate_uri": url(settings, "keystone")},
        "oslo_messaging_notifications": {"driver": "noop"},
        "cache": {"enabled": False},
    }


def _credentials(settings, user):
    return {
        "auth_type": "password",
        "auth_url": url(settings, "keystone") + "/v3",
        "username": user,
        "password": PASSWORD,
        "project_name": "service",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "region_name": REGION,
    }


def _keystone(settings):
    folder = settings.folder / "keystone"
    return {
        "keystone.conf": {
            "DEFAULT": {"use_stderr": True},
            "database": {"connection": database(settings, "keystone")},
            "cache": {"enabled": False},
            "token": {"provider": "fernet"},
            "fernet_tokens": {"key_repository": folder / "fernet"},
            "fernet_receipts": {"key_repository": folder / "fernet"},
            "credential": {"key_repository": folder / "credential"},
            "identity": {"password_hash_rounds": 4},
        }
    }


def _glance(settings):
    made = _common(settings, "glance")
    made["DEFAULT"] |= {"enabled_backends": "images:file"}
    made["glance_store"] = {"default_backend": "images"}
    made["images"] = {"filesystem_store_datadir": settings.folder / "glance" / "images"}
    made["paste_deploy"] = {"flavor": "keystone"}
    return {"glance-api.conf": made}


def _placement(settings):
    made = _common(settings, "placement")
    made["placement_database"] = made.pop("database")
    return {"placement.conf": made}


def _nova(settings):
    made = _common(settings, "nova")
    made["DEFAULT"] |= {
        "compute_driver": "fake.FakeDriver",
        "my_ip": settings.address,
        "osapi_compute_workers": 1,
        "vif_plugging_is_fatal": False,
        "vif_plugging_timeout": 0,
        "default_availability_zone": "az1",
        "allow_resize_to_same_host": True,
    }
    made["api_database"] = {"connection": database(settings, "nova_api")}
    made["api"] = {"auth_strategy": "keystone"}
    made["glance"] = {"api_servers": url(settings, "glance")}
    for name, service in (("placement", "placement"), ("neutron", "neutron"), ("service_user", "nova")):
        made[name] = _credentials(settings, service)
    made["service_user"]["send_service_user_token"] = True
    made["conductor"] = {"workers": 1}
    made["scheduler"] = {"workers": 1, "discover_hosts_in_cells_interval": 1}
    made["workarounds"] = {"disable_rootwrap": True}
    made["vnc"] = {"enabled": False}
    return {"nova.conf": made}


def _neutron(settings):
    made = _common(settings, "neutron")
    made["DEFAULT"] |= {
        "core_plugin": "ml2",
        "service_plugins": "",
        "api_paste_config": settings.folder / "neutron" / "api-paste.ini",
        "notify_nova_on_port_status_changes": False,
        "notify_nova_on_port_data_changes": False,
        "rpc_workers": 0,
        "api_workers": 1,
    }
    made["ml2"] = {"mechanism_drivers": "binder", "type_drivers": "local", "tenant_network_types": "local", "extension_drivers": ""}
    made["nova"] = _credentials(settings, "nova")
    made["placement"] = _credentials(settings, "placement")
    return {"neutron.conf": made}


def _octavia(settings):
    folder = settings.folder / "octavia"
    made = _common(settings, "octavia")
    made["oslo_messaging"] = {"topic": "octavia_prov"}
    made["api_settings"] = {
        "enabled_provider_drivers": "amphora:amphora",
        "default_provider_driver": "amphora",
        "auth_strategy": "keystone",
        "allow_tls_terminated_listeners": False,
    }
    made["service_auth"] = _credentials(settings, "octavia")
    made["health_manager"] = {
        "heartbeat_key": "live",
        "bind_ip": settings.address,
        "controller_ip_port_list": f"{settings.address}:5555",
    }
    made["controller_worker"] = {
        "amphora_driver": "amphora_noop_driver",
        "compute_driver": "compute_noop_driver",
        "network_driver": "network_noop_driver",
        "image_driver": "image_noop_driver",
        "volume_driver": "volume_noop_driver",
        "client_ca": folder / "ca.pem",
        "amp_flavor_id": "1",
        "amp_image_tag": "amphora",
        "amp_boot_network_list": "",
        "workers": 1,
    }
    made["certificates"] = {
        "cert_manager": "noop_cert_manager",
        "cert_generator": "local_cert_generator",
        "ca_certificate": folder / "ca.pem",
        "ca_private_key": folder / "ca.key",
    }
    made["networking"] = {"port_detach_timeout": 5}
    made["oslo_policy"] = {"enforce_scope": False, "enforce_new_defaults": False, "policy_file": folder / "policy.yaml"}
    policy = {"load-balancer:read": "", "load-balancer:write": ""}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "policy.yaml").write_text("".join(f'"{rule}": "{who}"\n' for rule, who in policy.items()))
    return {"octavia.conf": made}


def _designate(settings):
    folder = settings.folder / "designate"
    made = _common(settings, "designate")
    del made["database"]
    made["storage:sqlalchemy"] = {"connection": database(settings, "designate")}
    made["service:api"] = {
        "auth_strategy": "keystone",
        "api_base_uri": url(settings, "designate"),
        "enable_api_v2": True,
        "enabled_extensions_v2": "",
    }
    made["service:central"] = {"workers": 1, "threads": 20}
    made["service:producer"] = {"workers": 1}
    made["service:worker"] = {"workers": 1, "poll_retry_interval": 1, "poll_delay": 0, "poll_timeout": 5}
    made["service:mdns"] = {"workers": 1, "listen": f"{settings.address}:{settings.ports['mdns']}"}
    made["coordination"] = {"backend_url": f"file://{folder / 'coordination'}"}
    return {"designate.conf": made}


def pools(settings):
    """Designate's pool: one BIND, written as YAML is read (JSON is YAML)."""
    bind = {"host": settings.nameserver, "port": settings.ports["named"]}
    options = bind | {
        "rndc_host": settings.nameserver,
        "rndc_port": settings.ports["rndc"],
        "rndc_key_file": str(settings.folder / "named" / "rndc.key"),
    }
    target = {
        "type": "bind9",
        "description": "BIND",
        "masters": [{"host": settings.address, "port": settings.ports["mdns"]}],
        "options": options,
    }
    return [
        {
            "name": "default",
            "description": "one nameserver",
            "attributes": {},
            "ns_records": [{"hostname": "ns1.example.com.", "priority": 1}],
            "nameservers": [bind],
            "targets": [target],
        }
    ]


def named(settings):
    """BIND's own configuration: zones come and go by rndc."""
    folder = settings.folder / "named"
    return f"""
include "{folder}/rndc.key";
options {{
    directory "{folder}"; pid-file "{folder}/named.pid"; session-keyfile "{folder}/session.key"; managed-keys-directory "{folder}";
    listen-on port {settings.ports["named"]} {{ {settings.nameserver}; }}; listen-on-v6 {{ none; }};
    allow-new-zones yes; request-ixfr no; recursion no; dnssec-validation no; minimal-responses yes; allow-notify {{ any; }};
}};
controls {{ inet {settings.nameserver} port {settings.ports["rndc"]} allow {{ any; }} keys {{ "rndc-key"; }}; }};
"""
