"""The Go filters of examples/filters do what they say, in the proxy."""

import hashlib
import json
import os
import pathlib
import subprocess

import kit
import pytest
from build import EXAMPLES, build_examples, go_command
from harness import bootstrap, closed_port, cluster, eventually, listener, router, to


def plugin(name, **config):
    return kit.go_filter(build_examples(), name, kit.typed_struct(config), name=name)


def chain(name, *filters, **more):
    return listener(name, [to()], filters=[*filters, router()], **more)


def key_line(name, key):
    return f"{name} {hashlib.sha256(key.encode()).hexdigest()}\n"


@pytest.fixture(scope="module")
def there(tmp_path_factory):
    """One proxy with a listener for each filter."""
    from harness import Origin, Proxy

    class There:
        keys = tmp_path_factory.mktemp("keys") / "keys"
        origin = Origin(answer)
        auth = Origin(lambda exchange: There.decide(exchange))

        @staticmethod
        def decide(exchange):
            exchange.reply(500)

    There.keys.write_text(key_line("alice", "wonderland"))
    rewriting = plugin(
        "jsonbody",
        request={"set": {"user.plan": "free"}, "remove": ["debug"]},
        response={"default": {"by": "sluice"}},
    )
    url = f"http://127.0.0.1:{There.auth.port}/check"
    asking = {"url": url, "timeout": "20s", "copy": ["x-auth-user"]}
    held, refused = closed_port()
    nobody = {"url": f"http://127.0.0.1:{refused}/"}
    listeners = [
        chain("keys", plugin("apikey", keys_file=str(There.keys), reload_interval="5ms")),
        # a token every 1,000 s: the burst is all there is
        chain("limit", plugin("ratelimit", rate=0.001, burst=3, key_header="x-client")),
        chain("address", plugin("ratelimit", rate=0.001, burst=1)),
        chain("json", rewriting),
        chain("auth", plugin("authcall", **asking)),
        chain("closed", plugin("authcall", **nobody)),
        chain("open", plugin("authcall", fail_open=True, **nobody)),
        chain("log", plugin("apikey", keys_file=str(There.keys)), plugin("bodylog", max_bytes=64)),
    ]
    There.proxy = Proxy(bootstrap(listeners, [cluster("origin", There.origin.port)]), level="info")
    try:
        yield There
        assert There.proxy.stop() == 0, There.proxy.log()[-4000:]
        assert "Sanitizer" not in There.proxy.log(), There.proxy.log()[-4000:]
    finally:
        There.proxy.kill()
        held.close()
        There.origin.close()
        There.auth.close()


def answer(exchange):
    body = exchange.request.read_body()
    kind = exchange.request.header("content-type") or "text/plain"
    exchange.reply(200, body, [("content-type", kind)])


JSON = [("content-type", "application/json")]


# ---- apikey --------------------------------------------------------------------------------------


def test_a_key_lets_its_owner_in_and_tells_the_origin_who_it_is(there):
    reply = there.proxy.get(listener="keys", headers=[("x-api-key", "wonderland"), ("x-client", "the queen")])
    assert reply.status == 200
    seen = there.origin.last()
    assert seen.all("x-client") == ["alice"] and seen.header("x-api-key") is None


@pytest.mark.parametrize("headers", [[], [("x-api-key", "")], [("x-api-key", "looking glass")]])
def test_without_a_good_key_nobody_comes_in(there, headers):
    before = len(there.origin.requests)
    reply = there.proxy.get(listener="keys", headers=headers)
    assert reply.status == 401 and "ApiKey" in reply.header("www-authenticate")
    assert len(there.origin.requests) == before


def test_keys_come_and_go_with_the_file(there):
    def status(key):
        return there.proxy.get(listener="keys", headers=[("x-api-key", key)]).status

    new = there.keys.with_suffix(".new")
    new.write_text(key_line("bob", "builder"))
    os.replace(new, there.keys)
    eventually(lambda: status("builder") == 200, what="bob's key is good")
    assert status("wonderland") == 401

    new.write_text("no key at all\n")  # a slip of the editor locks nobody out
    os.replace(new, there.keys)
    there.proxy.wait_for_log("going on with the keys read before")
    assert status("builder") == 200

    new.write_text(key_line("alice", "wonderland"))
    os.replace(new, there.keys)
    eventually(lambda: status("wonderland") == 200, what="alice's key is good again")


# ---- ratelimit -----------------------------------------------------------------------------------


def test_each_client_has_a_burst_of_its_own(there):
    def statuses(client):
        replies = [there.proxy.get(listener="limit", headers=[("x-client", client)]) for _ in range(4)]
        assert replies[3].header("retry-after") and int(replies[3].header("retry-after")) > 900
        return [reply.status for reply in replies]

    assert statuses("alice") == [200, 200, 200, 429]
    assert statuses("bob") == [200, 200, 200, 429]


def test_without_a_header_the_address_tells_clients_apart(there):
    """Two connections of one address, so two ports, share a bucket."""
    assert [there.proxy.get(listener="address").status for _ in range(2)] == [200, 429]


# ---- jsonbody ------------------------------------------------------------------------------------


def test_bodies_are_rewritten_both_ways(there):
    reply = there.proxy.get(method="POST", listener="json", headers=JSON, body=b'{"debug":1,"n":0.10}')
    assert reply.status == 200
    assert there.origin.last().body == b'{"n":0.10,"user":{"plan":"free"}}'
    assert json.loads(reply.body) == {"n": 0.1, "user": {"plan": "free"}, "by": "sluice"}
    assert int(reply.header("content-length")) == len(reply.body)


def test_a_request_that_only_says_that_it_is_json_is_the_clients_fault(there):
    reply = there.proxy.get(method="POST", listener="json", headers=JSON, body=b'{"a":')
    assert reply.status == 400 and reply.body.startswith(b"the body is not JSON")


def test_other_bodies_pass_as_they_are(there):
    body = b'{"debug":1}'
    reply = there.proxy.get(method="POST", listener="json", headers=[("content-type", "text/plain")], body=body)
    assert (reply.status, reply.body, there.origin.last().body) == (200, body, body)


# ---- authcall ------------------------------------------------------------------------------------


def test_a_yes_lets_pass_with_what_the_server_says_of_the_user(there):
    there.decide = lambda x: x.reply(200, headers=[("x-auth-user", "alice")])

    reply = there.proxy.get("/a?b", listener="auth", headers=[("authorization", "Bearer t"), ("x-auth-user", "root")])
    assert reply.status == 200 and there.origin.last().all("x-auth-user") == ["alice"]
    asked = there.auth.last()
    assert asked.path == "/check"
    assert (asked.header("x-forwarded-uri"), asked.header("authorization")) == ("/a?b", "Bearer t")


def test_a_no_is_handed_to_the_client(there):
    there.decide = lambda x: x.reply(403, b"not you\n", [("www-authenticate", "Bearer")])
    reply = there.proxy.get(listener="auth")
    assert (reply.status, reply.body, reply.header("www-authenticate")) == (403, b"not you\n", "Bearer")


def test_a_server_that_cannot_say_closes_or_opens_as_configured(there):
    there.decide = lambda x: x.reply(500)
    assert there.proxy.get(listener="auth").status == 503
    assert there.proxy.get(listener="closed").status == 503
    assert there.proxy.get(listener="open").status == 200


def test_a_client_that_leaves_takes_its_question_along(there):
    """And costs nobody else anything: the goroutine's calls come too late, and say so."""
    gone = []

    def wait(exchange):
        exchange.wait_closed()
        gone.append(exchange)

    there.decide = wait
    asked = len(there.auth.requests)
    for _ in range(8):
        client = there.proxy.connect("auth")
        client.sock.sendall(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        asked += 1
        there.auth.wait_for_requests(asked)
        client.close()
    eventually(lambda: len(gone) == 8, what="all questions are withdrawn")
    there.decide = lambda x: x.reply(200)
    assert there.proxy.get(listener="auth").status == 200


# ---- bodylog -------------------------------------------------------------------------------------


def bodylog(there, path):
    """The line of the request with that path."""

    def line():
        rows = (row.partition("bodylog ")[2] for row in there.proxy.log().splitlines())
        return next((row for row in rows if f'"path":"{path}' in row), None)

    eventually(line, what=f"the log's line of {path}")
    return json.loads(line())


def test_bodies_are_logged_without_secrets(there):
    body = b'{"user":"alice","password":"geheim","more":"' + b"x" * 200 + b'"}'
    headers = [*JSON, ("x-api-key", "wonderland")]
    reply = there.proxy.get("/login?token=geheim&a=b", method="POST", listener="log", headers=headers, body=body)
    assert reply.status == 200
    logged = bodylog(there, "/login")
    assert (logged["method"], logged["path"]) == ("POST", "/login?token=[redacted]&a=b")
    for way in ("request", "response"):
        assert logged[way]["bytes"] == len(body) and logged[way]["cut"]
        assert logged[way]["text"].startswith('{"user":"alice","password":"[redacted]"')
        assert len(logged[way]["text"]) == 64
    assert "geheim" not in there.proxy.log()


def test_what_a_filter_before_it_answered_is_logged_too(there):
    assert there.proxy.get("/refused", listener="log").status == 401
    logged = bodylog(there, "/refused")
    assert logged["method"] == "GET" and logged["response"]["text"].startswith("a valid key is needed")


# ---- as they stand -------------------------------------------------------------------------------


def test_the_parts_have_tests_of_their_own():
    done = subprocess.run([go_command(), "test", "./..."], cwd=EXAMPLES, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_beside_them_is_valid(tmp_path):
    """As its reader would run it: with the library where the page says."""
    (tmp_path / "libfilters.so").symlink_to(build_examples())
    (tmp_path / "keys").write_text((EXAMPLES / "keys").read_text())
    program = os.environ.get("SLUICE_BIN", str(pathlib.Path(__file__).resolve().parents[2] / "build" / "sluice"))
    command = [program, "--mode", "validate", "-c", EXAMPLES / "filters.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
