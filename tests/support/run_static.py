"""`fedgate run` with static_control.py in place of control: `python run_static.py FILE`."""

import pathlib
import sys

from appliance.supervisor import supervise
from appliance.telemetry import logs

SUPPORT = pathlib.Path(__file__).parent

if __name__ == "__main__":
    logs.configure("supervisor")
    control = (sys.executable, str(SUPPORT / "static_control.py"))
    worker = (sys.executable, "-P", "-m", "appliance", "worker")
    sys.exit(supervise(sys.argv[1:], control=control, worker=worker))
