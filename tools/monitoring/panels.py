"""The parts of Grafana dashboards: panels, variables, and the queries that several panels share.

A dashboard is a list of rows of panels. The first three rows, 22 of Grafana's units high, fill a screen
of 1920x1080 pixels; what is below them is for a closer look.
"""

from itertools import count

SOURCE = {"type": "prometheus", "uid": "${datasource}"}
TAG = "dgx-pixels"

# The heights of a row of single values and of a row of graphs, and the width of the screen.
STAT_HEIGHT, GRAPH_HEIGHT, WIDTH = 4, 9, 24

GPU = 'instance=~"$instance", gpu=~"$gpu"'
SERVER = 'instance=~"$instance"'
NODE = 'job="node", instance=~"$node"'
THERMAL = 'reason=~"thermal_.*|power_brake|hardware"'

GREEN, YELLOW, RED, BLUE = "green", "#EAB839", "red", "blue"


def q(expr, legend="", **more):
    """A query. `legend` names its series, with labels in double braces."""
    return {"expr": expr, "legendFormat": legend, **more}


def steps(*pairs):
    """Thresholds: a color, then pairs of a value and the color from it upward."""
    first, *rest = pairs
    return {
        "mode": "absolute",
        "steps": [{"color": first, "value": None}, *({"color": color, "value": value} for value, color in rest)],
    }


def panel(kind, title, about, queries, unit, *, thresholds=None, overrides=(), options=None, **defaults):
    """What all panels have. `about` is the text behind the panel's (i)."""
    custom = defaults.pop("custom", {})
    fields = {"unit": unit, "thresholds": thresholds or steps(GREEN), "custom": custom, **defaults}
    if kind == "timeseries":
        fields["color"] = {"mode": "palette-classic"}
    targets = [
        {"datasource": SOURCE, "refId": chr(ord("A") + i), "editorMode": "code", "range": True, **query}
        for i, query in enumerate(queries)
    ]
    return {
        "type": kind,
        "title": title,
        "description": about,
        "datasource": SOURCE,
        "targets": targets,
        "fieldConfig": {"defaults": fields, "overrides": list(overrides)},
        "options": options or {},
    }


def stat(title, about, expr, unit, thresholds=None, **defaults):
    """One value, large, with its course behind it."""
    options = {
        "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
        "colorMode": "value",
        "graphMode": "area",
        "justifyMode": "center",
        "textMode": "value",
    }
    return panel("stat", title, about, [q(expr)], unit, thresholds=thresholds, options=options, **defaults)


def graph(title, about, queries, unit, *, stacked=False, overrides=(), **defaults):
    """Lines over time; `stacked` fills and sums them."""
    custom = {
        "lineWidth": 1 if stacked else 2,
        "fillOpacity": 60 if stacked else 8,
        "showPoints": "never",
        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        "spanNulls": False,
    }
    options = {
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
        "tooltip": {"mode": "multi", "sort": "desc"},
    }
    defaults = {"min": 0} | defaults
    return panel(
        "timeseries", title, about, queries, unit, overrides=overrides, options=options, custom=custom, **defaults
    )


def heatmap(title, about, expr, unit):
    """The distribution of a histogram over time."""
    options = {
        "calculate": False,
        "cellGap": 1,
        "color": {"mode": "scheme", "scheme": "Turbo", "steps": 64, "reverse": False},
        "filterValues": {"le": 1e-9},
        "legend": {"show": True},
        "tooltip": {"mode": "single", "yHistogram": True},
        "yAxis": {"axisPlacement": "left", "unit": unit},
        "rowsFrame": {"layout": "auto"},
    }
    return panel("heatmap", title, about, [q(expr, "{{le}}", format="heatmap")], unit, options=options)


def states(title, about, queries, texts, **defaults):
    """A bar for each series, colored by its value; `texts` maps a value to a text and a color."""
    mapping = {
        "type": "value",
        "options": {
            str(value): {"text": text, "color": color, "index": i} for i, (value, text, color) in enumerate(texts)
        },
    }
    options = {
        "showValue": "never",
        "mergeValues": True,
        "alignValue": "left",
        "rowHeight": 0.85,
        "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
        "tooltip": {"mode": "single"},
    }
    custom = {"fillOpacity": 80, "lineWidth": 0}
    return panel(
        "state-timeline", title, about, queries, "none", options=options, mappings=[mapping], custom=custom, **defaults
    )


def table(title, about, expr, columns):
    """The labels of series, one row each. `columns` maps a label to the head of its column."""
    made = panel(
        "table",
        title,
        about,
        [q(expr, format="table", instant=True, range=False)],
        "none",
        options={"showHeader": True, "cellHeight": "sm"},
        custom={"align": "left", "cellOptions": {"type": "auto"}},
    )
    made["transformations"] = [
        {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}},
        {
            "id": "organize",
            "options": {
                "indexByName": {name: i for i, name in enumerate(columns)},
                "renameByName": columns,
                "excludeByName": {},
            },
        },
    ]
    return made


def limit(name):
    """Draws series with this word in their name as a dashed red line."""
    return {
        "matcher": {"id": "byRegexp", "options": f".*{name}.*"},
        "properties": [
            {"id": "color", "value": {"mode": "fixed", "fixedColor": RED}},
            {"id": "custom.lineStyle", "value": {"fill": "dash", "dash": [8, 8]}},
            {"id": "custom.fillOpacity", "value": 0},
            {"id": "custom.stacking", "value": {"mode": "none", "group": "A"}},
        ],
    }


def right(name, unit):
    """Gives series with this word in their name an axis of their own, on the right."""
    return {
        "matcher": {"id": "byRegexp", "options": f".*{name}.*"},
        "properties": [
            {"id": "custom.axisPlacement", "value": "right"},
            {"id": "unit", "value": unit},
            {"id": "custom.fillOpacity", "value": 0},
        ],
    }


def variable(name, label, query):
    """A choice of label values at the top of the dashboard. Default: all."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": SOURCE,
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "current": {"text": ["All"], "value": ["$__all"]},
    }


def dashboard(name, title, about, variables, component, rows):
    """Puts the panels of each row side by side, at equal widths, and numbers them."""
    numbers, panels, top = count(1), [], 0
    for row in rows:
        height = STAT_HEIGHT if all(p["type"] == "stat" for p in row) else GRAPH_HEIGHT
        width, rest = divmod(WIDTH, len(row))
        if rest:
            raise ValueError(f"{title}: {len(row)} panels do not divide a row of {WIDTH}")
        for i, made in enumerate(row):
            place = {"x": i * width, "y": top, "w": width, "h": height}
            panels.append({"id": next(numbers), **made, "gridPos": place})
        top += height
    source = {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
        "refresh": 1,
        "current": {"text": "DGX-Pixels Prometheus", "value": "dgx-pixels-prometheus"},
    }
    alerts = {
        "name": "Alerts",
        "datasource": SOURCE,
        "enable": True,
        "expr": f'ALERTS{{alertstate="firing", component="{component}"}}',
        "iconColor": RED,
        "titleFormat": "{{alertname}}",
        "textFormat": "{{instance}} {{gpu}}",
    }
    links = {
        "type": "dashboards",
        "title": "DGX-Pixels",
        "tags": [TAG],
        "asDropdown": False,
        "includeVars": True,
        "keepTime": True,
    }
    return {
        "uid": f"dgx-pixels-{name}",
        "title": title,
        "description": about,
        "tags": [TAG],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "timezone": "browser",
        "time": {"from": "now-1h", "to": "now"},
        "refresh": "30s",
        "templating": {"list": [source, *variables]},
        "annotations": {"list": [alerts]},
        "links": [links],
        "panels": panels,
    }


def share(over, under):
    """A ratio that is empty while there is nothing to divide by."""
    return f"{over} / ({under} > 0)"


def mean(histogram, labels, by=""):
    """The mean of a histogram's values, of each value of the label `by`."""
    group = f" by ({by})" if by else ""
    rate = f"sum{group} (rate({histogram}_%s{{{labels}}}[$__rate_interval]))"
    return share(rate % "sum", rate % "count")


def quantile(at, histogram, labels, by="le"):
    return f"histogram_quantile({at}, sum by ({by}) (rate({histogram}_bucket{{{labels}}}[$__rate_interval])))"
