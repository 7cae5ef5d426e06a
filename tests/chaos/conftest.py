from showing_logs import pytest_runtest_makereport  # noqa: F401  (pytest finds the hook by its name here)
