"""What benchmarks of proxies found: a table, ratios round by round with their aims, and a chart."""

import dataclasses
import json
import os

import _chart
from _turns import summary

PEERS = ("nginx", "haproxy", "envoy")
BEST = "best peer"


@dataclasses.dataclass
class Aim:
    """Sluice's figure over that of another; at most the limit where lower is better, else at least. Without a limit
    it is only told."""

    case: str
    to: str
    limit: float


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


def ratios(results, ours, aims):
    """Of every Sluice in the run, those of `ours`."""
    by_case = {result["case"]: result for result in results}
    found = [_ratio(by_case[aim.case], who, aim.to, aim.limit) for aim in aims if aim.case in by_case for who in ours]
    return [ratio for ratio in found if ratio]


@dataclasses.dataclass
class Limit:
    """A figure that is to be at most so much."""

    case: str
    who: str
    limit: float


def limits(results, wanted):
    by_case = {result["case"]: result["values"] for result in results}
    found = []
    for each in wanted:
        value = by_case.get(each.case, {}).get(each.who)
        if value:
            found.append({**dataclasses.asdict(each), "value": value, "met": value["median"] <= each.limit})
    return found


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
    if not found:
        return
    width = max(24, *(len(each["case"]) + 1 for each in found))
    print(f"\n{'ratio, round by round':{width}}{'of':>12}{'to':>22}{'median (min .. max)':>28}{'aim':>8}")
    for each in found:
        to = each["to"] if each["to"] == each["other"] else f"{each['to']}: {each['other']}"
        aim = "" if each["limit"] is None else f"{each['limit']:8g}  {'met' if each['met'] else 'MISSED'}"
        print(f"{each['case']:{width}}{each['who']:>12}{to:>22}{_cell(each['ratio']):>28}{aim}")


def print_limits(found):
    if not found:
        return
    width = max(24, *(len(each["case"]) + 1 for each in found))
    print(f"\n{'at most':{width}}{'of':>15}{'median (min .. max)':>28}{'aim':>8}")
    for each in found:
        aim = f"{each['limit']:8g}  {'met' if each['met'] else 'MISSED'}"
        print(f"{each['case']:{width}}{each['who']:>15}{_cell(each['value']):>28}{aim}")


def print_table(title, columns, least=0.0):
    """columns: {name: {row: number}}. Rows of which no number comes to the least are left out."""
    rows = sorted({row for column in columns.values() for row in column})
    width = max(12, *(len(name) + 2 for name in columns))
    first = max(24, len(title) + 1)
    print(f"\n{title:{first}}" + "".join(f"{name:>{width}}" for name in columns))
    for row in rows:
        numbers = [column.get(row, 0) for column in columns.values()]
        if max(numbers) >= least:
            print(f"{row:{first}}" + "".join(f"{number:{width}.2f}" for number in numbers))


# ---- in files -----------------------------------------------------------------------------------


def write(path, report, chart=None):
    """The report as JSON at the path, and the chart, an SVG, beside it."""
    written = {path: json.dumps(report, indent=2) + "\n"}
    if chart:
        written[path.with_suffix(".svg")] = chart
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, text in written.items():
        file.write_text(text)
    print(f"\nwritten: {', '.join(os.path.relpath(file) for file in written)}")


# ---- drawn --------------------------------------------------------------------------------------


def draw(title, drawn, results, names, ours):
    """drawn: {case: what its panel is called}; names: who has a bar, where it has a figure."""
    panels = []
    for result in results:
        if result["case"] in drawn:
            bars = [
                (who, value["median"], value["min"], value["max"])
                for who in names
                if (value := result["values"].get(who))
            ]
            panels.append((f"{drawn[result['case']]}, {result['unit'].split('/')[0]}", bars))
    colours = {"bare": _chart.BARE, **{who: _chart.MET for who in ours}}
    return _chart.bars(title, panels, colours)
