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
import json
import sys
import tempfile
import time
from pathlib import Path

import files
import live_claims  # noqa: F401 (registers its claims)
import load
import stack
import static_claims  # noqa: F401 (registers its claims)
from claims import CHECKS, Missing, Wrong


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
