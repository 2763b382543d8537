"""Hooks of pytest that a conftest imports: a test that fails shows what its proxies logged last, those that it started
itself and those that it shares with other tests, since the cause is there more often than in the test."""

import pytest
from harness import Proxy

LINES = 100  # of each


def pytest_runtest_setup():
    Proxy.known[:] = [proxy for proxy in Proxy.known if proxy.alive()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.sections += map(_section, Proxy.known)
    return report


def _section(proxy):
    state = "runs" if proxy.alive() else f"ended with {proxy.process.returncode}"
    lines = proxy.log().splitlines()[-LINES:]
    return f"log of process {proxy.process.pid}, which {state}", "\n".join(lines)


def pytest_sessionfinish():
    """A test that failed may have left its proxy behind."""
    for proxy in Proxy.known:
        if proxy.alive():
            proxy.kill()
