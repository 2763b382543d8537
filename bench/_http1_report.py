"""What http1 found: a table, the ratios that matter with their aims, and a chart."""

import dataclasses

import _chart
from _turns import summary

PEERS = ("nginx", "haproxy", "envoy")
BEST = "best peer"


@dataclasses.dataclass
class Aim:
    """Sluice's figure over that of another; at most the limit where lower is better, else at least."""

    case: str
    to: str
    limit: float


AIMS = (
    Aim("h1_small_cpu_us", "bare", 1.15),
    Aim("h1_small_cpu_us", BEST, 0.85),
    Aim("h1_small_rps", BEST, 1.0),
    Aim("h1_small512_cpu_us", "bare", 1.15),
    Aim("h1_small512_cpu_us", BEST, 0.85),
    Aim("h1_small512_rps", BEST, 1.0),
    Aim("h1_1mb_cpu_ms_per_gb", BEST, 0.9),
    Aim("h1_idle_conn_bytes", BEST, 0.5),
)
# Also told: the same of the others, without an aim.
COMPARED = ("two_cpu_us", "two_rps", "two512_cpu_us", "two512_rps", "p50_us", "p99_us", "p999_us", "70_cpu_us")


def _best_peer(result):
    peers = [who for who in PEERS if who in result["values"]]
    if not peers:
        return None
    choose = min if result["lower_is_better"] else max
    return choose(peers, key=lambda who: result["values"][who]["median"])


def _ratio(result, who, to, limit):
    """Round by round, so that what the machine did meanwhile is in both; the peer is one for all rounds."""
    other = _best_peer(result) if to == BEST else to
    if not other or other not in result["rounds"] or who not in result["rounds"]:
        return None
    pairs = zip(result["rounds"][who], result["rounds"][other], strict=True)
    ratio = summary([ours / theirs if theirs else 0 for ours, theirs in pairs], 3)
    found = {"case": result["case"], "who": who, "to": to, "other": other, "ratio": ratio, "limit": limit}
    if limit is not None:
        median = ratio["median"]
        found["met"] = median <= limit if result["lower_is_better"] else median >= limit
    return found


def ratios(results, ours):
    """Of every Sluice in the run, those of `ours`."""
    by_case = {result["case"]: result for result in results}
    aims = [*AIMS, *(Aim(f"h1_{name}", to, None) for name in COMPARED for to in ("bare", BEST))]
    found = [_ratio(by_case[aim.case], who, aim.to, aim.limit) for aim in aims if aim.case in by_case for who in ours]
    return [ratio for ratio in found if ratio]


# ---- on the terminal ----------------------------------------------------------------------------


def _cell(value):
    if not value:
        return "-"
    median, low, high = (_chart.plain(value[name]) for name in ("median", "min", "max"))
    return median if low == high else f"{median} ({low} .. {high})"


def print_results(results, order):
    width = max(len(result["case"]) for result in results) + 2
    print(f"\n{'median (min .. max)':{width}}" + "".join(f"{who:>28}" for who in order))
    for result in results:
        cells = [_cell(result["values"].get(who)) for who in order]
        print(f"{result['case']:{width}}" + "".join(f"{cell:>28}" for cell in cells))


def print_ratios(found):
    if found:
        print(f"\n{'ratio, round by round':24}{'of':>12}{'to':>22}{'median (min .. max)':>28}{'aim':>8}")
    for each in found:
        to = each["to"] if each["to"] == each["other"] else f"{each['to']}: {each['other']}"
        aim = "" if each["limit"] is None else f"{each['limit']:8g}  {'met' if each['met'] else 'MISSED'}"
        print(f"{each['case']:24}{each['who']:>12}{to:>22}{_cell(each['ratio']):>28}{aim}")


def print_calls(per_server):
    names = sorted({name for calls in per_server.values() for name in calls})
    print(f"\n{'calls per request':24}" + "".join(f"{who:>12}" for who in per_server))
    for name in names:
        counts = [calls.get(name, 0) for calls in per_server.values()]
        if max(counts) >= 0.005:
            print(f"{name:24}" + "".join(f"{count:12.2f}" for count in counts))


# ---- drawn --------------------------------------------------------------------------------------

DRAWN = {
    "h1_small_cpu_us": "CPU of the proxy per request, 64 connections",
    "h1_small512_cpu_us": "CPU of the proxy per request, 512 connections",
    "h1_two_cpu_us": "CPU of the proxy per request, two workers, 64 connections",
    "h1_two512_cpu_us": "CPU of the proxy per request, two workers, 512 connections",
    "h1_p50_us": "latency, p50, at 70 % of what nginx can do",
    "h1_p99_us": "latency, p99",
    "h1_p999_us": "latency, p99.9",
    "h1_1mb_cpu_ms_per_gb": "CPU of the proxy per GB of 1 MiB bodies",
    "h1_idle_conn_bytes": "memory of an idle keep-alive connection",
}


def draw(results, lineup):
    panels = []
    for result in results:
        if result["case"] in DRAWN:
            bars = [
                (who, value["median"], value["min"], value["max"])
                for who in lineup.names
                if (value := result["values"].get(who))
            ]
            panels.append((f"{DRAWN[result['case']]}, {result['unit'].split('/')[0]}", bars))
    colours = {"bare": _chart.BARE, **{who: _chart.MET for who in lineup.ours}}
    return _chart.bars("HTTP/1.1 through a proxy", panels, colours)
