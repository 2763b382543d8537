"""Streams of bytes through Sluice, nginx and HAProxy, beside a bare splice forwarder; TLS ended by them; and what
Sluice's own readers and its JSON scanner cost beside others.

    ./dev bench streams [--case CASE ...] [--only SERVER ...] [--also NAME=BINARY ...] [--rounds N] [--quick]

As bench/http1.py does it: all servers of a case stay up with one worker each, rounds go from one to the next,
and the CPU time is that of the proxy's processes, divided by what was done in the same interval. `bare`
moves bytes by splice and does nothing else: what a TCP proxy cannot go below (bench/native/bare_tcp.c).

  passthrough  16 connections on which 4 MiB come again and again
  ping         64 connections, on each a message of 64 bytes to and fro
  connections  connect, 64 bytes there and one back, close
  sni          the same with a TLS ClientHello that is routed by the name in it to one of 16 backends
  handshakes   TLS 1.3 and 1.2, full with keys of ECDSA P-256 and RSA 2048, and resumed
  tls_bulk     1 MiB answers over TLS 1.3, three cipher suites, 16 connections
  https        128 B answers over TLS 1.3, 64 connections
  idle         memory of each of 10,000 connections that carried a message and stay open
  iface        readers and writers beside Go's: a call, a copy of nothing, an observer of 1 MiB bodies
  calls        system calls per round trip, connection, handshake, request and MB
  json         a value of a JSON body: bench/_streams_json.py
  copies       bytes that Sluice copies and splices for each that it passes on
"""

import subprocess
import sys

import _report
import _streams_calls
import _streams_copies
import _streams_iface
import _streams_json
import _streams_tcp
import _streams_tls
from _report import BEST, Aim
from _servers import program_argument
from _streams_servers import Lineup
from _options import Options, need_tools
from _turns import end_progress

ROUNDS, SECONDS, QUICK_S = 10, 0.7, 0.1
TOOLS = ("nginx", "haproxy", "openssl", "cc")
# What measures a case, into rows of the report.
MEASURES = {
    "passthrough": _streams_tcp.passthrough,
    "ping": _streams_tcp.ping,
    "connections": _streams_tcp.connections,
    "sni": _streams_tcp.sni,
    "handshakes": _streams_tls.handshakes,
    "tls_bulk": _streams_tls.bulk,
    "https": _streams_tls.small,
    "idle": _streams_tcp.idle,
    "iface": _streams_iface.run,
    "json": _streams_json.run,
}
AIMS = [
    Aim("tcp_passthrough_cpu_ms_per_gb", "bare", 1.05),
    Aim("tcp_passthrough_cpu_ms_per_gb", "haproxy", 1.0),
    Aim("tcp_passthrough_cpu_ms_per_gb", "nginx", 1.0),
    Aim("tcp_ping_cpu_us", "bare", None),
    Aim("tcp_ping_cpu_us", BEST, 1.0),
    Aim("tcp_connection_cpu_us", "bare", None),
    Aim("tcp_connection_cpu_us", BEST, 1.0),
    Aim("sni_connection_cpu_us", "haproxy", 1.0),
    *(Aim(f"{name}_cpu_us", BEST, 1.0) for name, _, _ in _streams_tls.HANDSHAKES),
    *(Aim(f"tls_{name}_cpu_ms_per_gb", BEST, 1.0) for name, _ in _streams_tls.CIPHERS),
    Aim("https_small_cpu_us", BEST, 1.0),
    Aim("tcp_idle_conn_bytes", "haproxy", 1.0),
    Aim("iface_call_ns", "go", 1.0),
    Aim("stream_copy_dispatch_ns", "go", 1.0),
    Aim("body_hook_ns", "no hook", 1.01),
    *(Aim(f"json_{place}_gb_per_s", "simdjson", 0.7) for place in ("early", "late")),
    *(Aim(f"json_records_{place}_gb_per_s", "simdjson", None) for place in ("early", "late")),
]
DRAWN = {
    "tcp_passthrough_cpu_ms_per_gb": "CPU of the proxy per GB of TCP",
    "tcp_ping_cpu_us": "CPU per round trip of 64 bytes",
    "tcp_connection_cpu_us": "CPU per connection, 64 bytes and one",
    "sni_connection_cpu_us": "CPU per connection routed by its SNI",
    "tls13_ecdsa_cpu_us": "CPU per handshake, TLS 1.3, ECDSA P-256",
    "tls13_resumed_cpu_us": "CPU per handshake, TLS 1.3, resumed",
    "tls12_ecdsa_cpu_us": "CPU per handshake, TLS 1.2, ECDSA P-256",
    "tls12_resumed_cpu_us": "CPU per handshake, TLS 1.2, resumed",
    "tls_aes128_cpu_ms_per_gb": "CPU per GB of HTTPS, AES-128-GCM",
    "https_small_cpu_us": "CPU per HTTPS request of 128 B",
    "tcp_idle_conn_bytes": "memory of an idle TCP connection",
}


def parse():
    cases = [*MEASURES, "calls", "copies"]
    notes = (f"; idle at most {_streams_tcp.IDLE_ROUNDS}", "")
    parser = Options("streams", __doc__, cases, ROUNDS, SECONDS, quick_s=QUICK_S, notes=notes)
    parser.add_argument("--only", nargs="*", metavar="SERVER", help="only these: sluice nginx haproxy bare")
    parser.add_argument(
        "--also", nargs="*", default=[], type=program_argument, metavar="NAME=BINARY", help="more Sluices"
    )
    return parser.parse()


def measure(lineup, options, report):
    """What could not be measured and why; the rest is in the report all the same."""
    failed = []
    for name in options.case:
        try:
            if name == "copies":
                report["copies"] = _streams_copies.table(lineup)
            elif name == "calls":
                report["results"] += _streams_calls.count(lineup, options, report)
            else:
                report["results"] += MEASURES[name](lineup, options)
        except (RuntimeError, OSError, subprocess.SubprocessError) as failure:
            failed.append(f"streams: {name}: {failure}")
    return failed


def main():
    options = parse()
    need_tools("streams", *TOOLS)
    lineup = Lineup(options)
    report = {"bench": "streams", "rounds": options.rounds, "seconds": options.seconds, "results": []}
    failed = measure(lineup, options, report)
    end_progress()
    report["ratios"] = _report.ratios(report["results"], lineup.ours, AIMS)
    if report["results"]:
        groups = [
            (("json_",), _streams_json.NAMES),
            (_streams_iface.PREFIXES, _streams_iface.NAMES),
            (("",), lineup.names),
        ]
        rest = report["results"]
        for prefixes, names in groups:
            rows = [row for row in rest if row["case"].startswith(prefixes)]
            rest = [row for row in rest if row not in rows]
            if rows:
                _report.print_results(rows, names)
        _report.print_ratios(report["ratios"])
    for what, calls in report.get("calls", {}).items():
        _report.print_table(f"calls: {what}", calls, least=0.005)
    if "copies" in report:
        _report.print_table("bytes per byte", report["copies"])
    chart = _report.draw("Streams through a proxy", DRAWN, report["results"], lineup.names, lineup.ours)
    _report.write(options.output, report, chart)
    if failed:
        sys.exit("\n".join(failed))


if __name__ == "__main__":
    main()
