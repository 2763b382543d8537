"""Fixtures: proxies and origins that end with their test, and a look at what is left behind."""

import harness
import pytest
from proxy_logs import pytest_runtest_makereport, pytest_runtest_setup, pytest_sessionfinish  # noqa: F401


def pytest_collection_modifyitems(items):
    for item in items:
        own = item.get_closest_marker("timeout") or not item.get_closest_marker("long")
        assert own, f"{item.nodeid} is long: it needs a timeout of its own, as everyone's is for the short ones"


@pytest.fixture
def origin():
    made = harness.Origin()
    yield made
    made.close()


@pytest.fixture
def origins():
    """origins(answer) makes one more."""
    made = []

    def make(answer=None):
        made.append(harness.Origin(answer))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _proxies():
    made = []

    def start(listeners, clusters=(), *, config=None, **more):
        made.append(harness.Proxy(config or harness.bootstrap(listeners, clusters), **more))
        return made[-1]

    yield start
    try:
        for one in made:
            if one.alive():
                assert one.leaks() == {}
                assert one.stop() == 0, one.log()[-6000:]
            assert "Sanitizer" not in one.log(), one.log()[-6000:]
    finally:
        for one in made:
            if one.alive():
                one.kill()


@pytest.fixture
def proxy():
    """proxy(listeners, clusters) starts one. At the end of the test it must have let go of all
    it held, end by itself with status 0, and have no sanitizer's report in its log."""
    yield from _proxies()


@pytest.fixture(scope="module")
def module_proxy():
    """The same for a whole module."""
    yield from _proxies()
