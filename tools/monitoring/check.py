"""Checks everything in `deploy/prometheus`, `deploy/alertmanager` and `deploy/grafana`, by running it.

    python tools/monitoring/check.py                        # everything; about five minutes
    python tools/monitoring/check.py --static               # the files alone; about a minute
    python tools/monitoring/check.py --seconds 300 --save data.json --pictures docs/images/dashboards

It takes the programs of `apt-get install prometheus prometheus-alertmanager prometheus-node-exporter`, and
`pip install -r tools/monitoring/requirements.txt`. It starts them on free ports of the loopback with a temporary folder,
and ends them. `--target` is where `dgx-pixels` and `dgx-pixels-mcp` are; default: target/release.

A line for each claim. The last line counts them. The exit status is 1 if a claim fails, or if one cannot be checked for
lack of a program; `--allow-missing` lets the latter pass.
"""

import argparse
import functools
import json
import math
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dashboards
import files
import lint
import load
import stack
import yaml

# The panels that are empty while nothing is wrong.
MAY_BE_EMPTY = {"Failures by kind": "no job of the load fails"}
# Series that exist after a fault, or on a device that this machine lacks; no exporter of this run has them.
MAY_BE_ABSENT = {
    "dgx_pixels_model_evictions_total": "begins when a model is dropped for another; the load uses one",
}
# Alerts about the machine of the check, which is not under test.
OF_THE_MACHINE = {"disk"}
# The instances of exporter.py, as a regular expression.
INVENTED = "spark|engine"
# The most that an alert may take from the metric to the webhook.
ALERT_SECONDS = 90

CHECKS = []


class Missing(Exception):
    """A program is not installed."""


class Wrong(Exception):
    """A claim does not hold."""


def check(claim, live=False):
    """Registers a function as the proof of a claim. It returns what a line says of it, or fails."""

    def register(function):
        CHECKS.append((claim, live, function))
        return function

    return register


def need(holds, found):
    if not holds:
        raise Wrong(found)


def need_none(faults):
    faults = list(faults)
    need(not faults, "; ".join(map(str, faults[:12])) + (f"; and {len(faults) - 12} more" if len(faults) > 12 else ""))


def tool(name, *arguments, **more):
    """Runs a program and returns what it did."""
    path = stack.program(name)
    if not path:
        raise Missing(f"{name} is not installed")
    return subprocess.run([path, *map(str, arguments)], capture_output=True, text=True, check=False, **more)


def said(done):
    return (done.stdout + done.stderr).strip()


# The files alone.


@check("prometheus.yml is valid, with the targets of one machine and with those of Compose")
def config(run):
    for targets in ("targets", "targets.compose"):
        home = run.folder / f"config-{targets}"
        found = {path.stem: yaml.safe_load(path.read_text()) for path in (files.PROMETHEUS / targets).glob("*.yml")}
        jobs = {
            job["job_name"]
            for job in yaml.safe_load((files.PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
        }
        need(set(found) == jobs, f"{targets} has {sorted(found)}; expected {sorted(jobs)}")
        stack.copy_config(home, found, "token")
        done = tool("promtool", "check", "config", home / "prometheus.yml")
        need(done.returncode == 0, said(done))
    return f"{len(jobs)} jobs"


@check("the rules pass promtool's lints")
def rules_lint(run):
    done = tool("promtool", "check", "rules", "--lint=all", "--lint-fatal", *(files.PROMETHEUS / "rules").glob("*.yml"))
    need(done.returncode == 0, said(done))
    return f"{len(files.recordings())} recording rules, {len(files.alerts())} alerts"


@check("every alert has its labels and annotations")
def annotations(run):
    def faults():
        for name, rule in files.alerts().items():
            if rule["labels"]["severity"] not in ("critical", "warning", "none"):
                yield f"{name} has the severity {rule['labels']['severity']}"
            for label in ("component", "subject"):
                if not rule["labels"].get(label):
                    yield f"{name} has no {label}"
            if "for" not in rule:
                yield f"{name} has no `for`"
            if len(rule["annotations"].get("description", "").split(". ")) < 2:
                yield f"{name}: the description has no remedy"

    need_none(faults())
    severities = [rule["labels"]["severity"] for rule in files.alerts().values()]
    return ", ".join(f"{severities.count(severity)} {severity}" for severity in ("critical", "warning", "none"))


@check("every alert has a heading in the runbook, and every heading an alert")
def runbook(run):
    text = files.RUNBOOK.read_text()
    anchors = files.anchors(text)

    def faults():
        for name, rule in files.alerts().items():
            page, _, anchor = rule["annotations"]["runbook_url"].partition("#")
            if not page.endswith("/docs/runbook.md") or anchor != name.lower() or anchor not in anchors:
                yield f"{name}: {rule['annotations']['runbook_url']} leads nowhere"
        for heading in re.findall(r"^#+ +(DgxPixels\w+)", text, re.M):
            if heading not in files.alerts():
                yield f"the runbook has {heading}, which is no alert"
        for section in re.split(r"^### ", text, flags=re.M)[1:]:
            name = section.split()[0]
            for part in ("**Meaning.**", "**Check.**", "**Do.**"):
                if name in files.alerts() and part not in section:
                    yield f"{name} lacks {part}"

    need_none(faults())
    return f"{len(files.alerts())} headings"


@check("the unit tests of the rules pass")
def rules_tests(run):
    done = tool("promtool", "test", "rules", *(files.PROMETHEUS / "tests").glob("*.yml"))
    need(done.returncode == 0, said(done))
    tests = list(files.unit_tests())
    return f"{len(tests)} cases, {sum(len(case['promql_expr_test']) for _, case in tests)} expectations"


def expectations():
    """What the tests expect of alerts, as (file, case, alert, expectation)."""
    for path, case in files.unit_tests():
        for expected in case["promql_expr_test"]:
            name = re.search(r'alertname="(\w+)"', expected["expr"])
            if name:
                yield path, case, name[1], expected


@check("a test fires each alert, and fails for an alert that never fires")
def tests_fire(run):
    fires = {name for _, _, name, expected in expectations() if expected["exp_samples"]}
    silent = {name for _, _, name, expected in expectations() if not expected["exp_samples"]}
    alerts = set(files.alerts())
    need(fires == alerts, f"no test fires {sorted(alerts - fires)}")
    need(silent >= alerts - {"DgxPixelsWatchdog"}, f"no test has a quiet time of {sorted(alerts - silent)}")
    survivors = [
        name for name in sorted(alerts) if f'alertname=\\"{name}\\"' not in mutant(run, "vector(0) > 1", "[!q]*")
    ]
    need(not survivors, f"the tests pass although these never fire: {survivors}")
    return f"{len(alerts)} alerts, {len(alerts)} that never fire found out"


@check("no alert fires or is pending on a healthy machine, and a test fails for one that always fires")
def tests_quiet(run):
    machines = [case for path, case in files.unit_tests() if path.stem == "quiet"]
    need(len(machines) >= 3, "tests/quiet.yml has fewer than 3 machines")
    names = sorted(set(files.alerts()) - {"DgxPixelsWatchdog"})
    survivors = [name for name in names if f'alertname="{name}"' not in mutant(run, "vector(1)", "quiet")]
    need(not survivors, f"the tests pass although these always fire: {survivors}")
    return f"{len(machines)} machines, {len(names)} that always fire found out"


@functools.cache
def mutant(run, expr, stem):
    """What promtool says of the test files `stem` while every alert has another expression."""
    home = Path(tempfile.mkdtemp(dir=run.folder))
    shutil.copytree(files.PROMETHEUS / "tests", home / "tests")
    shutil.copytree(files.PROMETHEUS / "rules", home / "rules")
    document = yaml.safe_load((home / "rules/alerts.yml").read_text())
    for group in document["groups"]:
        for rule in group["rules"]:
            rule["expr"] = expr
    (home / "rules/alerts.yml").write_text(yaml.safe_dump(document))
    return said(tool("promtool", "test", "rules", *(home / "tests").glob(f"{stem}.yml")))


@check("the summaries and descriptions read well with the values of the tests")
def rendered(run):
    """promtool prints what it got where no alert was expected: the rendered texts."""
    home = run.folder / "rendered"
    (home / "tests").mkdir(parents=True)
    (home / "rules").symlink_to(files.PROMETHEUS / "rules")
    texts = {}
    for path in {path for path, *_ in expectations()}:
        document, found = yaml.safe_load(path.read_text()), {}
        for case in document["tests"]:
            fires = [expected for expected in case["promql_expr_test"] if expected["exp_samples"]]
            found |= {re.search(r'alertname="(\w+)"', expected["expr"])[1]: (case, expected) for expected in fires}
        document["tests"] = [
            case
            | {"alert_rule_test": [{"eval_time": expected["eval_time"], "alertname": name, "exp_alerts": []}]}
            | {"promql_expr_test": []}
            for name, (case, expected) in found.items()
        ]
        (home / "tests" / path.name).write_text(yaml.safe_dump(document))
        answer = said(tool("promtool", "test", "rules", home / "tests" / path.name))
        parts = re.split(r"alertname: (\w+)", answer)
        texts |= dict(zip(parts[1::2], parts[2::2], strict=True))
    need(set(texts) == set(files.alerts()), f"no text of {sorted(set(files.alerts()) - set(texts))}")
    bad = re.compile(r"<error|<no value>|%!|NaN|\+Inf")
    need_none(f"{name}: {bad.search(text)[0]}" for name, text in texts.items() if bad.search(text))
    # An empty label leaves two spaces, or a space before a full stop.
    gaps = re.compile(r"(summary|description)=\\?\"[^\"]*(  | \.|GPU of|of does)")
    need_none(f"{name}: {gaps.search(text)[0]}" for name, text in texts.items() if gaps.search(text))
    if run.arguments.verbose:
        for name, text in texts.items():
            print(name, *re.findall(r'(?:summary|description)="[^"]*"', text), sep="\n    ")
    return f"{len(texts)} alerts"


@check("alertmanager.yml is valid, and sends each severity to its receiver")
def routes(run):
    text = files.ALERTMANAGER.read_text()
    version = re.search(r"version (\d+)\.(\d+)", said(tool("amtool", "--version")))
    is_old = (int(version[1]), int(version[2])) < (0, 26)
    path = run.folder / "routes.yml"
    path.write_text(stack.alertmanager_config(text) if is_old else text)
    done = tool("amtool", "check-config", path)
    need(done.returncode == 0, said(done))
    expected = {"critical": "pages", "warning": "tickets", "none": "watchdog"}
    for name, rule in files.alerts().items():
        labels = [f"{key}={value}" for key, value in rule["labels"].items()]
        receiver = expected[rule["labels"]["severity"]]
        arguments = ["config", "routes", "test", f"--config.file={path}", f"--verify.receivers={receiver}"]
        done = tool("amtool", *arguments, f"alertname={name}", "instance=a", *labels)
        need(done.returncode == 0, f"{name}: {said(done)}")
    how = "with `url` for `url_file`" if is_old else "as it is"
    return f"{len(files.alerts())} alerts routed by amtool {version[1]}.{version[2]}, {how}"


@check("every warning that has a critical alert of its subject is held back by it")
def inhibitions(run):
    subjects = {}
    for name, rule in files.alerts().items():
        subjects.setdefault(rule["labels"]["subject"], {}).setdefault(rule["labels"]["severity"], []).append(name)
    pairs = {subject for subject, found in subjects.items() if {"critical", "warning"} <= set(found)}
    expected = {"temperature", "memory", "device", "queue", "jobs", "disk", "server"}
    need(pairs == expected, f"subjects with both severities are {sorted(pairs)}; expected {sorted(expected)}")
    return f"{len(pairs)} subjects"


@check("the dashboards are what dashboards.py writes")
def dashboards_current(run):
    old = [path.name for path, text in dashboards.written().items() if not path.is_file() or path.read_text() != text]
    need(not old, f"{old}: run tools/monitoring/dashboards.py")
    found = {path for path in dashboards.FOLDER.glob("*.json")}
    need(found == set(dashboards.written()), f"there are other files: {found - set(dashboards.written())}")
    return f"{len(found)} files"


@check("the dashboards pass the lints")
def dashboards_lint(run):
    found = files.dashboards()
    need_none(f"{name}: {fault}" for name, board in found.items() for fault in lint.everything(board))
    uids = [board["uid"] for board in found.values()]
    need(len(set(uids)) == len(uids), "two dashboards have one uid")
    return f"{len(lint.RULES)} rules, {sum(len(board['panels']) for board in found.values())} panels"


@check("Grafana's provisioning leads to the dashboards and to the data source that they name")
def provisioning(run):
    folder = files.DEPLOY / "grafana/provisioning"
    source = yaml.safe_load((folder / "datasources/prometheus.yml").read_text())["datasources"][0]
    scrape = yaml.safe_load((files.PROMETHEUS / "prometheus.yml").read_text())["global"]["scrape_interval"]
    need(source["jsonData"]["timeInterval"] == scrape, f"`timeInterval` is not the scrape interval, {scrape}")
    for name, board in files.dashboards().items():
        chosen = board["templating"]["list"][0]["current"]["value"]
        need(chosen == source["uid"], f"{name} begins with the data source {chosen}; expected {source['uid']}")
    provider = yaml.safe_load((folder / "dashboards/dgx-pixels.yml").read_text())["providers"][0]
    need(provider["allowUiUpdates"] is False, "dashboards can be changed in the browser")
    return source["uid"]


def named():
    """Every metric that is named, as {name: places}."""
    found = {}

    def add(names, place):
        for name in names:
            found.setdefault(name, set()).add(place)

    for rule in files.rules():
        add(files.metrics_in(rule["expr"]), rule.get("alert") or rule["record"])
    for name, board in files.dashboards().items():
        for panel, target in files.queries(board):
            add(files.metrics_in(target["expr"]), f"{name}/{panel['title']}")
        for variable in board["templating"]["list"][1:]:
            add(re.findall(r"label_values\((\w+)", variable["query"]["query"]), f"{name}/${variable['name']}")
    for path, case in files.unit_tests():
        add({re.match(r"\w+", series["series"])[0] for series in case["input_series"]}, path.name)
    return found


@check("every metric of ours that is named is in the table of metrics.rs")
def known(run):
    table = files.table()
    histograms = {name for name, (kind, *_) in table.items() if kind == "histogram"}
    need_none(
        f"{name} in {', '.join(sorted(places))}"
        for name, places in sorted(named().items())
        if name.startswith("dgx_pixels_") and files.family(name, histograms) not in table
    )
    return (
        f"{len([name for name in named() if name.startswith('dgx_pixels_')])} names, {len(table)} metrics in the table"
    )


@check("every recorded value that is named is recorded, and every one that is recorded is named")
def recorded(run):
    used = set()
    for rule in files.rules():
        used |= files.recordings_in(rule["expr"])
    for board in files.dashboards().values():
        for _, target in files.queries(board):
            used |= files.recordings_in(target["expr"])
    need(used == set(files.recordings()), f"the difference is {sorted(used ^ set(files.recordings()))}")
    return f"{len(used)} values"


@check("every metric of ours is on a dashboard or in a rule")
def shown(run):
    table = files.table()
    histograms = {name for name, (kind, *_) in table.items() if kind == "histogram"}
    places = {
        files.family(name, histograms)
        for name, places in named().items()
        if any(not p.endswith(".yml") for p in places)
    }
    need(set(table) <= places, f"nothing shows {sorted(set(table) - places)}")
    return f"{len(table)} metrics"


@check("the guide's table has every metric with its kind and unit")
def guide(run):
    rows = {}
    for name, kind, unit in re.findall(
        r"^\| `(\w+)(?:\{[^`]*\})?` \| (\w+) \| ([^|]+) \|", files.GUIDE.read_text(), re.M
    ):
        rows[name] = (kind, unit.strip())
    table = files.table()
    need_none(f"{name} is missing" for name in table if name not in rows)
    need_none(
        f"{name} is {rows[name]}; expected {(kind, unit)}"
        for name, (kind, unit, *_) in table.items()
        if rows[name] != (kind, unit)
    )
    need_none(f"{name} does not exist" for name in rows if name.startswith("dgx_pixels_") and name not in table)
    return f"{len(rows)} rows"


@check("the pages name only alerts, metrics and files that exist")
def pages(run):
    def faults():
        known_metrics = set(files.table()) | set(named()) | files.PROCESS
        other_words = {"dgx_pixels_token", *re.findall(r'"(\w+)"', files.KINDS.read_text())}
        for page in (files.GUIDE, files.RUNBOOK):
            text = page.read_text()
            for name in set(re.findall(r"\bDgxPixels[A-Z]\w+", text)) - set(files.alerts()):
                yield f"{page.name}: {name} is no alert"
            for name in set(re.findall(r"\b(?:dgx_pixels|node|process)_[a-z_]+[a-z]\b", text)):
                family = files.family(name, known_metrics)
                is_prefix = any(metric.startswith(f"{name}_") for metric in known_metrics)
                if family not in known_metrics | other_words and not is_prefix:
                    yield f"{page.name}: {name} is no metric"
            for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
                if not (page.parent / link).exists():
                    yield f"{page.name}: {link} does not exist"
            for path in re.findall(r"`((?:deploy|tools/monitoring)/[\w./-]+)`", text):
                if not (files.ROOT / path).exists() and "secrets/" not in path:
                    yield f"{page.name}: {path} does not exist"
            titles = {p["title"] for b in files.dashboards().values() for p in b["panels"]}
            for title in re.findall(r"panel \*([^*]+)\*", text.replace("\n", " ")):
                if title not in titles:
                    yield f"{page.name}: no panel is called {title}"

    need_none(faults())
    return "docs/observability.md, docs/runbook.md"


# With everything running.


@check("the exporters' answers pass promtool's lints", live=True)
def expositions(run):
    import urllib.request

    sizes = []
    headers = {"Authorization": f"Bearer {run.stack.token}"}
    for name in ("server", "small", "gpus", "spark", "engine"):
        request = urllib.request.Request(run.stack.url(name) + "/metrics", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            body, kind = answer.read().decode(), answer.headers["Content-Type"]
        need(kind.replace(" ", "").startswith("text/plain;version=0.0.4"), f"{name}: the content type is {kind}")
        done = tool("promtool", "check", "metrics", input=body)
        need(done.returncode == 0, f"{name}: {said(done)}")
        sizes.append(f"{name} {sum(not line.startswith('#') for line in body.splitlines())}")
    return "samples: " + ", ".join(sizes)


@check("Prometheus reads every target, with the server's token, and misses no scrape", live=True)
def targets(run):
    need(not run.stack.ended(), f"ended: {run.stack.ended()}")
    down = [labels for labels, [(_, value)] in run.stack.query("up") if value != "1"]
    need(not down, f"down: {down}")
    seconds = time.time() - run.stack.began
    least = int(seconds // stack.SCRAPE_SECONDS) - 1
    counts = run.stack.query(f"count_over_time(up[{seconds:.0f}s])")
    need_none(f"{labels['job']} {value}" for labels, [(_, value)] in counts if int(value) < least)
    return f"{len(counts)} targets, at least {min(int(v) for _, [(_, v)] in counts)} scrapes in {seconds:.0f} s"


@check("Prometheus evaluates every rule without an error", live=True)
def evaluated(run):
    groups = stack.get(run.stack.url("prometheus") + "/api/v1/rules")["data"]["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    need(len(rules) == len(files.rules()), f"{len(rules)} rules are loaded")
    need_none(f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok")
    return f"{len(rules)} rules"


@check("every metric that is named exists in Prometheus", live=True)
def exist(run):
    names = set(stack.get(run.stack.url("prometheus") + "/api/v1/label/__name__/values")["data"])
    outside_of_tests = {name for name, places in named().items() if any(not p.endswith(".yml") for p in places)}
    absent = outside_of_tests - names - {"ALERTS"}
    need_none(f"{name} in {', '.join(named()[name])}" for name in sorted(absent - set(MAY_BE_ABSENT)))
    absent = sorted(absent)
    return f"{len(outside_of_tests)} names; absent, as they begin with a fault: {len(absent)}"


@check("the exporters report nothing that the table does not have, and our invented ones only what is real", live=True)
def surfaces(run):
    names = {n for n in stack.get(run.stack.url("prometheus") + "/api/v1/label/__name__/values")["data"]}
    table = files.table()
    histograms = {name for name, (kind, *_) in table.items() if kind == "histogram"}
    ours = {files.family(name, histograms) for name in names if name.startswith("dgx_pixels_")}
    need(ours <= set(table), f"not in the table: {sorted(ours - set(table))}")
    process = {labels["__name__"] for labels, _ in run.stack.query('{__name__=~"process_.*", instance="server"}')}
    need(process == files.PROCESS, f"of the process: {sorted(process ^ files.PROCESS)}")
    # A name of the table that no real exporter of this run reports comes from an invented one, or from a fault.
    real = {
        files.family(labels["__name__"], histograms)
        for labels, _ in run.stack.query(f'{{__name__=~"dgx_pixels_.*", instance!~"{INVENTED}"}}')
    }
    only_invented = sorted(set(table) - real - set(MAY_BE_ABSENT))
    expected = {f"dgx_pixels_memory_{name}_bytes" for name in ("budget", "used", "peak", "predicted_peak")}
    need(set(only_invented) <= expected, f"no real exporter reports {sorted(set(only_invented) - expected)}")
    return f"{len(real)} of {len(table)} metrics from real exporters; invented: device memory, {len(only_invented)}"


@check("every variable of every dashboard has values", live=True)
def variables(run):
    counted = []
    for name, board in files.dashboards().items():
        for variable in board["templating"]["list"][1:]:
            metric, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"]).groups()
            values = {labels.get(label) for labels, _ in run.stack.query(files.plain(metric))} - {None}
            need(values, f"{name}: ${variable['name']} has no value")
            counted.append(f"{name} ${variable['name']} {len(values)}")
    return ", ".join(counted)


@check("every query of every panel has data", live=True)
def panels(run):
    data, empty, asked = {}, [], 0
    end = time.time()
    for name, board in files.dashboards().items():
        for panel in board["panels"]:
            found = []
            for target in panel["targets"]:
                expr = files.plain(target["expr"])
                if target.get("instant"):
                    series = run.stack.query(expr, end)
                else:
                    series = run.stack.query_range(expr, run.stack.began, end)
                asked += 1
                series = [
                    (labels, [(t, v) for t, v in values if not math.isnan(float(v))]) for labels, values in series
                ]
                series = [(labels, values) for labels, values in series if values]
                only_absent = files.metrics_in(target["expr"]) and files.metrics_in(target["expr"]) <= set(
                    MAY_BE_ABSENT
                )
                if not series and panel["title"] not in MAY_BE_EMPTY and not only_absent:
                    empty.append(f"{name}/{panel['title']}: {expr}")
                found.append({"legend": target.get("legendFormat", ""), "series": series})
            data.setdefault(name, {})[str(panel["id"])] = found
    run.data = {"began": run.stack.began, "ended": end, "panels": data}
    need_none(empty)
    return f"{asked} queries"


@check("under the load only the watchdog fires, and the alert of the server whose queue is full", live=True)
def quiet_under_load(run):
    firing = run.stack.query('ALERTS{alertstate="firing", alertname!="DgxPixelsWatchdog"}')
    need_none(
        f"{labels['alertname']} of {labels.get('instance')}"
        for labels, _ in firing
        if labels["subject"] not in OF_THE_MACHINE
        and (labels["alertname"], labels.get("instance")) != ("DgxPixelsQueueFull", "small")
    )
    return f"{sum(run.sent.values())} calls of {len(run.sent)} tools"


@check(f"an alert reaches the webhook within {ALERT_SECONDS} s of its metric, and holds the warning back", live=True)
def end_to_end(run):
    began = time.time()
    run.stack.engine.device_up = 0
    alert = "DgxPixelsDeviceHung"
    while not run.stack.webhook.messages(alert):
        need(time.time() - began < ALERT_SECONDS, f"{alert} has not arrived")
        time.sleep(0.25)
    arrived, receiver, message = run.stack.webhook.messages(alert)[0]
    need(receiver == "pages", f"it went to {receiver}")
    texts = message["alerts"][0]["annotations"]
    need("hangs" in texts["summary"] and texts["runbook_url"].endswith(f"#{alert.lower()}"), str(texts))
    need(run.stack.webhook.messages("DgxPixelsWatchdog"), "the watchdog has not arrived")
    # A warning of the same subject and instance, as the engine's stall would be.
    labels = message["alerts"][0]["labels"] | {"alertname": "DgxPixelsEngineStalled", "severity": "warning"}
    api = run.stack.url("alertmanager") + "/api/v2/alerts"
    post_json(api, [{"labels": labels}])
    states = {a["labels"]["alertname"]: a["status"]["state"] for a in stack.get(api)}
    need(states["DgxPixelsEngineStalled"] == "suppressed", f"the warning is {states['DgxPixelsEngineStalled']}")
    return f"{arrived - began:.0f} s"


def post_json(url, value):
    import urllib.request

    request = urllib.request.Request(url, json.dumps(value).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass


@check("a real server whose queue is full has fired its alert", live=True)
def queue_full(run):
    began, alert = time.time(), "DgxPixelsQueueFull"
    while not run.stack.webhook.messages(alert):
        need(time.time() - began < ALERT_SECONDS, f"{alert} has not arrived")
        time.sleep(0.25)
    _, receiver, message = run.stack.webhook.messages(alert)[0]
    instance = message["alerts"][0]["labels"]["instance"]
    need((receiver, instance) == ("pages", "small"), f"{receiver} was told of {instance}")
    return "kind `queue_full`, refused by `generate_batch`"


@check("a server that is killed fires its alert", live=True)
def server_down(run):
    began = time.time()
    # The other server goes on, so this is one server of two.
    dict(run.stack.processes)["server"].kill()
    alert, limit = "DgxPixelsServerDown", 60 + ALERT_SECONDS
    while not run.stack.webhook.messages(alert):
        need(time.time() - began < limit, f"{alert} has not arrived after {limit} s")
        time.sleep(0.25)
    return f"{run.stack.webhook.messages(alert)[0][0] - began:.0f} s, of which the alert waits 60"


class Run:
    """One run of the checks: its folder, and what it has found so far."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.stack = self.data = None
        self.sent = {}

    def missing(self):
        """What the checks with everything running lack here."""
        lacking = [name for name in stack.NAMES if not stack.program(name)]
        target = self.arguments.target
        lacking += [str(target / name) for name in ("dgx-pixels", "dgx-pixels-mcp") if not (target / name).is_file()]
        return lacking

    def one(self, claim, function, tally):
        began = time.time()
        try:
            found, outcome = function(self), "ok"
        except Missing as missing:
            found, outcome = f"{missing}", "not measured here"
        except (Wrong, RuntimeError, ValueError, OSError, KeyError) as wrong:
            found, outcome = (
                f"{type(wrong).__name__}: {wrong}" if not isinstance(wrong, Wrong) else str(wrong),
                "FAILED",
            )
        tally[outcome] += 1
        print(f"{outcome}: {claim}: {found} ({time.time() - began:.1f} s)", flush=True)

    def all(self):
        tally = {"ok": 0, "FAILED": 0, "not measured here": 0}
        for claim, live, function in CHECKS:
            if not live:
                self.one(claim, function, tally)
        live = [(claim, function) for claim, live, function in CHECKS if live and not self.arguments.static]
        if live and self.missing():
            for claim, _ in live:
                print(f"not measured here: {claim}: missing: {', '.join(self.missing())}")
            tally["not measured here"] += len(live)
        elif live:
            try:
                with stack.Stack(self.folder, self.arguments.target) as self.stack:
                    works = [(self.stack.url("server") + "/mcp", work) for work in load.ALL]
                    works.append((self.stack.url("small") + "/mcp", load.fill_queue))
                    self.sent = load.run(self.arguments.seconds, works, self.stack.token)
                    for claim, function in live:
                        self.one(claim, function, tally)
            except RuntimeError as error:
                print(f"FAILED: everything starts: {error}")
                tally["FAILED"] += 1
        return tally


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--static", action="store_true", help="check the files alone; start nothing")
    parser.add_argument("--allow-missing", action="store_true", help="pass although a program is not installed")
    parser.add_argument("--target", type=Path, default=files.ROOT / "target/release", metavar="DIR")
    parser.add_argument("--seconds", type=float, default=90, help="how long the load lasts; default 90")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write the data of all panels to this file")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="draw the dashboards from that data")
    parser.add_argument("--verbose", action="store_true", help="print the texts of the alerts")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dgx-pixels-monitoring-") as folder:
        run = Run(arguments, Path(folder))
        tally = run.all()
    if run.data and arguments.save:
        arguments.save.write_text(json.dumps(run.data))
    if run.data and arguments.pictures:
        import render

        render.draw_all(run.data, arguments.pictures)
    missed = tally["not measured here"]
    print(f"{tally['ok']} passed, {tally['FAILED']} failed, {missed} skipped")
    sys.exit(bool(tally["FAILED"] or (missed and not arguments.allow_missing)))


if __name__ == "__main__":
    main()
