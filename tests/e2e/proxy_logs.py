"""Hooks of pytest that a conftest imports: a test that fails shows what its proxies logged last, those that it started
itself and those that it shares with other tests, since the cause is there more often than in the test."""

import re
import time

import pytest
from harness import Proxy

LINES = 100  # of each
OF_TESTS_THAT_WAIT = re.compile(r"\]\[admin\] (GET|POST) .*: 200$|\]\[main\] log files opened again$")

began = 0  # the test


def pytest_runtest_setup():
    global began
    began = time.time()
    Proxy.known[:] = [proxy for proxy in Proxy.known if proxy.alive()]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    report = yield
    if report.failed:
        report.sections += [_section(proxy) for proxy in Proxy.known if proxy.log_path.stat().st_mtime >= began - 1]
    return report


def _section(proxy):
    state = "runs" if proxy.alive() else f"ended with {proxy.process.returncode}"
    lines = [line for line in proxy.log().splitlines() if not OF_TESTS_THAT_WAIT.search(line)][-LINES:]
    return f"log of process {proxy.process.pid}, which {state}", "\n".join(lines)


def pytest_sessionfinish():
    """A test that failed may have left its proxy behind."""
    for proxy in Proxy.known:
        if proxy.alive():
            proxy.kill()
