"""Go filters read and change headers, on the way in and on the way out."""

from urllib.parse import urlencode

pytest_plugins = ["go_fixtures"]


def test_a_filter_changes_the_request_headers(go):
    """The origin gets what the filter made of the client's headers, and the rest untouched."""
    reply = go.ask(
        headers=[
            ("x-old", "old"),
            ("x-drop", "1"),
            ("x-drop", "2"),
            ("x-multi", "a"),
            ("x-same", "s"),
        ],
        dh=[
            "set:x-new:1",
            "set:X-Old:new",
            "del:x-drop",
            "add:x-multi:b",
            "add:x-multi:c",
            ("set", "x-empty", ""),
            ("set", "x-odd", 'a b,c;d="e"'),
        ],
    )
    assert reply.status == 200
    headers = go.received_headers()
    assert headers["x-new"] == ["1"]
    assert headers["x-old"] == ["new"]
    assert "x-drop" not in headers
    assert headers["x-multi"] == ["a", "b", "c"]
    assert headers["x-same"] == ["s"]
    assert headers["x-empty"] == [""]
    assert headers["x-odd"] == ['a b,c;d="e"']


def test_a_filter_changes_the_response_headers(go):
    reply = go.ask(
        eh=[
            "set:x-new:1",
            "set:x-origin:changed",
            "del:content-type",
            "add:x-two:a",
            "add:x-two:b",
            ("set", "x-empty", ""),
            ("set", ":status", "203"),
        ],
    )
    assert reply.status == 203
    assert reply.all("x-new") == ["1"]
    assert reply.all("x-origin") == ["changed"]
    assert reply.header("content-type") is None
    assert reply.all("x-two") == ["a", "b"]
    assert reply.all("x-empty") == [""]
    assert reply.body == b"origin\n"


def test_what_a_filter_reads_in_the_request(go):
    """More entries than a small table holds, repeated names, an empty value, and a value that is
    read without a copy across a garbage collection."""
    many = [("x-many", str(n)) for n in range(20)]
    go.ask(
        "/p?q=1",
        method="POST",
        body=b"",
        headers=[*many, ("x-empty", ""), ("X-Upper", "Case")],
        dh=[
            "values:x-many",
            "get:x-empty",
            "get:x-none",
            "get:X-UPPER",
            "getraw:x-upper",
            "getraw:x-none",
            "pseudo",
            "count",
            "range",
            "all",
        ],
    )
    said = go.said("dh")[1:]
    wanted = " ".join(f'"{n}"' for n in range(20))
    assert said[0] == f"values x-many=[{wanted}]"
    assert said[1] == 'get x-empty="" true'
    assert said[2] == 'get x-none="" false'
    assert said[3] == 'get X-UPPER="Case" true'
    assert said[4] == 'getraw x-upper="Case" same=true'
    assert said[5] == 'getraw x-none="" same=true'
    assert said[6].startswith("pseudo POST http test.local /p?q=1&id=")
    assert int(said[7].split()[1]) >= 4 + 20 + 2
    assert said[8][len("range ") :] == said[9][len("all ") :]
    assert ':authority="test.local"' in said[8] and ':scheme="http"' in said[8]
    assert 'x-upper="Case"' in said[8]
    assert " host=" not in said[8]  # it is :authority to a filter


def test_what_a_filter_reads_in_the_response(go):
    go.ask(
        "/?o=many",
        eh=["values:x-many", "get:x-empty", "getraw:x-origin", "pseudo", "count", "range"],
    )
    said = go.said("eh")[1:]
    wanted = " ".join(f'"{n}"' for n in range(20))
    assert said[0] == f"values x-many=[{wanted}]"
    assert said[1] == 'get x-empty="" true'
    assert said[2] == 'getraw x-origin="yes" same=true'
    assert said[3] == "pseudo 200 true"
    assert int(said[4].split()[1]) >= 1 + 20 + 1 + 3
    assert ':status="200"' in said[5]


def test_a_filter_sees_its_own_changes(go):
    """Set, add and remove act on what a later read in the same callback returns."""
    go.ask(
        headers=[("x-a", "old")],
        dh=[
            "set:x-a:new",
            "get:x-a",
            "add:x-a:more",
            "values:x-a",
            "del:x-a",
            "get:x-a",
            "getraw:x-a",
            "set:x-b:fresh",
            "getraw:x-b",
        ],
    )
    said = go.said("dh")[1:]
    assert said[0] == 'get x-a="new" true'
    assert said[1] == 'values x-a=["new" "more"]'
    assert said[2] == 'get x-a="" false'
    if not go.is_async:
        # Raw reads go to the proxy. From a goroutine, changes may still be on their way there.
        assert said[3] == 'getraw x-a="" same=true'
        assert said[4] == 'getraw x-b="fresh" same=true'


def test_a_filter_rewrites_method_host_and_path(go):
    reply = go.ask(
        method="GET",
        dh=["setmethod:PUT", "sethost:other.example", ("setpath", f"/changed?id={go.id}")],
    )
    assert reply.status == 200
    received = go.received()
    assert (received.method, received.path) == ("PUT", f"/changed?id={go.id}")
    assert go.received_headers()["host"] == ["other.example"]


def test_adding_to_a_header_with_one_slot_joins_the_values(go):
    """Envoy keeps some headers in one slot each; adding to one makes a list of it."""
    go.ask(headers=[("user-agent", "a")], dh=["add:user-agent:b"])
    assert go.received_headers()["user-agent"] == ["a,b"]


def test_a_line_break_in_a_value_does_not_make_a_header(go):
    """Whatever becomes of the bad header, nothing that the filter did not name appears."""
    with go.connect() as client:
        reply = client.ask(
            "GET",
            go.path(
                dh=[
                    ("set", "x-bad", "a\r\nx-injected: 1"),
                    ("set", "x-bad\r\nx-injected", "1"),
                    ("set", "x-nul", "a\0b"),
                ],
                eh=[("set", "x-bad", "a\r\nx-injected: 1"), ("set", "bad name", "1")],
            ),
        )
    assert reply.header("x-injected") is None
    assert reply.header("bad name") is None
    for request in go.origin.received(go.id):
        assert "x-injected" not in dict(request.headers)
        assert all("\0" not in value for _, value in request.headers)


def test_a_filter_that_reads_nothing_changes_nothing(go_sync):
    """The library's own pass-through: the headers arrive as through a proxy without it."""
    go = go_sync
    reply = go.ask("/?o=many", kind="pass", headers=[("X-One", "1"), ("x-one", "2")], body=b"body")
    assert reply.all("x-many") == [str(n) for n in range(20)]
    assert go.received_headers()["x-one"] == ["1", "2"]
    assert go.received().body == b"body"


def test_another_route_after_the_filter_changed_a_header(go):
    """The route was chosen by the headers as they came; clearing it makes the proxy look again."""
    stale = go.ask(kind="routes", dh=["set:x-route:other", "info:route"])
    assert stale.body == b"origin\n"
    assert go.said("dh")[-1] == "info route=to-origin"

    go.new_id()
    fresh = go.ask(kind="routes", dh=["set:x-route:other", "clearroute"])
    assert fresh.body == b"other route\n"


def test_refreshing_the_route_finds_it_at_once(go_133):
    go = go_133
    reply = go.ask(
        kind="routes",
        headers=[("x-route", "other")],
        dh=["del:x-route", "refreshroute", "info:route"],
    )
    assert reply.body == b"origin\n"
    assert go.said("dh")[-1] == "info route=to-origin"


def test_a_script_in_the_query_reaches_the_origin_as_it_was(go_133):
    """The path is data to everybody else: the filter reads it, nobody decodes it on the way."""
    go = go_133
    odd = urlencode({"note": "a b&c=d%2F\u00e9"})
    go.ask(f"/p%20q?{odd}", dh="get:x")
    assert go.received().path.startswith(f"/p%20q?{odd}&id={go.id}&")
