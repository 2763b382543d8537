"""A route picked by what a JSON body says: when it goes on, what it takes along, and what nobody can smuggle in."""

import gzip
import json
import types

import pytest

from harness import Origin, access_log, bootstrap, cluster, eventually, listener, router, run, to

TYPE = "type.googleapis.com/sluice.filters.http.json_router.v3.JsonRouter"
JSON = ("content-type", "application/json")


def json_router(*rules, **options):
    return {
        "name": "sluice.filters.http.json_router",
        "typed_config": {"@type": TYPE, "rules": list(rules), **options},
    }


def rule(path, header=None, **more):
    return {"path": path, **({"header": header} if header else {}), **more}


MODEL = rule("model", "x-model")


def if_model(name):
    matcher = {"name": "x-model", "string_match": {"exact": name}}
    return {"prefix": "/", "headers": [matcher]}


def listen(name, *rules, hcm=None, routes=None, **options):
    more = {key: options.pop(key) for key in ("metadata",) if key in options}
    filters = [json_router(*rules, stat_prefix=name, **options), router()]
    return listener(name, routes or [to("small")], filters=filters, hcm=hcm, **more)


def shared_listeners():
    by_model = [
        {"match": if_model("large"), "route": {"cluster": "large"}},
        to("small"),
    ]
    values = [
        rule("model", "x-model", on_missing="default"),
        rule("messages[0].role", "x-role"),
        rule("messages[*].name", "X-Name", on_missing="nobody"),
        rule("stream", "x-stream"),
        rule("n", "x-n"),
        rule('["a.b"].c', "x-odd"),
    ]
    fallback = [rule("model", "x-model"), rule("deployment", "x-model", on_missing="default")]
    return [
        listen("route", MODEL, clear_route_cache=True, routes=by_model),
        listen("fixed", MODEL, routes=by_model),
        listen("values", *values),
        listen("fallback", *fallback),
        listen("strict", MODEL, on_invalid="REJECT"),
        listen("whole", MODEL, read_whole_body=True, on_invalid="REJECT", max_body_bytes=50_000),
        listen("lenient", MODEL, read_whole_body=True, max_body_bytes=50_000),
        listen("near", MODEL, max_body_bytes=40_000),
        listen("types", MODEL, allow_content_types=["text/x"], allow_empty_content_type=True),
    ]


@pytest.fixture(scope="module")
def world(module_proxy):
    large, small = Origin(), Origin()
    clusters = [cluster("large", large.port), cluster("small", small.port)]
    edge = module_proxy(shared_listeners(), clusters)
    yield types.SimpleNamespace(edge=edge, large=large, small=small)
    large.close()
    small.close()


def post(world, where, body, headers=(JSON,), **more):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    with world.edge.connect(where) as client:
        return client.ask("POST", "/", headers=list(headers), body=data, **more)


def seen(origin):
    return {key: value for key, value in origin.last().headers if key.startswith("x-")}


def count(world, where, name):
    return world.edge.stat(f"json_router.{where}.{name}")


def test_the_body_picks_the_route(world):
    for model, origin in (("large", world.large), ("tiny", world.small)):
        body = json.dumps({"model": model, "messages": [{"role": "user"}]}).encode()
        assert post(world, "route", body).body == body
        assert origin.last().body == body
        assert origin.last().header("x-model") == model
        assert origin.last().header("content-length") == str(len(body))
    assert count(world, "route", "copied_bytes") == 0  # it lay in the block that it came in


def test_without_clearing_the_cache_the_route_stays(world):
    assert post(world, "fixed", {"model": "large"}).status == 200
    assert world.small.last().header("x-model") == "large"


def test_it_waits_no_longer_than_it_must(world):
    """The route is known with the quote behind the value, though the body may be a day away."""
    before = len(world.large.requests)
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("content-length", "1000000")])
        client.send_bytes(b'{"model":"large"')
        world.large.wait_for_requests(before + 1)
        rest = b',"text":"' + b"x" * (1_000_000 - 16 - 9 - 2) + b'"}'
        client.send_bytes(rest)
        assert client.read_reply().body == b'{"model":"large"' + rest


def test_one_byte_at_a_time(world):
    body = b'{ "x": [1, {"model": "no"}], "\\u006dodel" : "lar\\u0067e", "y": "\xe4\xb8\xad" }'
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("content-length", str(len(body)))])
        for byte in body:
            client.send_bytes(bytes([byte]))
        assert client.read_reply().body == body
    assert world.large.last().header("x-model") == "large"


def test_chunked_with_trailers(world):
    pieces = [b'{"x":"', b"y" * 40_000, b'","mod', b'el":"la', b'rge"', b"}"]
    before = count(world, "route", "copied_bytes")
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("transfer-encoding", "chunked")])
        for piece in pieces:
            client.send_chunk(piece)
        client.send_end()
        assert client.read_reply().body == b"".join(pieces)
    assert world.large.last().body == b"".join(pieces)
    assert world.large.last().header("transfer-encoding") == "chunked"
    # What came before the value had to be kept, and nothing behind it.
    assert 40_000 <= count(world, "route", "copied_bytes") - before <= 41_000


@pytest.mark.parametrize("first", [1, 16_000, 300_000])
def test_large_bodies_come_through_whole(world, first):
    body = json.dumps({"a": "b" * first, "model": "large", "c": ["d" * 2_000_000]}).encode()
    assert post(world, "route", body).body == body
    assert world.large.last().header("x-model") == "large"


def test_a_connection_goes_on_after_such_a_request(world):
    with world.edge.connect("route") as client:
        for model in ("large", "small", "large"):
            body = json.dumps({"text": "t" * 20_000, "model": model}).encode()
            assert client.ask("POST", "/", headers=[JSON], body=body).body == body


def test_expect_100_continue(world):
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("content-length", "17"), ("expect", "100-continue")])
        assert client.reader.line() == "HTTP/1.1 100 Continue"
        assert client.reader.line() == ""
        client.send_bytes(b'{"model":"large"}')
        assert client.read_reply().body == b'{"model":"large"}'


def test_values_of_every_kind(world):
    body = {
        "stream": True,
        "n": -1.50,
        "messages": [{"role": "system"}, {"name": "first"}, {"name": "second"}],
        "a.b": {"c": "h\u00e9"},
    }
    assert post(world, "values", body).status == 200
    got = seen(world.small)
    assert got["x-stream"] == "true" and got["x-n"] == "-1.5" and got["x-role"] == "system"
    assert got["x-name"] == "first"  # of a wildcard the first one
    assert got["x-model"] == "default"
    assert got["x-odd"].encode("latin-1") == "h\u00e9".encode()


def test_defaults_where_nothing_can_be_found(world):
    for body in (b"", b"[]", b'{"model":null}', b'{"model":{"a":1}}', b'{"model":["x"]}'):
        post(world, "values", body)
        got = seen(world.small)
        assert got["x-model"] == "default" and got["x-name"] == "nobody" and "x-role" not in got


def test_the_first_rule_with_a_value_sets_the_header(world):
    rows = (
        ({"deployment": "d"}, "d"),
        ({"deployment": "d", "model": "m"}, "m"),
        ({"model": {}, "deployment": "d"}, "d"),
        ({}, "default"),
    )
    for body, expected in rows:
        post(world, "fallback", body)
        assert world.small.last().all("x-model") == [expected]


@pytest.mark.parametrize(
    "text",
    ["a\\r\\nx-admin: 1", "a\\u000ab", "a\\u0000", "\\u001b", "\\u007f", " a", "a\\t", "y" * 1025],
)
def test_what_a_header_cannot_hold_is_no_value(world, text):
    before = count(world, "route", "unusable")
    assert post(world, "route", b'{"model":"%s"}' % text.encode()).status == 200
    assert seen(world.small).keys() & {"x-model", "x-admin"} == set()
    assert count(world, "route", "unusable") == before + 1


def test_the_header_is_the_filters_alone(world):
    """A client that sends it himself picks no route by it, whatever his body is."""
    forged = ("x-model", "large")
    for headers, body in (
        ([JSON, forged], b"{}"),
        ([JSON, forged], b"no JSON"),
        ([forged], b'{"model":"large"}'),
        ([JSON, forged, ("X-MODEL", "large")], b'{"model":1}'),
    ):
        before = len(world.small.requests)
        assert post(world, "route", body, headers).status == 200
        assert len(world.small.requests) == before + 1
        assert forged[1] not in world.small.last().all("x-model")
    with world.edge.connect("route") as client:
        client.ask("GET", "/", headers=[forged])
    assert world.small.last().method == "GET"


def test_a_body_that_is_no_json_passes(world):
    before = count(world, "route", "invalid")
    for body in (b"model", b'{"model" "large"}', b'{"x":"\xff","model":"large"}', b'{"model":"large'):
        assert post(world, "route", body).body == body
        assert world.small.last().header("x-model") is None
    assert count(world, "route", "invalid") == before + 4


def test_or_is_refused(world):
    before = len(world.small.requests)
    with world.edge.connect("strict") as client:
        for body, at in ((b"model", 0), (b'{"x":[1,],', 8), (b'{"x":"\xff","model":"large"}', 6)):
            reply = client.ask("POST", "/", headers=[JSON], body=body)
            assert reply.status == 400
            assert reply.body == b"the body is no JSON: byte %d cannot be" % at
        # What comes behind the value is the upstream's business: the request had gone on by then.
        assert client.ask("POST", "/", headers=[JSON], body=b'{"model":"m",nonsense').status == 200
    assert len(world.small.requests) == before + 1


def test_the_whole_body_is_judged_if_asked(world):
    before = len(world.small.requests)
    rows = (
        (b'{"model":"m",nonsense', 400),
        (b'{"model":"m"', 400),
        (b'{"model":"m"} x', 400),
        (b'{"model":"cheap","model":"dear"}', 400),
        (b'{"model":"m","x":"%s"}' % (b"y" * 50_000), 413),
    )
    for body, status in rows:
        assert post(world, "whole", body).status == status
    assert len(world.small.requests) == before
    assert count(world, "whole", "repeated") == 1 and count(world, "whole", "rejected") == 5
    for body, _ in rows:
        assert post(world, "lenient", body).body == body
        assert world.small.last().header("x-model") is None
    fine = b'{"model":"m","x":"%s"}' % (b"y" * 49_000)
    for where in ("whole", "lenient"):
        assert post(world, where, fine).body == fine
        assert world.small.last().header("x-model") == "m"


def test_it_looks_only_so_far(world):
    body = json.dumps({"x": "y" * 40_000, "model": "large"}).encode()
    assert post(world, "near", body).body == body
    assert world.small.last().header("x-model") is None
    assert count(world, "near", "too_large") == 1
    body = json.dumps({"x": "y" * 39_000, "model": "large", "z": "y" * 40_000}).encode()
    assert post(world, "near", body).body == body
    assert world.small.last().header("x-model") == "large"


def test_only_json_is_looked_at(world):
    body = b'{"model":"large"}'
    packed = gzip.compress(body)
    rows = (
        (body, [("content-type", "application/x-www-form-urlencoded")], None),
        (body, [], None),
        (packed, [JSON, ("content-encoding", "gzip")], None),
        (body, [JSON, ("content-encoding", "identity")], "large"),
        (body, [("content-type", "application/JSON; charset=utf-8")], "large"),
        (body, [("content-type", "application/vnd.api+json")], "large"),
    )
    for data, headers, model in rows:
        assert post(world, "fixed", data, headers).body == data
        assert world.small.last().header("x-model") == model
    for headers, model in (([JSON], None), ([], "large"), ([("content-type", "TEXT/x;a=b")], "large")):
        assert post(world, "types", body, headers).status == 200
        assert world.small.last().header("x-model") == model


def test_a_client_that_leaves_while_it_is_waited_for(world):
    before = count(world, "route", "scanned")
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("content-length", "1000")])
        client.send_bytes(b'{"x":"' + b"y" * 100)
        eventually(lambda: count(world, "route", "scanned") == before + 1)
    world.edge.wait_for_stat("http.route.downstream_rq_active", 0)


def test_bad_framing_is_an_answer(world):
    with world.edge.connect("route") as client:
        client.send_head("POST", "/", [JSON, ("transfer-encoding", "chunked")])
        client.send_bytes(b'5\r\n{"mod\r\nnonsense\r\n')
        assert client.read_reply().status == 400


def test_what_is_held_counts_for_the_listeners_memory(proxy, origin):
    limit = {"filter_metadata": {"sluice.memory": {"limit_bytes": 1 << 20}}}
    edge = proxy([listen("edge", MODEL, metadata=limit)], [cluster("small", origin.port)])
    with edge.connect() as client:
        body = json.dumps({"x": "y" * 1_100_000, "model": "m"}).encode()
        client.send_head("POST", "/", [JSON, ("content-length", str(len(body)))])
        client.send_bytes(body[:1_045_000])
        assert client.read_reply().status == 503
    with edge.connect() as client:
        assert client.ask("POST", "/", headers=[JSON], body=b'{"model":"m"}').status == 200


def test_metadata_in_the_access_log(proxy, origin, tmp_path):
    space = "sluice.filters.http.json_router"
    text = (
        f"%DYNAMIC_METADATA({space}:model)% %DYNAMIC_METADATA({space}:n)% "
        "%DYNAMIC_METADATA(other:stream)% %DYNAMIC_METADATA(other:none)%\n"
    )
    path = tmp_path / "log"
    log = access_log(path, text_format_source={"inline_string": text})
    rules = [
        rule("model", metadata_key="model"),
        rule("n", metadata_key="n"),
        rule("stream", metadata_namespace="other", metadata_key="stream"),
        rule("none", metadata_namespace="other", metadata_key="none"),
    ]
    edge = proxy([listen("edge", *rules, hcm={"access_log": [log]})], [cluster("small", origin.port)])
    body = json.dumps({"model": "a\nb", "n": 2.5, "stream": False}).encode()
    with edge.connect() as client:
        assert client.ask("POST", "/", headers=[JSON], body=body).status == 200
    eventually(lambda: path.exists() and path.read_text().endswith("\n"))
    assert path.read_text().splitlines()[-1].endswith(" 2.5 false -")
    assert len(origin.last().all("x-model")) == 0


def test_a_config_that_cannot_be_is_refused_with_its_reasons():
    rows = (
        (rule("a..b", "x-a"), 'path "a..b": a key is missing'),
        (rule("a[x]", "x-a"), 'path "a[x]": in brackets there must be a number'),
        (rule("a"), "the value goes nowhere"),
        (rule("a", "Content-Length"), "says how the message is sent"),
        (rule("a", ":path"), "may not be modified here"),
        (rule("a", metadata_key="a", on_missing="b"), "there is no header"),
        (rule("a", "x-a", on_missing="a\nb"), "NUL, CR or LF"),
    )
    config = bootstrap([listen("edge", *(row[0] for row in rows))], [cluster("small", 1)])
    first = bootstrap([listen("edge", *(row[0] for row in rows[:4]), rows[5][0])], [cluster("small", 1)])
    outputs = [run("--mode", "validate", config=one) for one in (config, first)]
    assert all(done.returncode != 0 for done in outputs)
    said = "".join(done.stdout + done.stderr for done in outputs)
    for _, reason in rows:
        assert reason in said
