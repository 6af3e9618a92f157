"""What is in `deploy/`, `docs/` and the table of metrics, as values."""

import functools
import json
import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
ALERTMANAGER = DEPLOY / "alertmanager/alertmanager.yml"
RUNBOOK = ROOT / "docs/runbook.md"
GUIDE = ROOT / "docs/observability.md"
TABLE = ROOT / "dgx-pixels-core/src/metrics.rs"
KINDS = ROOT / "dgx-pixels-core/src/error/kind.rs"

# The metrics of a process, which the crate `prometheus` names.
PROCESS = {
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_threads",
    "process_virtual_memory_bytes",
}

# How Grafana's variables read in a query that is run without Grafana: every value, and a rate over four scrapes.
VARIABLES = {"$__rate_interval": "1m", "$__range": "1h", "$instance": ".+", "$gpu": ".+", "$node": ".+"}

# A metric of an exporter: ours, the node exporter's, and those of Prometheus and Alertmanager themselves.
METRIC = re.compile(
    r"(?<![\w:$])(?:(?:dgx_pixels|node|process|prometheus|alertmanager|scrape)_\w+|up(?=[\s{)\[])|ALERTS)(?![\w:(])"
)
RECORDED = re.compile(r"\b\w+:\w+:\w+\b")
HISTOGRAM_PARTS = ("_bucket", "_sum", "_count")


@functools.cache
def rules():
    """All rules of `rules/*.yml`, in order."""
    documents = [yaml.safe_load(path.read_text()) for path in sorted((PROMETHEUS / "rules").glob("*.yml"))]
    return [rule for document in documents for group in document["groups"] for rule in group["rules"]]


def alerts():
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def recordings():
    return {rule["record"]: rule for rule in rules() if "record" in rule}


def dashboards():
    """The dashboards by their file's name."""
    return {path.stem: json.loads(path.read_text()) for path in sorted((DEPLOY / "grafana/dashboards").glob("*.json"))}


def unit_tests():
    """The cases of `tests/*.yml` as (path, case)."""
    for path in sorted((PROMETHEUS / "tests").glob("*.yml")):
        for case in yaml.safe_load(path.read_text())["tests"]:
            yield path, case


def plain(expr):
    """A panel's query without Grafana's variables."""
    for name, value in VARIABLES.items():
        expr = expr.replace(name, value)
    return expr


def without_strings(expr):
    return re.sub(r"\"[^\"]*\"|'[^']*'", '""', expr)


def metrics_in(expr):
    """The metrics of exporters that a query names. The names of labels are not metrics."""
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", "", without_strings(expr))
    return set(METRIC.findall(bare))


def recordings_in(expr):
    return set(RECORDED.findall(without_strings(expr)))


def family(name, histograms):
    """The metric that a series belongs to: `x` for `x_bucket`, if `x` is a histogram."""
    for part in HISTOGRAM_PARTS:
        if name.endswith(part) and name.removesuffix(part) in histograms:
            return name.removesuffix(part)
    return name


def table():
    """The metrics of `metrics.rs` by their full name: kind, unit, labels, help."""
    row = re.compile(
        r"\b(counter|gauge|histogram)\(\s*\"(\w+)\",\s*\"([^\"]*)\",\s*&\[([^\]]*)\],\s*\"((?:[^\"\\]|\\.)*)\"", re.S
    )
    return {
        f"dgx_pixels_{name}": (kind, unit, re.findall(r"\"(\w+)\"", labels), help_text)
        for kind, name, unit, labels, help_text in row.findall(TABLE.read_text())
    }


def queries(dashboard):
    """The queries of a dashboard as (panel, target)."""
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield panel, target


def anchors(markdown):
    """The anchors that GitHub makes of the headings of a page."""
    found = set()
    for heading in re.findall(r"^#+ +(.+?) *$", markdown, re.M):
        words = re.sub(r"[^\w\- ]", "", heading.lower())
        found.add(words.replace(" ", "-"))
    return found


def named():
    """Every metric that is named, as {name: places}."""
    found = {}

    def add(names, place):
        for name in names:
            found.setdefault(name, set()).add(place)

    for rule in rules():
        add(metrics_in(rule["expr"]), rule.get("alert") or rule["record"])
    for name, board in dashboards().items():
        for panel, target in queries(board):
            add(metrics_in(target["expr"]), f"{name}/{panel['title']}")
        for variable in board["templating"]["list"][1:]:
            add(re.findall(r"label_values\((\w+)", variable["query"]["query"]), f"{name}/${variable['name']}")
    for path, case in unit_tests():
        add({re.match(r"\w+", series["series"])[0] for series in case["input_series"]}, path.name)
    return found
