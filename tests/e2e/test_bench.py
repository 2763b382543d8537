"""The benchmarks themselves: their figures are only as good as their being run."""

import contextlib
import itertools
import json
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from random import Random
from xml.etree import ElementTree

import pytest
from harness import ROOT, SLUICE, eventually, is_sanitized, reserved_port

sys.path.insert(0, str(ROOT / "bench"))

from _servers import envoy_binary  # noqa: E402
import _streams_json  # noqa: E402
from _streams_servers import nginx_stream_module  # noqa: E402

# Here the programs that measure are what is tested, and one build of them is enough.
pytestmark = pytest.mark.skipif(is_sanitized(), reason="what is measured is the plain build")

TOOLS = ("nginx", "haproxy", "strace", "cc")
RT_PINNED = ("switch", "spawn", "chan_same_p", "chan_unbuffered", "chan_buffered")
RT_CASES = (
    *RT_PINNED,
    "chan_cross_p",
    "select4",
    "mutex",
    "timer",
    "echo64",
    "foreign_call",
    "foreign_call_quick",
    "callback",
)
HTTP1_CASES = (
    *(f"h1_{case}_{what}" for case in ("small", "small512", "two", "two512") for what in ("cpu_us", "rps")),
    *(f"h1_{what}_us" for what in ("p50", "p99", "p999")),
    "h1_1mb_cpu_ms_per_gb",
    "h1_idle_conn_bytes",
    "h1_idle_conn_whole_bytes",
    "syscalls_per_request",
    "allocations_per_request",
)
MEMORY_CASES = ("block_same_p", "block_cross_p", "handle_lookup")


needs_peers = pytest.mark.skipif(not all(shutil.which(tool) for tool in TOOLS), reason="./dev bench installs the peers")


@needs_peers
def test_a_quick_run_measures_every_server_and_says_what_it_costs(tmp_path):
    """One short turn each; what is not installed here, as Envoy may be, is left out."""
    output = tmp_path / "http1.json"
    command = [sys.executable, ROOT / "bench" / "http1.py", "--quick", "--case", "small"]
    subprocess.run([*command, "--output", output], check=True, timeout=280)

    written = json.loads(output.read_text())
    assert written["bench"] == "http1"
    cost = {result["case"]: result for result in written["results"]}["h1_small_cpu_us"]
    assert cost["lower_is_better"]
    for server in ("sluice", "nginx", "haproxy", "bare"):
        figures = cost["values"][server]
        assert 0 < figures["min"] <= figures["median"] <= figures["max"]
    compared = {(ratio["case"], ratio["to"]) for ratio in written["ratios"]}
    assert {("h1_small_cpu_us", "bare"), ("h1_small_cpu_us", "best peer")} <= compared


needs_go = pytest.mark.skipif(not all(map(shutil.which, ("nginx", "go", "cc"))), reason="./dev bench installs them")
ADDED = ("header_get_set", "body_read_4k", "body_rewrite_4k", "async_hop", "chain_of_five", "body_untouched_64k")


@needs_go
def test_what_a_go_filter_adds_is_measured(tmp_path):
    """By the plugin's own floor, beside what Envoy's dynamic modules add where Envoy is installed, and by what it does
    to others; no time is judged."""
    output = tmp_path / "gofilter.json"
    measured = {"sluice", "envoy_module"} if envoy_binary() else {"sluice"}
    command = [sys.executable, ROOT / "bench" / "gofilter.py", "--quick", "--only", *measured, "floor"]
    subprocess.run([*command, "--output", output], check=True, timeout=280)

    written = json.loads(output.read_text())
    results = {result["case"]: result["values"] for result in written["results"]}
    for case in ADDED:
        assert measured <= set(results[f"added_us_{case}"])
    assert results["added_us_header_get_set"]["floor"]["min"] > 0
    assert set(results["start_ms"]) == {"0 libraries", "1 libraries", "5 libraries"}
    runs = {"quiet", "blocked", "quiet direct", "blocked direct"}
    assert set(results["p999_us_of_others"]) == runs
    assert all(results["samples"][name]["min"] > 0 for name in runs)
    # Counted, so known: one copy of the headers and one edit a filter, and a body crosses when it is asked for.
    counted = {case: {what: of["median"] for what, of in results[f"per_request_{case}"].items()} for case in ADDED}
    for case, copies, calls, body in (
        ("header_get_set", 1, 2, 0),
        ("body_read_4k", 0, 1, 4096),
        ("body_rewrite_4k", 0, 2, 2 * 4096),
        ("async_hop", 1, 3, 0),
        ("chain_of_five", 5, 10, 0),
        ("body_untouched_64k", 1, 2, 0),
    ):
        found = counted[case]
        assert (found["header copies"], found["calls by Go"], found["body bytes"]) == (copies, calls, body), case
    assert counted["chain_of_five"]["calls of Go"] == 5 * counted["header_get_set"]["calls of Go"]
    aims = {(ratio["case"], ratio["who"]) for ratio in written["ratios"] if ratio["limit"] is not None}
    assert aims == {
        ("added_us_header_get_set", "sluice"),
        ("sluice_added_us", "chain_of_five"),
        ("sluice_added_us", "body_untouched_64k"),
        ("p999_us_of_others", "blocked"),
    }
    assert {(limit["case"], limit["met"] in (True, False)) for limit in written["limits"]} == {
        ("added_us_async_hop", True),
        ("start_ms", True),
    }
    chart = ElementTree.parse(output.with_suffix(".svg")).getroot()
    labels = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("sluice") == len(ADDED)


@needs_peers
def test_every_case_of_http1_is_measured_also_for_a_second_sluice(tmp_path):
    """As quick as it goes, and beside nginx only; no figure is judged but that there is one."""
    output = tmp_path / "http1.json"
    command = [sys.executable, ROOT / "bench" / "http1.py", "--quick", "--only", "sluice", "other", "nginx"]
    subprocess.run([*command, "--also", f"other={SLUICE}", "--output", output], check=True, timeout=280)

    written = json.loads(output.read_text())
    results = {result["case"]: result for result in written["results"]}
    for case in HTTP1_CASES:
        assert set(results[case]["values"]) == {"sluice", "other", "nginx"}, case
        assert all(len(rounds) == 1 for rounds in results[case]["rounds"].values()), case
    for case in ("h1_p50_us", "h1_two512_rps", "h1_1mb_rps", "h1_idle_conn_bytes", "syscalls_per_request"):
        assert all(value["median"] > 0 for value in results[case]["values"].values()), case
    # What was asked for at that rate, but for the time that it took to answer the last.
    assert 0 < results["h1_latency_rps"]["values"]["nginx"]["median"] <= written["latency_rate"] * 1.01
    assert results["h1_p50_us"]["values"]["sluice"]["median"] <= results["h1_p99_us"]["values"]["sluice"]["median"]
    # Each counts what it allocates for a request, and where that is nothing the counter is known to work.
    assert 3 < results["allocations_per_request"]["values"]["nginx"]["median"] < 10
    aims = [ratio for ratio in written["ratios"] if ratio["limit"] is not None]
    assert {ratio["who"] for ratio in aims} == {"sluice", "other"}
    assert all(ratio["met"] in (True, False) for ratio in aims)
    chart = ElementTree.parse(output.with_suffix(".svg")).getroot()
    labels = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("other") == 9


@needs_peers
def test_changes_and_crashes_under_load_are_measured(tmp_path):
    """A change or two of each server; no time is judged, and of Sluice no request fails over one."""
    output = tmp_path / "live.json"
    command = [sys.executable, ROOT / "bench" / "live.py", "--quick", "--case", "rules-10", "memory", "crash"]
    subprocess.run([*command, "--output", output], check=True, timeout=280)

    written = json.loads(output.read_text())
    results = {result["case"]: result["values"] for result in written["results"]}
    for case in ("first_request_ms_rules-10", "cpu_us_quiet_rules-10", "cpu_us_changing_rules-10"):
        assert {"restart", "nginx"} <= set(results[case]), case
        assert all(value["min"] > 0 for value in results[case].values()), case
    assert set(results["back_ms"]) == set(results["failed_per_crash"]) == {"restart", "nginx"}
    assert "nginx" in results["bytes_per_change"]
    assert written["limits"] and all(limit["met"] for limit in written["limits"])


needs_stream_peers = pytest.mark.skipif(
    not nginx_stream_module(), reason="./dev bench streams installs nginx's stream module"
)


def streams(tmp_path, *cases, only):
    """What a run with one very short turn each comes to; that bytes and backends are the right ones is checked on
    the way."""
    output = tmp_path / "streams.json"
    command = [sys.executable, ROOT / "bench" / "streams.py", "--quick", "--seconds", "0.05", "--only", *only]
    subprocess.run([*command, "--case", *cases, "--output", output], check=True, timeout=280)
    written = json.loads(output.read_text())
    assert written["bench"] == "streams"
    return written, {result["case"]: result for result in written["results"]}


@needs_peers
@needs_stream_peers
def test_streams_of_bytes_are_measured_through_every_proxy(tmp_path):
    everybody = {"sluice", "nginx", "haproxy", "bare"}
    written, results = streams(tmp_path, "passthrough", "connections", "sni", "idle", only=everybody)
    for case in ("tcp_passthrough_cpu_ms_per_gb", "tcp_connection_cpu_us", "tcp_idle_conn_files"):
        assert set(results[case]["values"]) == everybody, case
    assert set(results["sni_connection_cpu_us"]["values"]) == everybody - {"bare"}
    for case, result in results.items():
        # Of so few connections the memory may be that of none, and of a slow machine's bytes the part of a processor.
        if not case.startswith("tcp_idle_conn") and not case.endswith("_proxy_busy"):
            assert all(value["median"] > 0 for value in result["values"].values()), case
    assert results["tcp_idle_conn_files"]["values"]["sluice"]["median"] == 2
    compared = {(ratio["case"], ratio["to"]) for ratio in written["ratios"] if ratio["who"] == "sluice"}
    assert {("tcp_passthrough_cpu_ms_per_gb", to) for to in ("bare", "haproxy", "nginx")} <= compared
    chart = ElementTree.parse(tmp_path / "streams.svg").getroot()
    labels = [text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")]
    assert labels.count("sluice") == 4


def test_the_documents_of_the_json_bench_are_found_through(tmp_path, monkeypatch):
    """Early and late, by every way of the scanner's program; and the program says when there is nothing to find."""
    monkeypatch.setattr(_streams_json, "SIZE", 1 << 15)
    ours = _streams_json.scanners()
    for make, indent in ((_streams_json.message, None), (_streams_json.record, None), (_streams_json.record, 4)):
        for place, document in _streams_json.documents(make, indent).items():
            path = tmp_path / f"{make.__name__}-{indent}-{place}"
            path.write_text(document)
            said = [_streams_json.measure(words, path, 0.001) for words in ours.values()]
            assert all(each["bytes"] == len(document) > 1 << 15 for each in said)
            path.write_text(document.replace('"model"', '"muddle"'))
            with pytest.raises(subprocess.CalledProcessError):
                _streams_json.measure(ours["sluice"], path, 0.001)


@needs_peers
@needs_stream_peers
def test_the_end_of_tls_is_measured_and_what_is_copied_is_counted(tmp_path):
    """That all handshakes are of the version and kind that was asked for is checked on the way."""
    cases = ("handshakes", "tls_bulk", "copies")
    written, results = streams(tmp_path, *cases, only=("sluice", "nginx"))
    handshakes = [f"tls1{version}_{kind}" for version in (2, 3) for kind in ("ecdsa", "rsa", "resumed")]
    for case in (*(f"{name}_cpu_us" for name in handshakes), "tls_chacha_cpu_ms_per_gb"):
        assert set(results[case]["values"]) == {"sluice", "nginx"}, case
        assert all(value["median"] > 0 for value in results[case]["values"].values()), case
    copies = written["copies"]
    assert copies["L4, bulk"]["spliced"] > 0.9
    assert copies["L4, bulk"]["copied"] < 0.001
    assert copies["HTTPS, 1 MiB"]["spliced"] == 0
    assert 0.9 < copies["HTTPS, 1 MiB"]["received"]


GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody"


class Scripted(socketserver.ThreadingTCPServer):
    """Answers each request on a connection with the next of `answers`, the last one for ever; b"" closes it, and
    so do `most` requests."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *answers, most=None):
        super().__init__(("127.0.0.1", 0), None)
        self.answers, self.most = answers, most
        self.closed = threading.Semaphore(0)
        self.is_awake = threading.Event()
        self.is_awake.set()
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request, address):
        for number in itertools.count():
            if number == self.most:
                return
            heads = request.recv(65536).count(b"\r\n\r\n")
            answer = self.answers[min(number, len(self.answers) - 1)]
            self.is_awake.wait()
            if not heads or not answer:
                return
            request.sendall(answer * heads)

    def shutdown_request(self, request):
        super().shutdown_request(request)
        self.closed.release()

    def stand_still(self, seconds):
        self.is_awake.clear()
        threading.Timer(seconds, self.is_awake.set).start()

    def __exit__(self, *_):
        self.shutdown()
        super().__exit__()


@pytest.fixture(scope="module")
def load(tmp_path_factory):
    """Runs load.c against a port and returns what it says; between(): when it is ready."""
    program = tmp_path_factory.mktemp("load") / "load"
    source = ROOT / "bench" / "native" / "load.c"
    subprocess.run(["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2", "-o", program, source], check=True)

    def run(port, between=lambda: None, **options):
        words = [f"{name}={value}" for name, value in {"port": port, "body": 4, **options}.items()]
        with subprocess.Popen([program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout.readline() == "ready\n"
            between()
            said = process.communicate("\n", timeout=60)[0]
        assert process.returncode == 0
        return json.loads(said)

    return run


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (GOOD, {}),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy", {"bad_status": 28}),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nbod", {"bad_length": 28}),
        (b"HTTP/1.1 200 OK\r\n\r\n", {"broken": 28}),  # who knows how long it is
        (b"", {"broken": 28}),
    ],
)
def test_the_driver_counts_answers_that_are_wrong(load, answer, wrong):
    """Twenty requests, and on each of four connections two before them."""
    with Scripted(answer) as server:
        said = load(server.server_address[1], connections=4, requests=20)
    assert said["requests"] == 20
    assert {name: said[name] for name in ("bad_status", "bad_length", "broken") if said[name]} == wrong


def test_the_driver_opens_another_connection_where_an_answer_was_the_last(load):
    with Scripted(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody", most=1) as server:
        said = load(server.server_address[1], connections=4, requests=20)
    assert (said["requests"], said["broken"]) == (20, 0)


def test_the_driver_sees_bytes_that_nobody_asked_for(load):
    with Scripted(GOOD, GOOD, GOOD + GOOD) as server:
        assert load(server.server_address[1], connections=1, requests=5)["broken"] > 0


def test_idle_connections_that_the_server_closes_are_no_idle_connections(load):
    def all_are_closed():
        for _ in range(50):
            assert server.closed.acquire(timeout=60)

    with Scripted(GOOD) as server:
        assert load(server.server_address[1], connections=50, idle=1)["still_open"] == 50
    with Scripted(GOOD, most=1) as server:
        assert load(server.server_address[1], all_are_closed, connections=50, idle=1)["still_open"] == 0


def test_a_server_that_stands_still_is_charged_for_all_that_fell_due(load):
    """It stands for 300 ms of a second. Over two connections a closed loop would have two slow answers; here a
    third of all are late, since they count from when they were due."""
    with Scripted(GOOD) as server:
        threading.Timer(0.3, server.stand_still, (0.3,)).start()
        said = load(server.server_address[1], connections=2, rate=1000, ms=1000)
    assert said["requests"] == 1000
    assert said["p99_us"] > 250_000
    assert said["mean_us"] > 20_000


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """{name: path} of the programs that ask a TCP proxy for bytes."""
    folder, native = tmp_path_factory.mktemp("streams"), ROOT / "bench" / "native"
    command = ["cc", "-std=gnu17", "-D_GNU_SOURCE", "-O2"]
    for name in ("stream_load", "stream_origin", "bare_tcp"):
        subprocess.run([*command, "-o", folder / name, native / f"{name}.c"], check=True)
    return {path.name: path for path in folder.iterdir()}


class Taking(socketserver.ThreadingTCPServer):
    """Between stream_load and its origin: `change` says what becomes of the bytes of an answer at a place; None ends
    the connection."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, origin, change):
        super().__init__(("127.0.0.1", 0), None)
        self.origin, self.change = origin, change
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    def finish_request(self, request, address):
        with socket.create_connection(("127.0.0.1", self.origin)) as origin:
            threading.Thread(target=self.pass_on, args=(request, origin), daemon=True).start()
            place = 0
            while (answer := origin.recv(65536)) and (changed := self.change(place, answer)) is not None:
                request.sendall(changed)
                place += len(answer)
            request.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def pass_on(request, origin):
        with contextlib.suppress(OSError):  # the other direction has ended it
            while asked := request.recv(65536):
                origin.sendall(asked)

    def handle_error(self, request, address):
        pass  # who asked has gone

    def __exit__(self, *_):
        self.shutdown()
        super().__exit__()


@pytest.fixture
def ask(programs, tmp_path):
    """What stream_load says of an origin behind bytes that are changed on their way."""
    hello = tmp_path / "hello"
    hello.write_bytes(b"a" + (64).to_bytes(2, "big") + b"C".ljust(64))
    held, port = reserved_port()
    with held, subprocess.Popen([programs["stream_origin"], str(port)]) as origin:
        eventually(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, what="the origin")

        def run(change, **options):
            with Taking(port, change) as server:
                words = [f"{name}={value}" for name, value in options.items()]
                if options["mode"] == "exchange":
                    words.append(f"hellos={hello}")
                command = [programs["stream_load"], f"port={server.server_address[1]}", *words]
                done = subprocess.run(command, input="\n", stdout=subprocess.PIPE, text=True, timeout=60, check=True)
            return json.loads(done.stdout.removeprefix("ready\n"))

        yield run
        origin.terminate()


def as_they_are(_, answer):
    return answer


def one_bit(place, answer):
    """Of the byte at 100,000, or of the first of a short answer."""
    at = 100_000 - place if place <= 100_000 < place + len(answer) else 0
    if place and not at:
        return answer
    return answer[:at] + bytes([answer[at] ^ 1]) + answer[at + 1 :]


def one_less(place, answer):
    return answer[1:] if place == 0 else answer


def nothing(place, answer):
    return None


@pytest.mark.parametrize(
    ("change", "mode", "is_right"),
    [
        *((as_they_are, mode, True) for mode in ("bulk", "ping", "exchange")),
        *((one_bit, mode, False) for mode in ("bulk", "ping", "exchange")),
        *((nothing, mode, False) for mode in ("bulk", "ping", "exchange")),
        (one_less, "exchange", False),
    ],
)
def test_the_driver_of_streams_counts_bytes_that_are_wrong(ask, change, mode, is_right):
    """On each of two connections one answer is looked at before, and six more are asked for."""
    said = ask(change, mode=mode, connections=2, requests=6, bytes=300_000, verify=1)
    assert said["requests"] == 6
    assert (said["broken"] == 0) == is_right
    if is_right and mode != "exchange":
        assert said["bytes"] == 6 * (300_000 if mode == "bulk" else 64)


def test_the_bare_forwarder_passes_on_every_byte_and_the_end_of_each_direction(programs):
    """More than fits between the two ends, while nobody reads; then all of it comes, and after half of the stream has
    ended the other half goes on."""
    data = Random(2).randbytes(6 << 20)
    with socket.create_server(("127.0.0.1", 0)) as origin:
        held, port = reserved_port()
        with held, subprocess.Popen([programs["bare_tcp"], str(port), str(origin.getsockname()[1])]) as forwarder:
            client = eventually(lambda: try_to_connect(port), what="the forwarder")
            server = origin.accept()[0]
            sender = threading.Thread(target=lambda: (client.sendall(data), client.shutdown(socket.SHUT_WR)))
            sender.start()
            assert read_all(server) == data
            server.sendall(data[::-1])
            server.shutdown(socket.SHUT_WR)
            assert read_all(client) == data[::-1]
            sender.join()
            client.close()
            server.close()
            forwarder.terminate()


def try_to_connect(port):
    try:
        return socket.create_connection(("127.0.0.1", port), timeout=60)
    except OSError:
        return None


def read_all(connection):
    connection.settimeout(60)
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


HISTOGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "histogram.h"
int main(void) {
    static struct histogram all;
    char line[64];
    while (fgets(line, sizeof line, stdin))
        histogram_add(&all, strtoull(line, NULL, 10));
    for (int share = 0; share <= 1000; share++)
        printf("%.17g\\n", histogram_at(&all, share / 1000.0));
    return 0;
}
"""


def test_percentiles_are_told_within_a_hundredth(tmp_path):
    """Every thousandth of durations from 1 ns to the largest there is, beside the sorted ones."""
    source = tmp_path / "histogram.c"
    source.write_text(HISTOGRAM)
    program = tmp_path / "histogram"
    subprocess.run(["cc", "-I", ROOT / "bench" / "native", "-o", program, source], check=True)
    random = Random(1)
    values = sorted([*range(300), 2**64 - 1, *(int(2 ** random.uniform(0, 64)) for _ in range(20000))])
    lines = "".join(f"{value}\n" for value in values)
    done = subprocess.run([program], input=lines, stdout=subprocess.PIPE, text=True, check=True)
    told = [float(line) for line in done.stdout.splitlines()]
    assert told[0] == 0
    for share, value in enumerate(told[1:], 1):
        exact = values[(share * len(values) + 999) // 1000 - 1]
        assert abs(value - exact) <= exact / 100, share


@needs_peers
def test_readers_and_writers_are_measured_beside_gos(tmp_path):
    """A few operations each; what is judged is what is counted and not timed."""
    output = tmp_path / "streams.json"
    command = [sys.executable, ROOT / "bench" / "streams.py", "--quick", "--case", "iface", "--output", output]
    subprocess.run(command, check=True, timeout=280)
    results = {result["case"]: result["values"] for result in json.loads(output.read_text())["results"]}
    for case in ("iface_call", "stream_copy_dispatch", "body_plain", "body_hook"):
        assert results[f"{case}_allocations"]["sluice"]["max"] == 0, case
    for who in ("sluice", "go"):
        assert results["body_readall_allocations"][who]["min"] > 10
        assert who in results["hook_added_us"]
        assert who in results["readall_added_us"]


def test_the_runtimes_bench_runs_every_case_on_both_sides(tmp_path):
    """A few operations of each, so that a case that hangs or breaks is found here; no figure is judged."""
    output = tmp_path / "rt.json"
    command = [sys.executable, ROOT / "bench" / "rt.py", "--quick", "--output", output]
    done = subprocess.run(command, check=True, timeout=280, stdout=subprocess.PIPE, text=True)

    written = json.loads(output.read_text())
    assert written["bench"] == "rt"
    assert set(RT_CASES) <= set(written["cases"])
    for name, case in written["cases"].items():
        assert 0 < case["aim"] <= 1, name
        assert name in done.stdout
        for who in ("sluice", "go"):
            assert case[who] >= 0, name  # so few operations may take no CPU time that is seen
            assert 0 < case["wall"][who]["min"] <= case["wall"][who]["max"], name
        assert ("sluice_pinned" in case) == (name in RT_PINNED), name
    for who in ("sluice", "go"):
        assert written["scaling"][who]["speedup"] > 0
        assert written["parked"]["1000"][who]["rss_bytes"]["median"] > 0
        for case in written["blocked"].values():
            assert 0 < case[who]["p50"]["median"] <= case[who]["max"]["median"]
    chart = ElementTree.parse(output.with_suffix(".svg")).getroot()
    labels = {text.text for text in chart.iter("{http://www.w3.org/2000/svg}text")}
    assert set(written["cases"]) <= labels


def test_the_recyclers_bench_runs_the_same_program_with_and_without_it(tmp_path):
    """Two minutes of its clock, so that idle memory ages; only what must hold of any memory is judged."""
    output = tmp_path / "recycler.json"
    command = [sys.executable, ROOT / "bench" / "recycler.py", "--seconds", "120", "--output", output]
    subprocess.run(command, check=True, timeout=280)

    programs = json.loads(output.read_text())["programs"]
    assert set(programs) == {"go", "malloc", "channel", "recycler"}
    for name, found in programs.items():
        assert found["sys_per_byte_end"] >= 1, name
        rows = (tmp_path / f"recycler-{name}.csv").read_text().splitlines()
        assert rows[0] == "HeapSys,bytes,HeapAlloc,HeapIdle,HeapReleased,makes,frees,rss,grows,shrinks"
        assert len(rows) == 121
    for name in ("go", "malloc"):
        assert programs[name]["makes"] == 120
    for name in ("channel", "recycler"):
        assert programs[name]["makes"] < 60  # most were there already
    lines = ElementTree.parse(output.with_suffix(".svg")).getroot().iter("{http://www.w3.org/2000/svg}polyline")
    assert len(list(lines)) == 6 * len(programs)


@needs_peers
def test_the_memory_bench_runs_every_case(tmp_path):
    """A few operations and two turns of a second of requests; no figure is judged."""
    output = tmp_path / "memory.json"
    command = [sys.executable, ROOT / "bench" / "memory.py", "--quick", "--output", output]
    subprocess.run(command, check=True, timeout=280)

    cases = json.loads(output.read_text())["cases"]
    for name in ("malloc_pair", "malloc_mixed"):
        assert {"sluice", "sluice_off", "glibc"} <= set(cases[name]["values"])
    assert cases["malloc_pair"]["more_ns"]["min"] <= cases["malloc_pair"]["more_ns"]["max"]
    assert set(MEMORY_CASES) <= set(cases)
    overhead = cases["sampling_overhead"]
    assert set(overhead["values"]) == {"sluice", "off"}
    assert overhead["ratio"]["median"] > 0


@pytest.mark.skipif(not shutil.which("valgrind"), reason="valgrind counts")
def test_the_routes_bench_finds_every_route_in_every_table(tmp_path):
    output = tmp_path / "routes.json"
    command = [sys.executable, ROOT / "bench" / "routes.py", "--quick", "--lookups", "20", "--output", output]
    done = subprocess.run(command, check=True, timeout=280, stdout=subprocess.PIPE, text=True)
    written = json.loads(output.read_text())["instructions"]
    assert list(written) == ["1", "10"]
    for mixes in written.values():
        for mix, case in mixes.items():
            assert mix in done.stdout
            assert case["index"] > 0
            assert case["walk"] > 0
    assert written["10"]["regex"]["index"] < written["10"]["regex"]["walk"]
