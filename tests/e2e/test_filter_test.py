"""sluice filter-test: a filter's author runs it on messages and is told what it changes, and what went wrong."""

import json
import re
import time
from urllib.parse import quote

import kit
import pytest
from build import EXAMPLES, build, build_examples
from harness import Origin, run

GET = "GET / HTTP/1.1\n"


def try_filter(*args, rc, **more):
    done = run("filter-test", *map(str, args), **more)
    assert done.returncode == rc, done.stdout + done.stderr
    assert "Sanitizer" not in done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def file(tmp_path):
    """file(name, text or object) writes one and returns its path."""

    def write(name, content):
        path = tmp_path / name
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


def test_the_example_does_what_its_page_says():
    said = try_filter(build_examples(), "--cases", EXAMPLES / "cases.yaml", rc=0)
    assert "5 cases, 0 failed" in said
    assert '  - {"debug":1,"n":0.10}\n  + {"n":0.10,"user":{"plan":"free"}}\n' in said
    assert "request: answered by the filter, the origin did not get it" in said
    assert "x-forwarded-proto" not in re.sub(r"    x-forwarded-proto.*", "", said)  # never as a change


def test_one_request_from_the_command_line(file):
    config = file("c.yaml", "request: { set: { a: 1 } }")
    request = file("r.http", 'POST /x HTTP/1.1\ncontent-type: application/json\n\n{"b":2}')
    response = file("s.http", "HTTP/1.1 201 Created\nx-from: origin\n\nmade")
    flags = ["--plugin", "jsonbody", "--config", config, "--request", request, "--response", response]
    said = try_filter(build_examples(), *flags, "--chunk-bytes", 2, "--delay-ms", 1, rc=0)
    assert '  - {"b":2}\n' in said and '  + {"a":1,"b":2}\n' in said
    assert "response: unchanged" in said
    said = try_filter(build_examples(), *flags, "--abort-after-request", 3, rc=0)
    assert "request: did not reach the origin" in said


def test_an_expectation_that_does_not_hold_fails(file):
    expect = {
        "status": 404,
        "request_headers": {"host": "other", "x-none": None},
        "response_headers": {"set-cookie": ["a=1", "b=2"]},
        "response_body": "yes",
        "log_contains": ["nobody says this"],
    }
    response = "HTTP/1.1 200 OK\nset-cookie: a=1\nset-cookie: b=2\n\nno"
    config = {"response": {"set": {"a": 1}}}
    cases = [{"name": "wrong", "request": GET, "response": response, "expect": expect}]
    path = file("cases.json", {"plugin": "jsonbody", "config": config, "cases": cases})
    said = try_filter(build_examples(), "--cases", path, rc=1)
    for line in (
        "FAIL wrong\n",
        "FAIL status: 200, expected 404\n",
        "FAIL request header host: filter.test\n       expected: other\n",
        "pass request header x-none: (none)\n",
        "pass response header set-cookie: a=1 | b=2\n",
        "FAIL response body: no\n       expected: yes\n",
        "FAIL log does not contain: nobody says this\n",
        "1 cases, 1 failed\n",
    ):
        assert line in said, said


def test_what_a_filter_leaves_behind(file):
    """Metadata, filter state, flags and details, as they are when the request is over."""
    notes = {"user": "alice", "roles": ["admin", {"of": 2}], "half": 0.5, "on": True}
    config = {"dh": "state.set:a.key:kept"}
    config["eh"] = ",".join(f"metadata.json:my.ns:{k}:" + quote(json.dumps(v), safe="") for k, v in notes.items())
    right = {
        "metadata": {"my.ns": {**notes, "half": "0.5", "nothing": None}, "other": None},
        "filter_state": {"a.key": "kept", "no.key": None},
        "response_flags": "-",
        "response_code_details": "via_upstream",
    }
    wrong = {
        "metadata": {"my.ns": {"user": None, "roles": ["admin"], "on": "true"}, "other": {"key": 1}},
        "filter_state": {"a.key": 1, "no.key": "x"},
        "response_flags": "UH",
        "response_code_details": "gone",
    }
    left = {"metadata": {"my.ns": None}, "response_flags": "DC"}
    post = "POST / HTTP/1.1\n\n12345"
    cases = [
        {"name": "right", "request": GET, "repeat": 3, "expect": right},
        {"name": "not asked", "request": GET},
        {"name": "left", "request": post, "abort": {"after_request_bytes": 2}, "expect": left},
        {"name": "wrong", "request": GET, "expect": wrong},
    ]
    path = file("cases.json", {"plugin": "basic", "config": config, "cases": cases})
    said = try_filter(build("basic"), "--cases", path, rc=1)
    passed, _, failed = said.partition("FAIL wrong\n")
    assert "FAIL" not in passed and "4 cases, 1 failed" in failed, said
    for line in (
        'pass metadata my.ns roles: ["admin",{"of":2}]\n',
        "pass metadata my.ns half: 0.5\n",
        "pass metadata my.ns nothing: (none)\n",
        "pass metadata other: (none)\n",
        "pass filter_state a.key: kept\n",
        "pass response_flags: DC\n",
    ):
        assert line in passed, said
    for line in (
        'FAIL metadata my.ns user: "alice"\n       expected: (none)\n',
        'FAIL metadata my.ns roles: ["admin",{"of":2}]\n       expected: ["admin"]\n',
        'FAIL metadata my.ns on: true\n       expected: "true"\n',
        "FAIL metadata other key: (none)\n       expected: 1\n",
        "FAIL filter_state a.key: kept\n       expected: 1\n",
        "FAIL filter_state no.key: (none)\n       expected: x\n",
        "FAIL response_flags: -\n       expected: UH\n",
        "FAIL response_code_details: via_upstream\n       expected: gone\n",
    ):
        assert line in failed, said


def test_the_fields_of_a_cases_file_are_documented():
    """The page has what --print-fields prints, between its two comments."""
    printed = try_filter("--print-fields", rc=0)
    page = (EXAMPLES.parents[1] / "docs/test-a-filter.md").read_text()
    mark = "sluice filter-test --print-fields -->\n\n"
    documented = page.partition("<!-- Below: " + mark)[2].partition("\n<!-- Above: " + mark)[0]
    assert printed == documented, "put what build/sluice filter-test --print-fields prints into docs/test-a-filter.md"
    assert "`response_code_details`" in printed


def test_cases_share_the_filter_and_its_state(file):
    """A burst of three, then no more."""
    cases = [
        {"name": "in", "request": GET, "repeat": 3, "expect": {"status": 200}},
        {"name": "out", "request": GET, "expect": {"status": 429, "reaches_origin": False}},
        {"name": "too many", "request": GET, "repeat": 2, "expect": {"status": 200}},
    ]
    path = file("cases.json", {"config": {"rate": 0.001, "burst": 3}, "cases": cases})
    said = try_filter(build_examples(), "--plugin", "ratelimit", "--cases", path, "--quiet", rc=1)
    assert "pass in" not in said and "FAIL too many" in said and "3 cases, 1 failed" in said


def test_a_filter_that_asks_another_server(file):
    auth = Origin(lambda x: x.reply(200, headers=[("x-auth-user", "alice")]))
    try:
        config = {"url": f"http://127.0.0.1:{auth.port}/", "timeout": "20s", "copy": ["x-auth-user"]}
        expect = {"request_headers": {"x-auth-user": "alice"}}
        trailers = "POST / HTTP/1.1\ntransfer-encoding: chunked\n\nbody\n--trailers--\nx-sum: 7\n"
        cases = [
            {"name": "yes", "request": GET, "expect": expect},
            {
                "name": "trailers",
                "request": trailers,
                "expect": {**expect, "request_body": "body", "request_trailers": {"x-sum": 7}},
            },
            {"name": "origin leaves", "request": GET, "response": "200\n\n12345", "abort": {"origin_after_bytes": 2}},
        ]
        path = file("cases.json", {"plugin": "authcall", "config": config, "cases": cases})
        said = try_filter(build_examples(), "--cases", path, rc=0)
    finally:
        auth.close()
    assert "  + x-auth-user: alice\n" in said and "response: reached the client in part" in said


CARELESS = {
    "request: panic": ("FAIL the filter panicked:", "panic serving: careless: panic", "misbehave.go"),
    "goroutine: panic": ("FAIL the filter panicked\n    panic: careless: panic", "main.misbehave"),
    "request: exit": ("FAIL the filter ended the process with exit status 3", "cannot reach the database"),
    "request: hang": ("FAIL the filter gave no answer within 1 s",),
}


@pytest.mark.parametrize("how", CARELESS)
def test_a_filter_that_goes_wrong_fails_its_case_alone(file, how):
    """Why it did is told, and the next case has a filter again."""
    cases = [
        {"name": "bad", "request": GET + "x-misbehave: yes\n"},
        {"name": "good", "request": GET, "expect": {"status": 200}, "timeout": "20s"},
    ]
    path = file("cases.json", {"plugin": "misbehave", "cases": cases})
    flags = ["--cases", path, "--config", file("c.yaml", how), "--timeout-ms", 1000 if "hang" in how else 20000]
    began = time.monotonic()
    said = try_filter(build("config"), *flags, rc=1)
    assert time.monotonic() - began < 60
    assert "FAIL bad" in said and "pass good" in said and "2 cases, 1 failed" in said
    for part in CARELESS[how]:
        assert part in said, said


def test_a_filter_that_cannot_be_loaded_says_why(file):
    request = file("r.http", GET)
    flags = ["--plugin", "misbehave", "--config", file("c.yaml", "parse: panic"), "--request", request]
    said = try_filter(build("config"), *flags, rc=1)
    assert "the filter cannot be loaded" in said and "panic: careless: panic" in said
    assert "bootstrap.json" not in said


def test_any_filter_as_it_stands_in_a_bootstrap(file):
    entry = kit.go_filter(build_examples(), "jsonbody", kit.typed_struct({"request": {"set": {"a": "b"}}}))
    request = file("r.http", "POST / HTTP/1.1\ncontent-type: application/json\n\n{}")
    said = try_filter("--bootstrap-filter", file("f.json", entry), "--request", request, rc=0)
    assert '  + {"a":"b"}\n' in said


def test_mistakes_of_the_author_are_told_with_their_place(file):
    def wrong(*args):
        return try_filter(*args, rc=2)

    library = build_examples()
    assert "does not tell the names" in wrong(library, "--request", file("r.http", GET))
    assert "none given" in wrong(library, "--plugin", "x") and "none given" in wrong("--request", "r.http")
    cases = "cases:\n- name: a\n  request: |\n    GET / HTTP/1.1\n    a b\n- name: b\n  reqest: x\n"
    said = wrong(library, "--plugin", "x", "--cases", file("cases.yaml", cases))
    assert "cases.yaml:7: cases[1]: unknown field" in said
    cases = "cases:\n- name: a\n  request: |\n    GET / HTTP/1.1\n    a b\n"
    said = wrong(library, "--plugin", "x", "--cases", file("cases.yaml", cases))
    assert "cases[0]: line 2 of request" in said
    for expect, why in (
        ({"metadata": {"a:b": {}}}, "metadata: a:b: a name that"),
        ({"metadata": {"a": 1}}, "metadata: a: expected an object"),
        ({"filter_state": {"a": {}}}, "filter_state: a: expected a text"),
    ):
        path = file("cases.json", {"cases": [{"name": "a", "request": GET, "expect": expect}]})
        assert why in wrong(library, "--plugin", "x", "--cases", path)
    assert "sluice filter-test FILTER.so" in try_filter("--help", rc=0)
