"""The claims about the files alone: rules, alerts, routes, dashboards, and the pages that name them."""

import functools
import re
import shutil
import tempfile
from pathlib import Path

import dashboards
import files
import lint
import stack
import yaml
from claims import check, need, need_none, said, tool


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


@check("every metric of ours that is named is in the table of metrics.rs")
def known(run):
    table = files.table()
    histograms = {name for name, (kind, *_) in table.items() if kind == "histogram"}
    need_none(
        f"{name} in {', '.join(sorted(places))}"
        for name, places in sorted(files.named().items())
        if name.startswith("dgx_pixels_") and files.family(name, histograms) not in table
    )
    return (
        f"{len([name for name in files.named() if name.startswith('dgx_pixels_')])} names, {len(table)} metrics in the table"
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
        for name, places in files.named().items()
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
        known_metrics = set(files.table()) | set(files.named()) | files.PROCESS
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
