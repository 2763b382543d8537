"""Connections that the kernel redirected: where they were going is what they are for."""

import pytest

from first_bytes import GET, ask, chain, inspected, original_dst
from harness import Proxy, bootstrap, direct, listener, run
from nat_kit import add_address, in_network_of_its_own, redirect

ELSEWHERE = "192.0.2.1"


def redirected_is_told_from_direct():
    """By port, by address, in what is logged; who came by himself is where he is."""
    add_address(ELSEWHERE)
    chains = [
        chain("elsewhere", {"prefix_ranges": [{"address_prefix": ELSEWHERE, "prefix_len": 32}]}),
        chain("port", {"destination_port": 8080}),
        chain("here"),
    ]
    edge = Proxy(bootstrap([inspected("main", [original_dst()], chains)]))
    try:
        port = edge.port()
        for asked in (80, 8080):
            redirect(asked, port)

        def said(host, port):
            answer = ask(port, GET, host=host)
            return answer.chain, answer.said["local"]

        assert said(ELSEWHERE, 80) == ("elsewhere", f"{ELSEWHERE}:80")
        assert said("127.0.0.1", 8080) == ("port", "127.0.0.1:8080")
        assert said("127.0.0.1", 80) == ("here", "127.0.0.1:80")
        assert said("127.0.0.1", port) == ("here", f"127.0.0.1:{port}")
    finally:
        edge.stop()


@pytest.mark.parametrize("story", ["redirected_is_told_from_direct"])
def test_behind_nat(story):
    in_network_of_its_own("test_original_dst", story)


@pytest.mark.parametrize("wanted", [True, False])
def test_handing_over_to_other_listeners_is_refused_with_what_to_do_instead(wanted):
    made = listener("main", [direct(200, "x")], use_original_dst=wanted)
    done = run("--mode", "validate", config=bootstrap([made]))
    assert done.returncode == (1 if wanted else 0), done.stderr
    assert ("the listener filter envoy.filters.listener.original_dst" in done.stderr) == wanted
