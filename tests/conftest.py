"""What holds for all tests: an example of a property has no time to be slow in, as the machine may be busy; pytest's timeout is the limit."""

from hypothesis import HealthCheck, settings

settings.register_profile("fedgate", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fedgate")
