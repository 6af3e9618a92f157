"""The claims about everything that runs: scrapes, rules, dashboards, and alerts from end to end."""

import json
import math
import re
import time

import files
import stack
from claims import check, need, need_none, said, tool

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
    outside_of_tests = {name for name, places in files.named().items() if any(not p.endswith(".yml") for p in places)}
    absent = outside_of_tests - names - {"ALERTS"}
    need_none(f"{name} in {', '.join(files.named()[name])}" for name in sorted(absent - set(MAY_BE_ABSENT)))
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
