"""What tests of Go filters share: scripts for the plugin `basic`, configuration of Go filters, a
client of the plugin `report`. README.md beside this file describes the plugins.
"""

import http.client
import json
import os
import time
import urllib.parse

SDKS = ("1.31", "1.32", "1.33")
PHASES = (
    "logstart",
    "dh",
    "dd",
    "dt",
    "eh",
    "ed",
    "et",
    "logperiodic",
    "complete",
    "log",
    "destroy",
)
TYPE = "type.googleapis.com/"


# ---- scripts ----------------------------------------------------------------


def script(*actions):
    """Actions as text. An action is text as in README.md, or a tuple (name, argument, ...), whose
    arguments may hold anything."""

    def one(action):
        if isinstance(action, str):
            return action
        name, *arguments = action
        return ":".join([name, *(urllib.parse.quote(str(a), safe="") for a in arguments)])

    return ",".join(one(a) for a in actions)


def path_of(base="/", *, test_id="", is_async=False, name="", **phases):
    """The path of a request that carries scripts, one action or a list of them for each phase:
    path_of("/x", dh="set:a:1", eh=["gc", ("reply", 403, "")]).

    With a name the scripts are for the filter of that name in the chain."""
    prefix = f"{name}." if name else ""
    query = {"id": test_id} if test_id else {}
    if is_async:
        query[f"{prefix}async"] = "1"
    for phase, actions in phases.items():
        assert phase in PHASES, phase
        if isinstance(actions, str):
            actions = [actions]
        query[f"{prefix}{phase}"] = script(*actions)
    if not query:
        return base
    return base + ("&" if "?" in base else "?") + urllib.parse.urlencode(query)


# ---- configuration --------------------------------------------------------------


# How long who needs a seat waits: longer than a thread that has one may be without a processor, or than the next
# process of an isolated library takes to start on a busy machine. Tests of the wait say something else.
PATIENT = {"seat_wait_timeout": "60s"}


def typed_struct(value):
    return {"@type": TYPE + "xds.type.v3.TypedStruct", "value": value}


def isolation():
    """Where the tests are to have their libraries, unless they say so themselves."""
    wanted = os.environ.get("SLUICE_TEST_ISOLATION")
    return {"isolation": wanted} if wanted else {}


def go_filter(library, plugin, config=None, *, library_id=None, name="envoy.filters.http.golang", **more):
    """An entry of http_filters. config: an Any as a dict, or None for none; more: fields of ours."""
    typed = {
        **isolation(),
        **PATIENT,
        **more,
        "@type": TYPE + "envoy.extensions.filters.http.golang.v3alpha.Config",
        "library_id": library_id or str(library).rsplit("/", 1)[-1],
        "library_path": str(library),
        "plugin_name": plugin,
    }
    if config is not None:
        typed["plugin_config"] = config
    return {"name": name, "typed_config": typed}


def per_route(**plugins):
    """A value for typed_per_filter_config: per_route(merge=ANY) configures the plugin `merge`."""
    return {
        "@type": TYPE + "envoy.extensions.filters.http.golang.v3alpha.ConfigsPerRoute",
        "plugins_config": {plugin: {"config": config} for plugin, config in plugins.items()},
    }


# ---- the plugin `report` ----------------------------------------------------


class Reporter:
    """Asks the report listener of one library."""

    def __init__(self, port, host="127.0.0.1"):
        self.host, self.port = host, port

    def get(self, *, timeout_s=30, **query):
        """The report as a dict: get(id="7", gc=1, signal="go on", forget="7")."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=timeout_s)
        try:
            connection.request("GET", "/?" + urllib.parse.urlencode(query))
            reply = connection.getresponse()
            text = reply.read()
        finally:
            connection.close()
        assert reply.status == 200, (reply.status, text)
        return json.loads(text)

    def events(self, test_id):
        return self.get(id=test_id)["events"]

    def signal(self, name):
        self.get(signal=name)

    def wait_for(self, condition, what, *, timeout_s=20, **query):
        """Asks until condition(report) holds, and returns that report."""
        deadline = time.monotonic() + timeout_s
        pause_s = 0.002
        while True:
            report = self.get(**query)
            if condition(report):
                return report
            assert time.monotonic() < deadline, f"never: {what}; last report: {report}"
            time.sleep(pause_s)  # between two looks, not instead of one
            pause_s = min(pause_s * 2, 0.1)

    def wait_for_event(self, test_id, line, **more):
        """Waits until a recorded line contains the text; returns all lines."""
        report = self.wait_for(lambda r: any(line in e for e in r["events"]), f"event {line!r}", id=test_id, **more)
        return report["events"]

    def wait_until_collected(self, kept=0, **more):
        """Waits until the Go side holds no filter any more, but for `kept` ones."""
        return self.wait_for(
            lambda r: r["created"] - r["collected"] == kept and r["goroutines"] == 0,
            f"all but {kept} filters collected",
            gc=1,
            **more,
        )
