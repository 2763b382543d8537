"""Certificates that are replaced while the proxy serves."""

import os
import shutil
import threading

import pytest

from harness import direct, eventually
from tls_kit import Authority, Pair, TlsClient, client_context, tls_listener


@pytest.fixture(scope="module")
def authority():
    return Authority()


def replace(source, target):
    """As a careful administrator: the file is never half there."""
    shutil.copy(source, f"{target}.next")
    os.rename(f"{target}.next", target)


def shown(edge, authority):
    context = client_context(authority)
    context.check_hostname = False
    with TlsClient(edge.port(), context) as client:
        return client.names()


def test_rotation_under_traffic(proxy, authority, tmp_path):
    """A new pair is shown from some connection on; not one of those that are open, and none that comes, is lost."""
    first, second = authority.issue("DNS:one.test"), authority.issue("DNS:two.test")
    live = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    replace(first.chain, live.chain)
    replace(first.key, live.key)
    edge = proxy([tls_listener("main", [direct(200, "x")], live)])
    assert shown(edge, authority) == ["one.test"]
    context = client_context(authority)
    context.check_hostname = False
    failures, done = [], threading.Event()

    def come_and_go():
        while not done.is_set():
            try:
                with TlsClient(edge.port(), context) as client:
                    assert client.ask("GET", "/").status == 200
            except Exception as error:
                failures.append(error)
                return

    with TlsClient(edge.port(), context) as old:
        assert old.ask("GET", "/").status == 200
        clients = [threading.Thread(target=come_and_go) for _ in range(2)]
        for client in clients:
            client.start()
        replace(second.key, live.key)
        replace(second.chain, live.chain)
        try:
            eventually(lambda: shown(edge, authority) == ["two.test"], what="the new certificate")
            assert old.ask("GET", "/").status == 200
        finally:
            done.set()
            for client in clients:
                client.join()
    assert not failures
    update = "listener.127.0.0.1_0.server_ssl_socket_factory.ssl_context_update_by_sds"
    edge.wait_for_stat(update, 1)
    assert '"dns": "two.test"' in edge.admin("/certs")
    assert edge.stat("server.days_until_first_cert_expiring") in (29, 30)


def test_what_does_not_fit_is_not_taken(proxy, authority, tmp_path):
    """Somebody forgets the key: what was there stays, and the log and a counter tell. Then he remembers."""
    first, second = authority.issue("DNS:one.test"), authority.issue("DNS:two.test")
    live = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    replace(first.chain, live.chain)
    replace(first.key, live.key)
    edge = proxy([tls_listener("main", [direct(200, "x")], live)])
    replace(second.chain, live.chain)
    edge.wait_for_log("what was loaded before stays")
    edge.wait_for_stat("listener.127.0.0.1_0.ssl.context_update_failed", 1)
    assert shown(edge, authority) == ["one.test"]
    replace(second.key, live.key)
    eventually(lambda: shown(edge, authority) == ["two.test"], what="the new certificate")


def test_a_volume_of_kubernetes(proxy, authority, tmp_path):
    """tls.crt -> ..data/tls.crt, and ..data is replaced: both files change in one step."""
    for name in ("one", "two"):
        pair = authority.issue(f"DNS:{name}.test")
        folder = tmp_path / f"..{name}"
        folder.mkdir()
        shutil.copy(pair.chain, folder / "tls.crt")
        shutil.copy(pair.key, folder / "tls.key")
    (tmp_path / "..data").symlink_to("..one")
    for file in ("tls.crt", "tls.key"):
        (tmp_path / file).symlink_to(f"..data/{file}")
    live = Pair(tmp_path / "tls.crt", tmp_path / "tls.key")
    edge = proxy([tls_listener("main", [direct(200, "x")], live)])
    assert shown(edge, authority) == ["one.test"]
    (tmp_path / "..next").symlink_to("..two")
    os.rename(tmp_path / "..next", tmp_path / "..data")
    eventually(lambda: shown(edge, authority) == ["two.test"], what="the new certificate")
    assert edge.stat("listener.127.0.0.1_0.ssl.context_update_failed") == 0
