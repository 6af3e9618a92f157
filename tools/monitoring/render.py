"""Draws the dashboards from the data that check.py saved, at the places and with the colors that the JSON says.

    python tools/monitoring/check.py --seconds 300 --save data.json
    python tools/monitoring/render.py data.json docs/images/dashboards

The pictures are plots by matplotlib and not screenshots of Grafana. They show what each panel's query answers, where the
panel is, and how it fits a screen of 1920 pixels. A dashed line is where a screen of 1080 pixels ends.
"""

import datetime
import json
import re
import sys
from pathlib import Path

import files
import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.patches import FancyBboxPatch
from matplotlib.ticker import FuncFormatter, MaxNLocator

# Grafana's: pixels of a unit of height with its gap, of the screen, and of the bar with the variables.
UNIT, GAP, SCREEN, BAR = 38, 8, 1920, 56
DPI = 100
BACKGROUND, PANEL, EDGE, TEXT, FAINT = "#111217", "#181b1f", "#2c3235", "#d8d9da", "#8e9297"
PALETTE = ["#73bf69", "#f2cc0c", "#5794f2", "#ff9830", "#b877d9", "#8ab8ff", "#fa6400", "#37872d", "#e0b400", "#1f60c4"]
COLORS = {"green": "#73bf69", "red": "#f2495c", "blue": "#5794f2", "orange": "#ff9830", "transparent": "#22252b"}


def scaled(value, base, units):
    """A number with the unit that leaves few digits before the point."""
    for unit in units[:-1]:
        if abs(value) < base:
            return f"{value:.3g} {unit}".strip()
        value /= base
    return f"{value:.3g} {units[-1]}"


def formatted(value, unit):
    """A value as Grafana writes it in a unit."""
    if unit == "percentunit":
        return f"{100 * value:.3g}%"
    if unit in ("bytes", "Bps"):
        return scaled(value, 1024, ["B", "KiB", "MiB", "GiB", "TiB"]) + ("/s" if unit == "Bps" else "")
    if unit == "hertz":
        return scaled(value, 1000, ["Hz", "kHz", "MHz", "GHz"])
    if unit in ("s", "dtdurations"):
        if abs(value) >= 60:
            return f"{value / 60:.3g} min"
        return f"{value:.3g} s" if abs(value) >= 1 or value == 0 else scaled(value * 1e6, 1000, ["µs", "ms"])
    suffix = {"watt": " W", "joule": " J", "celsius": " °C", "none": ""}.get(unit, unit.removeprefix("suffix:"))
    number = scaled(value, 1000, ["", "K", "Mil"]) if abs(value) >= 1000 else f"{value:.3g}"
    return number + suffix


def legend(form, labels):
    return re.sub(r"\{\{(\w+)\}\}", lambda found: labels.get(found[1], ""), form).strip() or labels.get("__name__", "")


def color_at(thresholds, value):
    chosen = thresholds["steps"][0]["color"]
    for step in thresholds["steps"][1:]:
        if value >= step["value"]:
            chosen = step["color"]
    return COLORS.get(chosen, chosen)


def lines(answers):
    """All series of a panel as (name, times, values)."""
    for answer in answers:
        for labels, points in answer["series"]:
            times = [datetime.datetime.fromtimestamp(float(t)) for t, _ in points]
            yield legend(answer["legend"], labels), times, [float(v) for _, v in points]


class Page:
    """A dashboard's picture. Places are in pixels from the left top corner."""

    def __init__(self, board, data):
        self.board, self.data = board, data
        units = max(p["gridPos"]["y"] + p["gridPos"]["h"] for p in board["panels"])
        self.height = BAR + units * UNIT + GAP
        self.figure = plt.figure(figsize=(SCREEN / DPI, self.height / DPI), dpi=DPI, facecolor=BACKGROUND)

    def axes(self, x, y, width, height):
        place = [x / SCREEN, 1 - (y + height) / self.height, width / SCREEN, height / self.height]
        axes = self.figure.add_axes(place, facecolor=PANEL)
        axes.tick_params(colors=FAINT, labelsize=8, length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes

    def words(self, x, y, text, size=10, color=TEXT, **more):
        self.figure.text(x / SCREEN, 1 - y / self.height, text, fontsize=size, color=color, **more)

    def draw(self):
        self.words(16, 34, self.board["title"], 14, weight="bold")
        choices = [variable for variable in self.board["templating"]["list"][1:]]
        self.words(420, 34, "     ".join(f"{variable['label']}  All" for variable in choices), 10, FAINT)
        self.words(SCREEN - 16, 34, "plots of the panels' data, not a screenshot of Grafana", 9, FAINT, ha="right")
        for panel in self.board["panels"]:
            self.panel(panel)
        cut = 1 - (BAR + 22 * UNIT - GAP / 2 + 2) / self.height
        self.figure.add_artist(plt.Line2D([0, 1], [cut, cut], color=FAINT, lw=0.8, ls=(0, (6, 6))))

    def panel(self, panel):
        place = panel["gridPos"]
        column = SCREEN / 24
        x, y = place["x"] * column + GAP / 2, BAR + place["y"] * UNIT
        width, height = place["w"] * column - GAP, place["h"] * UNIT - GAP
        corner = (x / SCREEN, 1 - (y + height) / self.height)
        box = FancyBboxPatch(
            corner, width / SCREEN, height / self.height, boxstyle="square,pad=0", fc=PANEL, ec=EDGE, lw=0.8,
            transform=self.figure.transFigure, zorder=-1,
        )  # fmt: skip
        self.figure.add_artist(box)
        self.words(x + 10, y + 20, panel["title"], 9.5, weight="bold")
        answers = self.data[str(panel["id"])]
        if not any(answer["series"] for answer in answers):
            empty = panel["fieldConfig"]["defaults"].get("noValue", "No data")
            self.words(x + width / 2, y + height / 2 + 8, empty, 12, FAINT, ha="center")
            return
        kind = panel["type"].replace("-", "_")
        getattr(self, kind)(panel, answers, x, y, width, height)

    def stat(self, panel, answers, x, y, width, height):
        _, times, values = next(lines(answers))
        fields = panel["fieldConfig"]["defaults"]
        color = color_at(fields["thresholds"], values[-1])
        unit = fields["unit"]
        text = f"{values[-1]:.{fields['decimals']}f}" if "decimals" in fields else formatted(values[-1], unit)
        self.words(x + width / 2, y + 78, text, 24, color, ha="center", weight="bold")
        if len(values) > 1:
            axes = self.axes(x + 1, y + height - 48, width - 2, 46)
            axes.fill_between(times, values, min(values), color=color, alpha=0.25, lw=0)
            axes.plot(times, values, color=color, lw=1)
            axes.set_axis_off()
            axes.margins(x=0)
            low, high = min(values), max(values)
            axes.set_ylim(low - 0.05 * (high - low) - 1e-9, high + 0.3 * (high - low) + 1e-9)

    def frame(self, x, y, width, height, rows, left=62, right=14):
        """The axes of a graph above `rows` rows of a legend."""
        axes = self.axes(x + left, y + 36, width - left - right, height - 36 - 28 - 16 * rows)
        axes.grid(color=EDGE, lw=0.6)
        axes.tick_params(axis="x", pad=8)
        axes.set_axisbelow(True)
        axes.margins(x=0)
        axes.xaxis.set_major_locator(matplotlib.dates.AutoDateLocator(minticks=3, maxticks=8))
        axes.xaxis.set_major_formatter(matplotlib.dates.DateFormatter("%H:%M:%S"))
        return axes

    def names(self, x, y, width, height, named):
        """The legend: names with their colors, in as many rows as they take."""
        rows, row, used = [], [], 0
        for name, color in named:
            size = 24 + 6.1 * len(name)
            if row and used + size > width - 20:
                rows.append(row)
                row, used = [], 0
            row.append((used, name, color))
            used += size
        rows.append(row)
        for number, row in enumerate(rows):
            below = y + height - 8 - 16 * (len(rows) - 1 - number)
            for start, name, color in row:
                self.words(x + 12 + start, below, "▬", 8, color)
                self.words(x + 26 + start, below, name, 8, FAINT)
        return len(rows)

    def count_rows(self, width, named):
        used, rows = 0, 1
        for name, _ in named:
            size = 24 + 6.1 * len(name)
            if used and used + size > width - 20:
                rows, used = rows + 1, 0
            used += size
        return rows

    def timeseries(self, panel, answers, x, y, width, height):
        fields = panel["fieldConfig"]["defaults"]
        overrides = panel["fieldConfig"]["overrides"]
        is_stacked = fields["custom"]["stacking"]["mode"] == "normal"

        def override(name):
            found = {}
            for rule in overrides:
                if re.fullmatch(rule["matcher"]["options"], name):
                    found |= {entry["id"]: entry["value"] for entry in rule["properties"]}
            return found

        drawn = []
        for name, times, values in lines(answers):
            special = override(name)
            color = special.get("color", {}).get("fixedColor")
            drawn.append((name, times, values, COLORS.get(color, color) or PALETTE[len(drawn) % len(PALETTE)], special))
        named = [(name, color) for name, _, _, color, _ in drawn]
        rows = self.names(x, y, width, height, named)
        needs_right = any(special.get("custom.axisPlacement") == "right" for *_, special in drawn)
        axes = self.frame(x, y, width, height, rows, right=58 if needs_right else 14)
        other = axes.twinx() if needs_right else None
        stacked = [entry for entry in drawn if is_stacked and "custom.lineStyle" not in entry[4]]
        if stacked:
            moments = sorted({time for _, times, *_ in stacked for time in times})
            grid = [[dict(zip(t, v, strict=True)).get(m, 0.0) for m in moments] for _, t, v, *_ in stacked]
            axes.stackplot(moments, grid, colors=[entry[3] for entry in stacked], alpha=0.65, lw=0.6)
        for _, times, values, color, special in drawn:
            if is_stacked and "custom.lineStyle" not in special:
                continue
            on = other if special.get("custom.axisPlacement") == "right" else axes
            style = (0, (6, 4)) if "custom.lineStyle" in special else "-"
            on.plot(times, values, color=color, lw=1.6, ls=style)
            if on is axes and style == "-" and len(drawn) <= 3:
                on.fill_between(times, values, 0, color=color, alpha=0.08, lw=0)
        for on, unit in [(axes, fields["unit"]), (other, next((s["unit"] for *_, s in drawn if "unit" in s), "none"))]:
            if on is None:
                continue
            on.set_ylim(bottom=0, top=fields.get("max") if on is axes else None)
            if not any(value for _, _, values, *_ in drawn for value in values):
                on.set_ylim(top=1)
            on.yaxis.set_major_locator(MaxNLocator(5))
            on.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: formatted(value, unit)))
            on.tick_params(colors=FAINT, labelsize=8, length=0)
            for spine in on.spines.values():
                spine.set_visible(False)

    def heatmap(self, panel, answers, x, y, width, height):
        buckets = {}
        for name, times, values in lines(answers):
            buckets[float(name.replace("+Inf", "inf"))] = dict(zip(times, values, strict=True))
        edges = sorted(buckets)
        moments = sorted({time for series in buckets.values() for time in series})
        rows, below = [], dict.fromkeys(moments, 0.0)
        for edge in edges:
            # A bucket holds all observations up to its edge; a cell is what the next smaller one lacks.
            rows.append([max(0.0, buckets[edge].get(m, 0.0) - below[m]) for m in moments])
            below = {m: buckets[edge].get(m, below[m]) for m in moments}
        axes = self.frame(x, y, width, height, 0)
        masked = [[value if value > 0 else float("nan") for value in row] for row in rows]
        axes.pcolormesh(moments, range(len(edges)), masked, cmap="turbo", shading="nearest")
        unit = panel["options"]["yAxis"]["unit"]
        axes.set_yticks(range(len(edges)))
        axes.set_yticklabels(["+Inf" if edge == float("inf") else formatted(edge, unit) for edge in edges])
        axes.grid(visible=False)

    def state_timeline(self, panel, answers, x, y, width, height):
        texts = panel["fieldConfig"]["defaults"]["mappings"][0]["options"]
        found = list(lines(answers))
        left = 210
        axes = self.frame(x, y, width, height, 1, left=left)
        for number, (_, times, values) in enumerate(reversed(found)):
            step = (times[1] - times[0]) if len(times) > 1 else datetime.timedelta(seconds=15)
            for time, value in zip(times, values, strict=True):
                color = texts[f"{value:.0f}"]["color"]
                axes.barh(number, step, left=time, height=0.8, color=COLORS.get(color, color), alpha=0.85, lw=0)
        axes.set_yticks(range(len(found)))
        axes.set_yticklabels([name[:34] for name, *_ in reversed(found)], fontsize=7.5)
        axes.grid(visible=False)
        named = [(entry["text"], COLORS.get(entry["color"], entry["color"])) for entry in texts.values()]
        self.names(x, y, width, height, named)

    def table(self, panel, answers, x, y, width, height):
        columns = panel["transformations"][1]["options"]["renameByName"]
        rows = [labels for answer in answers for labels, _ in answer["series"]]
        columns = {label: head for label, head in columns.items() if any(label in row for row in rows)}
        sizes = [max(len(head), *(len(row.get(label, "")) for row in rows)) + 2 for label, head in columns.items()]
        start = x + 12
        for (label, head), size in zip(columns.items(), sizes, strict=True):
            self.words(start, y + 48, head, 8.5, "#6e9fff", weight="bold")
            for number, row in enumerate(rows[:12]):
                self.words(start, y + 72 + 22 * number, row.get(label, ""), 8.5)
            start += (width - 24) * size / sum(sizes)


def draw_all(data, folder):
    """Writes a PNG for each dashboard."""
    plt.rcParams["font.family"] = "DejaVu Sans"
    folder.mkdir(parents=True, exist_ok=True)
    for name, board in files.dashboards().items():
        page = Page(board, data["panels"][name])
        page.draw()
        page.figure.savefig(folder / f"{name}.png", facecolor=BACKGROUND)
        plt.close(page.figure)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: render.py DATA.json FOLDER")
    draw_all(json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))


if __name__ == "__main__":
    main()
