#!/usr/bin/env python3
"""A Go filter written for Envoy, at work in Sluice: `./dev demo`.

It builds examples/go-filter, starts Sluice with demo.yaml, shows one answer as the origin gives it
and the same one through the filter, and goes on serving until Ctrl-C. With --once it checks what it
shows, exits 0 or 1 and leaves nothing running.
"""

import argparse
import contextlib
import ctypes
import difflib
import http.client
import os
import pathlib
import signal
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILTER = ROOT / "examples" / "go-filter"
SLUICE = pathlib.Path(os.environ.get("SLUICE_BIN", ROOT / "build" / "sluice"))
WORK = ROOT / "build" / "demo"  # demo.yaml names ./libdemo.so, so Sluice is started in here
PROXY_PORT, ORIGIN_PORT, ADMIN_PORT = 10000, 10001, 9901  # as in demo.yaml
READY_TIMEOUT_S = 30
STOP_TIMEOUT_S = 30


class DemoError(Exception):
    """Something that the reader can act on; shown without a traceback."""


def build_filter():
    WORK.mkdir(parents=True, exist_ok=True)
    print("building examples/go-filter (the first time takes a minute) ...", flush=True)
    command = ["go", "build", "-buildmode=c-shared", "-o", str(WORK / "libdemo.so"), "."]
    if subprocess.run(command, cwd=FILTER, check=False).returncode != 0:
        raise DemoError("the Go filter does not build")


def die_with_parent():
    """Linux ends Sluice when this program dies, however it dies."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


@contextlib.contextmanager
def sluice(config, host):
    """Runs Sluice until the block ends; it must then stop by itself on SIGTERM."""
    if answers(host, ADMIN_PORT):
        raise DemoError(f"something already listens on {host}:{ADMIN_PORT}; is a demo running?")
    log_path = WORK / f"sluice-{host}.log"
    with open(log_path, "wb") as log:
        process = subprocess.Popen(
            [SLUICE, "-c", config, "--drain-time-s", "5"],
            cwd=WORK,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for us; Sluice gets SIGTERM
            preexec_fn=die_with_parent,
        )
    try:
        wait_until_ready(process, host, log_path)
        yield process
        process.send_signal(signal.SIGTERM)
        try:
            status = process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise DemoError(f"Sluice did not stop within {STOP_TIMEOUT_S} s of SIGTERM") from None
        if status != 0:
            raise DemoError(f"Sluice ended with status {status}:\n{log_path.read_text()}")
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()


def answers(host, port):
    try:
        get(host, port, "/ready")
        return True
    except (OSError, http.client.HTTPException):
        return False


def wait_until_ready(process, host, log_path):
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise DemoError(f"Sluice did not start:\n{log_path.read_text()}")
        try:
            if get(host, ADMIN_PORT, "/ready").status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        time.sleep(0.02)  # between two looks at a condition that has a deadline
    raise DemoError(f"Sluice was not ready within {READY_TIMEOUT_S} s:\n{log_path.read_text()}")


class Answer:
    def __init__(self, response):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.body = response.read().decode("utf-8", "replace")

    def lines(self):
        names = (f"{name}: {value}" for name, value in sorted(self.headers.items()))
        return [f"HTTP/1.1 {self.status}", *names, "", *self.body.splitlines()]


def get(host, port, path):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("GET", path)
        return Answer(connection.getresponse())
    finally:
        connection.close()


def show(title, lines):
    print(f"\n{title}")
    for line in lines:
        print(f"    {line}")


def highlighted(before, after):
    """The lines of after, with a mark before those that before does not have."""
    bold, plain = ("\033[1;32m", "\033[0m") if sys.stdout.isatty() else ("", "")
    marked = []
    for line in difflib.ndiff(before.lines(), after.lines()):
        if line.startswith("+ "):
            marked.append(f"{bold}+ {line[2:]}{plain}")
        elif line.startswith("  "):
            marked.append(line)
    return marked


def show_filter_at_work(host):
    """Prints the three requests; returns what is not as the filter should have made it."""
    before = get(host, ORIGIN_PORT, "/hello")
    after = get(host, PROXY_PORT, "/hello")
    closed = get(host, PROXY_PORT, "/private/x")
    show(f"GET http://{host}:{ORIGIN_PORT}/hello   the origin by itself", before.lines())
    show(
        f"GET http://{host}:{PROXY_PORT}/hello   through the Go filter; + marks what it changed",
        highlighted(before, after),
    )
    show(
        f"GET http://{host}:{PROXY_PORT}/private/x   answered by the filter, the origin not asked",
        closed.lines(),
    )
    print(flush=True)
    expectations = [
        ("the origin answers 200", before.status == 200),
        ("the origin alone sees no x-demo-request",
         not before.headers.get("x-origin-saw-demo-request")),
        ("the proxied answer is 200", after.status == 200),
        ("the filter's request header reached the origin",
         after.headers.get("x-origin-saw-demo-request") == "hello from a Go filter"),
        ("the filter marked the response", after.headers.get("x-demo-response") == "GET /hello"),
        ("the filter rewrote the body", before.body and after.body == before.body.upper()),
        ("the filter answered 403 by itself", closed.status == 403),
        ("its own reply passed its response side",
         closed.headers.get("x-demo-response") == "GET /private/x"),
    ]  # fmt: skip
    return [what for what, holds in expectations if not holds]


def check_once():
    # On a loopback address of this process's own, the fixed ports collide with no other demo.
    pid = os.getpid()
    host = f"127.{pid >> 16 & 0x3F | 0x40}.{pid >> 8 & 0xFF}.{pid & 0xFF or 1}"
    config = WORK / f"once-{pid}.yaml"
    config.write_text((FILTER / "demo.yaml").read_text().replace("127.0.0.1", host))
    try:
        with sluice(config, host):
            missing = show_filter_at_work(host)
    finally:
        config.unlink()
    if missing:
        raise DemoError("not so: " + "; ".join(missing))
    print("demo: ok")


def serve():
    host = "127.0.0.1"
    with sluice(FILTER / "demo.yaml", host):
        missing = show_filter_at_work(host)
        if missing:
            raise DemoError("not so: " + "; ".join(missing))
        print("Serving until Ctrl-C. Try:")
        print(f"    curl -i http://{host}:{PROXY_PORT}/hello       through the filter")
        print(f"    curl -i http://{host}:{ORIGIN_PORT}/hello       the origin by itself")
        print(f"    curl -i http://{host}:{PROXY_PORT}/private/x   closed by the filter")
        print(f"    http://{host}:{ADMIN_PORT}/                    the admin pages")
        print(f"The log is {(WORK / f'sluice-{host}.log').relative_to(ROOT)}.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
        print("\nstopping", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--once", action="store_true", help="check by itself, then stop")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stop as by Ctrl-C, cleaning up
    try:
        build_filter()
        if arguments.once:
            check_once()
        else:
            serve()
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
