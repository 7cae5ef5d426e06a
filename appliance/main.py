"""Where everything is put together: the one place that names concrete classes.

`main` is the `fedgate` command; `control` is the control process's body. Both import what they run when they run it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main() -> int:
    """The console script. Exit statuses: 0 done, 1 failed, 2 wrong usage."""
    from appliance.cli.root import app

    app()
    return 0


def control(arguments: Sequence[str]) -> int:
    """The control process, as the supervisor starts it."""
    from appliance import control as process

    return process.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
