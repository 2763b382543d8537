"""What a request costs through a process of its own that does not depend on the machine: messages, switches of threads,
and how often the host has to ring the proxy. Counted by perf, with probes at our own functions, which root may set and
a build has that is not optimised at link time."""

import contextlib
import os
import signal
import subprocess

from _gofilter_servers import CASES
from _load import case, http_asker
from _servers import SLUICE

COUNTED = ("header_get_set", "body_read_4k")
GROUP = "sluice_isolation"
TO_HOST, BACK, RINGS = "remote_port_put", "remote_lane_hear", "remote_ring_bell"
SWITCHES = "sched:sched_switch"
REQUESTS, REQUESTS_QUICK = 20_000, 500


def _event(function):
    return f"{GROUP}:{function}"


def _delete():
    subprocess.run(["perf", "probe", "-q", "--del", f"{GROUP}:*"], check=False, capture_output=True)


@contextlib.contextmanager
def _probes():
    """Yields why there are none; "" when there are."""
    _delete()
    added = [word for name in (TO_HOST, BACK, RINGS) for word in ("--add", f"{GROUP}:{name}={name}")]
    try:
        done = subprocess.run(["perf", "probe", "-x", SLUICE, *added], capture_output=True, text=True, check=False)
        yield done.stderr.strip() if done.returncode else ""
    except FileNotFoundError as missing:
        yield str(missing)
    finally:
        with contextlib.suppress(FileNotFoundError):
            _delete()


class _Counter:
    """perf stat of the threads of one process, between two moments."""

    def __init__(self, pid, events):
        self.told, tells = os.pipe()
        hears, self.says = os.pipe()
        words = ["-D", "-1", "--control", f"fd:{hears},{tells}", "-x", ",", "-e", ",".join(events), "-p", str(pid)]
        self.process = subprocess.Popen(
            ["perf", "stat", *words], stderr=subprocess.PIPE, text=True, pass_fds=(hears, tells)
        )
        os.close(hears)
        os.close(tells)

    def _say(self, word):
        os.write(self.says, word.encode() + b"\n")
        if not os.read(self.told, 16):
            raise RuntimeError(f"perf stat: {self.process.communicate()[1].strip()}")

    def __enter__(self):
        self._say("enable")
        self.counts = {}
        return self

    def __exit__(self, *_):
        self._say("disable")
        self.process.send_signal(signal.SIGINT)
        for line in self.process.communicate(timeout=30)[1].splitlines():
            fields = line.split(",")
            if len(fields) > 2:
                self.counts[fields[2]] = int(fields[0])
        os.close(self.told)
        os.close(self.says)


def _per_request(lineup, name, host, **how):
    each, server = CASES[name], lineup.servers["isolated"][name]
    with http_asker(lineup.farm, server, path=each.path, post=each.post, **how) as asker:
        with (
            _Counter(server.pid, [SWITCHES, _event(TO_HOST), _event(BACK)]) as proxy,
            _Counter(host(server.pid), [SWITCHES, _event(RINGS)]) as other,
        ):
            requests = asker.go()["requests"]
    return {
        "messages_to_host": proxy.counts[_event(TO_HOST)] / requests,
        "messages_back": proxy.counts[_event(BACK)] / requests,
        "switches_proxy": proxy.counts[SWITCHES] / requests,
        "switches_host": other.counts[SWITCHES] / requests,
        "host_rings": other.counts[_event(RINGS)] / requests,
    }


def counts(lineup, options, host, low_rate):
    """Results. host: of a proxy: the process that serves it."""
    count = REQUESTS_QUICK if options.quick else REQUESTS
    loads = {"": {"requests": count}, f"_{low_rate}_per_s": {"rate": low_rate, "ms": round(options.seconds * 10_000)}}
    with _probes() as why:
        if why:
            print(f"counts: left out, for perf sets no probes: {why}")
            return []
        rows = [
            (f"{what}_{name}{load}", value)
            for name in COUNTED
            for load, how in loads.items()
            for what, value in _per_request(lineup, name, host, **how).items()
        ]
    return [case(what, "per request", True, {"isolated": [value]}, float) for what, value in rows]
