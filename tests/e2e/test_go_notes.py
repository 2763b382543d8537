"""What a Go filter asks about a request, and what it notes of it for others."""

import re

import pytest
from go_support import eventually, kit

pytest_plugins = ["go_fixtures"]


def properties(*paths):
    return kit.script(("properties", *paths))


def noted(go, *, headers=(), body=None, client=None, **scripts):
    """One request to the listener with the filters `one` and `two`: one__dh=... is a script of one's."""
    path = f"/?id={go.id}"
    for name in ("one", "two"):
        own = {key.split("__")[1]: value for key, value in scripts.items() if key.startswith(name)}
        path = kit.path_of(path, name=name, is_async=go.is_async, **own)
    fields = [("x-test", go.id), *headers]
    method = "GET" if body is None else "POST"
    if client is not None:
        return client.ask(method, path, headers=fields, body=body)
    with go.connect("noted") as own_client:
        return own_client.ask(method, path, headers=fields, body=body)


def said(go, phase):
    """What both filters recorded there."""
    ends = go.report.wait_for(
        lambda r: (ends := sum("destroy: reason=" in e for e in r["events"])) and ends % 2 == 0,
        "both filters are destroyed",
        id=go.id,
    )["events"]
    return [e.partition(": ")[2] for e in ends if e.startswith(f"{phase}: ")]


# ---- properties ----


def test_properties_of_a_request(go):
    asked = {
        "request.url_path": "/",
        "request.scheme": "http",
        "request.method": "POST",
        "request.headers.x-two": "one,two",
        "request.headers.X-TWO": "one,two",
        "request.headers.x-two.more": None,
        "request.headers.x-none": None,
        "request.useragent": "me",
        "request.referer": "http://before",
        "request.protocol": "HTTP/1.1",
        "request.size": "4",
        "request.duration": None,
        "response.code": None,
        "response.size": "0",
        "connection.mtls": "false",
        "connection.requested_server_name": "",
        "connection.tls_version": None,
        "upstream.address": None,
        "upstream.request_attempt_count": "0",
        "xds.cluster_name": None,
        "xds.filter_chain_name": "",
        "xds.listener_direction": "0",
        "xds.node": None,
        "metadata.filter_metadata.a.b": None,
        "filter_state.a": None,
        "wasm.plugin": None,
    }
    headers = [
        ("x-two", "one"),
        ("x-two", "two"),
        ("user-agent", "me"),
        ("referer", "http://before"),
    ]
    go.ask("/?q=1", headers=headers, body=b"body", dh=properties(*asked))
    found = go.properties("dh")
    for path, text in asked.items():
        assert found[path] == ("absent" if text is None else f'"{text}"'), path


def test_properties_with_a_form_of_their_own(go):
    paths = [
        "request.time",
        "request.id",
        "request.host",
        "request.headers.host",
        "connection.id",
        "source.address",
        "source.port",
        "destination.port",
    ]
    go.ask("/", dh=properties(*paths))
    found = {path: text.strip('"') for path, text in go.properties("dh").items()}
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?\+00:00", found["request.time"])
    assert re.fullmatch(r"[0-9a-f-]{36}", found["request.id"])
    assert found["request.host"] == found["request.headers.host"] != ""
    assert int(found["connection.id"]) > 0
    assert found["source.address"] == f"127.0.0.1:{found['source.port']}"
    assert found["destination.port"] == str(go.port("main"))


def test_strange_paths(go):
    paths = ["", ".", ".x", "request", "request.", "request..path", "request.path.", "request.headers", "metadata."]
    go.ask("/p", dh=properties(*paths))
    found = go.properties("dh")
    assert found == {
        "": "no text",
        ".": "absent",
        ".x": "absent",
        "request": "no text",
        "request.": "no text",
        "request..path": "absent",
        "request.path.": found["request.path."],
        "request.headers": "no text",
        "metadata.": '""',
    }
    assert found["request.path."].startswith('"/p?')


def test_properties_of_a_response(go):
    answered = {
        "response.code": "200",
        "response.code_details": "via_upstream",
        "response.headers.x-origin": "yes",
        "response.flags": "0",
        "upstream.address": f"127.0.0.1:{go.origin.port}",
        "upstream.port": str(go.origin.port),
        "upstream.request_attempt_count": "1",
        "upstream.transport_failure_reason": "",
        "upstream.cx_pool_ready_duration": None,
        "xds.cluster_name": "origin",
        "xds.cluster_metadata": "",
        "xds.upstream_host_metadata": "",
        "request.method": "GET",
    }
    timed = ["upstream.cx_pool_ready_duration", "request.duration", "response.backend_latency"]

    def told_in_time():
        """While the callback that started the last goroutine has not returned nobody can be told of the end. Then it is
        told late, and nothing of the configuration is there any more (ext_past.h)."""
        go.new_id()
        go.ask("/", eh=properties(*answered, "upstream.local_address"), log=properties(*answered, *timed))
        return go.properties("log")["xds.cluster_metadata"] != "absent"

    eventually(told_in_time, what="a log that is told in time")
    for phase in ("eh", "log"):
        found = go.properties(phase)
        for path, text in answered.items():
            if text is not None and path != "response.headers.x-origin":
                assert found[path] == f'"{text}"', (phase, path)
    assert go.properties("eh")["upstream.local_address"].startswith('"127.0.0.1:')
    for path in timed:
        assert re.fullmatch(r'"(0|[\d.]+(ns|us|ms|s))"', go.properties("log")[path]), path


def test_a_filter_sees_its_own_changes(go):
    go.ask("/", dh=["set:x-new:one", "add:x-new:two", properties("request.headers.x-new")])
    assert go.properties("dh") == {"request.headers.x-new": '"one,two"'}


def test_properties_of_the_configuration(go):
    paths = [
        "xds.route_name",
        "xds.route_metadata.filter_metadata.of.route.list.1.n",
        "xds.route_metadata.filter_metadata.of.route.list.7",
        "xds.route_metadata.filter_metadata.of.route.list",
        "xds.virtual_host_metadata",
        "xds.listener_direction",
    ]
    noted(go, one__dh=properties(*paths))
    found = dict(line.split(" = ", 1) for line in said(go, "one/dh") if " = " in line)
    assert [found[path] for path in paths] == ['"named"', '"0.5"', "absent", "no text", '""', '"2"']


# ---- metadata ----


def test_metadata_goes_from_filter_to_filter_and_to_the_log(go):
    value = '{"list":[1,"two",null,true],"in":{"deep":0.5}}'
    noted(
        go,
        one__dh=["metadata.set:ns:k:from one", "metadata.get:ns"],
        two__dh=["metadata.get:ns", ("metadata.json", "ns", "value", value)],
        two__eh=["metadata.set:ns:k:from two"],
        one__log=[
            "metadata.get:ns",
            ("metadata.set", "ns", "late", "in the log phase"),
            properties("metadata.filter_metadata.ns.value.in.deep", "metadata.filter_metadata.ns"),
        ],
    )
    assert "metadata map[k:from one]" in said(go, "one/dh")
    assert "metadata map[k:from one]" in said(go, "two/dh")
    assert "metadata map[k:from two value:map[in:map[deep:0.5] list:[1 two <nil> true]]]" in said(go, "one/log")
    assert 'metadata.filter_metadata.ns.value.in.deep = "0.5"' in said(go, "one/log")
    assert "metadata.filter_metadata.ns = no text" in said(go, "one/log")
    assert go.shared.logged(go.id)["ns"] == {
        "k": "from two",
        "late": "in the log phase",
        "value": {"in": {"deep": 0.5}, "list": [1, "two", None, True]},
    }


def test_metadata_of_other_filters(go):
    """json_router, which knows nothing of Go, has set it."""
    headers = [("content-type", "application/json")]
    noted(go, headers=headers, body=b'{"model":"m"}', one__dh=["metadata.get:body", "metadata.get:nobody"])
    assert said(go, "one/dh")[-2:] == ["metadata map[model:m]", "metadata map[]"]


def test_metadata_that_is_too_deep_is_not_set(go):
    noted(go, one__dh=["metadata.deep:ns:k:30", "metadata.deep:ns:far:40", "event:on", "metadata.get:ns"])
    assert "far" not in said(go, "one/dh")[-1]
    assert "bottom" in said(go, "one/dh")[-1]
    go.sluice.wait_for_log("dynamic metadata far is not set")


# ---- filter state ----

READ_ONLY, MUTABLE = 0, 1
CHAIN, REQUEST, CONNECTION, TOP = range(4)


def state(key, text, kind=MUTABLE, span=REQUEST, sharing=0):
    return kit.script(("state.set", key, text, kind, span, sharing))


def test_filter_state_for_later_filters_and_the_log(go):
    noted(
        go,
        one__dh=["state.get:s", state("s", "first", READ_ONLY), state("s", "second", READ_ONLY), "state.get:s"],
        two__dh=["state.get:s", state("m", "one"), state("m", "two"), state("m", "three", MUTABLE, CHAIN)],
        one__eh=["state.get:m", properties("filter_state.s", "upstream_filter_state.s")],
        one__log=[state("s", "late", READ_ONLY), "state.get:s"],
    )
    assert said(go, "one/dh")[-2:] == ["state ", "state first"]
    assert "state first" in said(go, "two/dh")
    assert said(go, "one/eh")[-3:] == [
        "state two",
        'filter_state.s = "first"',
        "upstream_filter_state.s = absent",
    ]
    assert said(go, "one/log")[-1] == "state first"
    assert go.shared.logged(go.id)["state"] == "first"


def test_filter_state_that_the_upstream_is_shown(go):
    shared = properties("upstream_filter_state.s")
    noted(go, one__dh=[state("s", "x", sharing=1), shared], one__eh=shared)
    assert "upstream_filter_state.s = absent" in said(go, "one/dh")
    assert 'upstream_filter_state.s = "x"' in said(go, "one/eh")


@pytest.mark.parametrize("span", [CONNECTION, TOP])
def test_filter_state_of_a_connection(go, span):
    """The SDK's fourth span, which ends an Envoy, is taken for the connection's."""
    with go.connect("noted") as client:
        noted(go, client=client, one__dh=[state("kept", "first", READ_ONLY, span), state("gone", "x")])
        said(go, "one/dh")
        go.report.get(forget=go.id)
        go.new_id()
        noted(
            go,
            client=client,
            one__dh=["state.get:kept", "state.get:gone", state("kept", "no", READ_ONLY, span), "state.get:kept"],
        )
    assert said(go, "one/dh")[-3:] == ["state first", "state ", "state first"]
    assert go.shared.logged(go.id)["kept"] == "first"
    go.new_id()
    noted(go, one__dh="state.get:kept")  # another connection
    assert said(go, "one/dh")[-1] == "state "


# ---- values by number ----


def test_values_before_and_after_the_response(go):
    go.ask("/", dh="info", eh="info", log="info")
    before, after, log = (
        dict(pair.split("=", 1) for pair in next(x for x in go.said(phase) if x.startswith("info "))[5:].split(" "))
        for phase in ("dh", "eh", "log")
    )
    for name in ("code", "details", "upstream_local", "upstream_remote", "cluster", "virtual_cluster"):
        assert before[name] == "(none)", name
    assert before["attempts"] == "0"
    assert before["protocol"] == "HTTP/1.1"
    assert before["downstream_local"] == f"127.0.0.1:{go.port('main')}"
    assert before["downstream_remote"].startswith("127.0.0.1:")
    for values in (after, log):
        assert values["code"] == "200"
        assert values["details"] == "via_upstream"
        assert values["attempts"] == "1"
        assert values["cluster"] == "origin"
        assert values["upstream_remote"] == f"127.0.0.1:{go.origin.port}"
        assert values["upstream_local"].startswith("127.0.0.1:")
        assert values["downstream_remote"] == before["downstream_remote"]


def test_values_of_a_request_without_an_upstream(go):
    go.ask("/", dh="reply:403:no", eh="info", log=properties("response.flags", "response.code", "upstream.address"))
    info = next(x for x in go.said("eh") if x.startswith("info "))
    assert "code=403" in info
    assert "upstream_remote=(none)" in info
    assert go.properties("log") == {
        "response.flags": '"0"',
        "response.code": '"403"',
        "upstream.address": "absent",
    }


# ---- out of turn ----


def test_questions_after_the_end(go_sync):
    """A goroutine that outlives its request finds nothing, whatever it asks, and changes nothing."""
    go = go_sync
    late = ["wait:ended", "property:request.path", "metadata.set:ns:k:v", "metadata.get:ns"]
    go.ask("/", dh=["fork", *late, ("state.set", "s", "v"), "state.get:s", "event:done"])
    go.signal("ended")
    events = go.wait_for_event("dh: done")
    assert events[events.index("dh: woken ended") + 1 :] == [
        "dh: property request.path= err=value not found",
        "dh: metadata map[]",
        "dh: state ",
        "dh: done",
    ]
