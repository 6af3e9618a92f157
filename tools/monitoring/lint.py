"""The rules that a dashboard keeps. A rule is a function; it yields what is wrong with a dashboard.

They follow grafana/dashboard-linter, which is a program in Go and cannot be installed everywhere, and add some of our own.
Left out are its rules `template-job-rule` and `target-job-rule`: our metrics have names of their own, and `instance` says
which exporter they are from. `shared_metrics_name_their_job` covers the metrics that other programs have as well.
"""

import re

import files

# How high a screen of 1920x1080 pixels is in Grafana's units of 38 pixels, without the browser's and Grafana's bars.
SCREEN_HEIGHT = 22
WIDTH = 24
KINDS = {"stat", "timeseries", "heatmap", "state-timeline", "table"}
# Unit ids of Grafana that are in use. `suffix:` is a unit of the dashboard's own.
UNITS = {"none", "percentunit", "bytes", "Bps", "watt", "joule", "celsius", "hertz", "s", "dtdurations"}

RULES = []


def rule(function):
    RULES.append(function)
    return function


def everything(dashboard):
    """All that is wrong with a dashboard."""
    return [f"{found.__name__}: {fault}" for found in RULES for fault in found(dashboard)]


@rule
def identity(dashboard):
    for key in ("uid", "title", "description"):
        if not dashboard.get(key):
            yield f"`{key}` is missing"
    if dashboard["editable"]:
        yield "`editable` is true; the file would not have what was changed in the browser"


@rule
def the_data_source_is_a_variable(dashboard):
    first = dashboard["templating"]["list"][0]
    if (first["type"], first["query"], first["name"]) != ("datasource", "prometheus", "datasource"):
        yield "the first variable is not the data source"
    things = [*dashboard["annotations"]["list"], *dashboard["templating"]["list"][1:], *dashboard["panels"]]
    things += [target for _, target in files.queries(dashboard)]
    for thing in things:
        if thing["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
            yield f"{thing.get('title') or thing.get('name') or thing.get('expr')} has a data source of its own"


@rule
def variables_are_used_and_take_all(dashboard):
    text = str(dashboard["panels"])
    names = [variable["name"] for variable in dashboard["templating"]["list"]]
    if "instance" not in names:
        yield "there is no variable `instance`"
    for variable in dashboard["templating"]["list"][1:]:
        if f"${variable['name']}" not in text:
            yield f"no panel uses ${variable['name']}"
        if not (variable["multi"] and variable["includeAll"] and variable["allValue"] == ".+"):
            yield f"${variable['name']} cannot choose several values and all"
    for used in set(re.findall(r"\$(?!__)(\w+)", text)) - set(names):
        yield f"${used} is no variable"


@rule
def panels_explain_themselves(dashboard):
    seen = set()
    for panel in dashboard["panels"]:
        title = panel.get("title")
        if not title or not panel.get("description", "").endswith("."):
            yield f"{title or panel['id']} lacks a title, or a description in whole sentences"
        if (title, panel["type"]) in seen:
            yield f"{title} stands twice"
        seen.add((title, panel["type"]))
        if not panel["targets"]:
            yield f"{title} has no query"
        if panel["type"] not in KINDS:
            yield f"{title} is a {panel['type']}; expected {', '.join(sorted(KINDS))}"


@rule
def panels_have_units(dashboard):
    for panel in dashboard["panels"]:
        unit = panel["fieldConfig"]["defaults"]["unit"]
        if unit not in UNITS and not unit.startswith("suffix:"):
            yield f"{panel['title']} has the unit {unit!r}, which Grafana does not have"


@rule
def rates_follow_the_resolution(dashboard):
    for panel, target in files.queries(dashboard):
        for function, window in re.findall(r"\b(rate|irate)\([^\[\]]*\[([^\]]+)\]", target["expr"]):
            if window != "$__rate_interval":
                yield f"{panel['title']}: {function} over {window}; expected $__rate_interval"


@rule
def counters_are_rated(dashboard):
    for panel, target in files.queries(dashboard):
        for name in files.metrics_in(target["expr"]):
            shows_the_sum = "since the server started" in panel["description"].lower()
            if (
                name.endswith("_total")
                and not re.search(r"\b(rate|increase|count)\(", target["expr"])
                and not shows_the_sum
            ):
                yield f"{panel['title']}: {name} is a counter, and its rate is not taken"


@rule
def quantiles_keep_le(dashboard):
    for panel, target in files.queries(dashboard):
        if "histogram_quantile" in target["expr"] and not re.search(r"by \([^)]*\ble\b", target["expr"]):
            yield f"{panel['title']}: a quantile needs `by (le)`"


@rule
def queries_take_the_instance(dashboard):
    """Those of the monitoring itself are of all instances."""
    of_the_monitoring = {"ALERTS", "scrape_duration_seconds", "prometheus_tsdb_head_series", "up"}
    for panel, target in files.queries(dashboard):
        expr = target["expr"]
        names = files.metrics_in(expr) | files.recordings_in(expr)
        chosen = 'instance=~"$node"' if any("node_" in name for name in names) else 'instance=~"$instance"'
        if names - of_the_monitoring and chosen not in expr:
            yield f"{panel['title']}: the query lacks {chosen}"


@rule
def shared_metrics_name_their_job(dashboard):
    for panel, target in files.queries(dashboard):
        if re.search(r"\b(process|node|prometheus)_\w+\{", target["expr"]) and 'job="' not in target["expr"]:
            yield f"{panel['title']}: other programs have this metric too; the query lacks its job"


@rule
def series_have_names(dashboard):
    for panel, target in files.queries(dashboard):
        if panel["type"] in ("timeseries", "state-timeline") and not target.get("legendFormat"):
            yield f"{panel['title']}: a query has no name for its series"


@rule
def labels_in_names_exist(dashboard):
    """A label in a series' name is one that the query keeps."""
    for panel, target in files.queries(dashboard):
        kept = re.findall(r"\b(?:sum|min|max|avg|count) by \(([^)]*)\)", target["expr"])
        if not kept:
            continue
        kept = {label.strip() for labels in kept for label in labels.split(",")}
        for label in re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]):
            if label not in kept:
                yield f"{panel['title']}: the query does not keep `{label}`"


@rule
def the_first_screen_is_full(dashboard):
    """Panels neither overlap nor leave holes, and the first three rows fill a screen exactly."""
    taken = {}
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                if (x, y) in taken:
                    yield f"{panel['title']} covers {taken[x, y]}"
                taken[x, y] = panel["title"]
    height = max(y for _, y in taken) + 1
    if len(taken) != WIDTH * height or max(x for x, _ in taken) >= WIDTH:
        yield f"the panels do not fill {WIDTH}x{height}"
    if not any(panel["gridPos"]["y"] + panel["gridPos"]["h"] == SCREEN_HEIGHT for panel in dashboard["panels"]):
        yield f"no row ends at {SCREEN_HEIGHT}, where the screen ends"


@rule
def numbers_are_unique(dashboard):
    numbers = [panel["id"] for panel in dashboard["panels"]]
    if len(set(numbers)) != len(numbers):
        yield "two panels have one id"
    for panel in dashboard["panels"]:
        letters = [target["refId"] for target in panel["targets"]]
        if len(set(letters)) != len(letters):
            yield f"{panel['title']}: two queries have one refId"
