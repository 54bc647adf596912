"""What holds for all tests."""

from __future__ import annotations

from hypothesis import settings
from servers import etcd, missing, own_etcd, own_postgresql, own_redis, postgresql, redis

__all__ = ["etcd", "own_etcd", "own_postgresql", "own_redis", "postgresql", "redis"]

# How long an example takes says more of what else the machine does.
settings.register_profile("knhk", deadline=None)
settings.load_profile("knhk")


def pytest_report_header() -> list[str]:
    """Say which tests cannot run here."""
    return [f"{name} is not installed, its tests are skipped: tools/install_servers installs it" for name in missing()]
