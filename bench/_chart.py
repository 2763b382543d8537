"""Charts as SVG text, written by hand: a few dozen rectangles need no library."""

import dataclasses
from xml.sax.saxutils import escape

ROW, BAR, LEFT, WIDTH, RIGHT, TOP = 24, 14, 150, 480, 200, 56
MET, MISSED, ABOVE, INK, GRID = "#2e8b57", "#d99a1c", "#c0392b", "#222222", "#cccccc"


@dataclasses.dataclass
class Bar:
    label: str
    value: float
    low: float
    high: float
    aim: float
    note: str


def _text(x, y, text, anchor="start", size=12, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" '
        f'font-weight="{weight}" fill="{INK}">{escape(text)}</text>'
    )


def _line(x1, y1, x2, y2, colour, width=1):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def ratios(title, bars):
    """Horizontal bars from 0; 1 is the other side's, a tick the aim, a thin line the spread."""
    most = max([1.2, *(min(bar.value * 1.1, 2.5) for bar in bars)])
    bottom = TOP + ROW * len(bars)

    def x(ratio):
        return LEFT + WIDTH * min(ratio, most) / most

    parts = [_text(LEFT, 22, title, size=15, weight="bold")]
    parts.append(_text(LEFT, 40, "shorter is better; black tick: the aim; thin line: lowest to highest round"))
    for tenth in range(0, int(most * 10) + 1, 2):
        colour, width = (INK, 1.5) if tenth == 10 else (GRID, 1)
        parts.append(_line(x(tenth / 10), TOP, x(tenth / 10), bottom, colour, width))
        parts.append(_text(x(tenth / 10), bottom + 16, f"{tenth / 10:g}", "middle", 11))
    for number, bar in enumerate(bars):
        y = TOP + ROW * number + (ROW - BAR) / 2
        colour = MET if bar.value <= bar.aim else MISSED if bar.value <= 1 else ABOVE
        parts.append(_text(LEFT - 8, y + BAR - 3, bar.label, "end"))
        parts.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{x(bar.value) - LEFT:.1f}" height="{BAR}" fill="{colour}"/>')
        parts.append(_line(x(bar.low), y + BAR / 2, x(bar.high), y + BAR / 2, INK))
        parts.append(_line(x(bar.aim), y - 3, x(bar.aim), y + BAR + 3, INK, 2))
        parts.append(_text(LEFT + WIDTH + 10, y + BAR - 3, f"{bar.value:.2f}  ({bar.note})"))
    width, height = LEFT + WIDTH + RIGHT, bottom + 30
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>\n"])


BARE = "#9aa0a6"


def plain(value):
    """Four digits, or as many as stand before the point."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def bars(title, charts, colours):
    """Horizontal bars from 0 in units of their own, one panel below the other; charts: (title, [(label, value, low,
    high)]); colours: of some labels. A bar that is far longer than the median one is cut, so that the others can be
    told apart."""
    parts = [_text(LEFT, 22, title, size=15, weight="bold")]
    parts.append(_text(LEFT, 40, "shorter is better; thin line: lowest to highest round; cut where white"))
    top = TOP
    for name, rows in charts:
        middle = sorted(value for _, value, _, _ in rows)[len(rows) // 2]
        most = min(max(high for _, _, _, high in rows), 2.5 * middle) or 1

        def x(value, most=most):
            return LEFT + WIDTH * min(max(value, 0), most) / most

        parts.append(_text(LEFT, top + 12, name, weight="bold"))
        top += 20
        for label, value, low, high in rows:
            y = top + (ROW - BAR) / 2
            colour = colours.get(label, COLOURS[0])
            parts.append(_text(LEFT - 8, y + BAR - 3, label, "end"))
            parts.append(f'<rect x="{LEFT}" y="{y:.1f}" width="{x(value) - LEFT:.1f}" height="{BAR}" fill="{colour}"/>')
            parts.append(_line(x(low), y + BAR / 2, x(high), y + BAR / 2, INK))
            if value > most:
                parts.append(_line(x(most) - 14, y + BAR, x(most) - 8, y, "white", 3))
            parts.append(_text(LEFT + WIDTH + 10, y + BAR - 3, f"{plain(value)}  ({plain(low)}-{plain(high)})"))
            top += ROW
        top += 14
    width, height = LEFT + WIDTH + RIGHT, top
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{height}" fill="white"/>', *parts, "</svg>\n"])


COLOURS = ("#2c6fbb", "#c0392b", "#2e8b57", "#8e6bb0", "#7f8c8d")
SECOND = "#d99a1c"


def _curve(values, most, top, height, colour):
    step = WIDTH / max(len(values) - 1, 1)
    points = " ".join(f"{LEFT + at * step:.1f},{top + height * (1 - v / most):.1f}" for at, v in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def panels(title, charts):
    """Lines over their index, one panel below the other on the same scales; charts: (title, {name: values},
    (name, values) on the scale to the right)."""
    height, gap = 150, 46
    most = max(max(values) for _, lines, _ in charts for values in lines.values()) or 1
    most_right = max(max(values) for _, _, (_, values) in charts) or 1
    parts = [_text(LEFT, 22, title, size=15, weight="bold")]
    for place, (name, lines, (right_name, right)) in enumerate(charts):
        top = TOP + place * (height + gap)
        parts.append(_text(LEFT, top - 6, name))
        for part in range(5):
            y = top + height * (1 - part / 4)
            parts.append(_line(LEFT, y, LEFT + WIDTH, y, GRID))
            parts.append(_text(LEFT - 8, y + 4, f"{most * part / 4:.0f}", "end", 11))
            parts.append(_text(LEFT + WIDTH + 8, y + 4, f"{most_right * part / 4:.0f}", size=11))
        for number, (label, values, scale, colour) in enumerate(
            [(*line, most, colour) for line, colour in zip(lines.items(), COLOURS, strict=False)]
            + [(right_name, right, most_right, SECOND)]
        ):
            parts.append(_curve(values, scale, top, height, colour))
            key, y = LEFT + WIDTH + 50, top + 20 * number + 10
            parts.append(_line(key, y, key + 20, y, colour, 3))
            parts.append(_text(key + 26, y + 4, label))
    width, bottom = LEFT + WIDTH + RIGHT, TOP + (height + gap) * len(charts)
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{bottom}" '
        f'viewBox="0 0 {width} {bottom}" font-family="sans-serif">'
    )
    return "\n".join([head, f'<rect width="{width}" height="{bottom}" fill="white"/>', *parts, "</svg>\n"])


def size_of(svg):
    """Pixels of what ratios or panels made."""
    return tuple(int(svg.split(f'{name}="', 1)[1].split('"', 1)[0]) for name in ("width", "height"))
