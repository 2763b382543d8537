"""The same config and the same requests on the real Envoy and on Sluice."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from proxy_logs import pytest_runtest_makereport, pytest_runtest_setup, pytest_sessionfinish  # noqa: E402, F401
from twins import Twins  # noqa: E402


@pytest.fixture(scope="session")
def twins():
    made = Twins()
    yield made
    made.close()
