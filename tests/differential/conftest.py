"""The same config and the same requests on the real Envoy and on Sluice."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

from twins import Twins  # noqa: E402


@pytest.fixture(scope="session")
def twins():
    made = Twins()
    yield made
    made.close()
