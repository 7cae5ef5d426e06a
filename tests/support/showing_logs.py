"""A pytest hook: when a test fails, its report shows the end of the log of everything that runs. A folder's conftest.py imports it."""

import pytest
from running import RUNNING

LINES = 60


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for program in RUNNING:
            report.sections.append((f"log of {program.name}", "\n".join(program.text().splitlines()[-LINES:])))
