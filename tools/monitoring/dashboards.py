"""Writes the three Grafana dashboards, `deploy/grafana/dashboards/*.json`.

    python tools/monitoring/dashboards.py            # write the files
    python tools/monitoring/dashboards.py --check    # exit with 1 if a file is not what would be written

`dashboard_gpu.py`, `dashboard_engine.py` and `dashboard_service.py` have the dashboards, and
`panels.py` has the parts that they are made of.
"""

import json
import sys
from pathlib import Path

from dashboard_engine import engine
from dashboard_gpu import gpu
from dashboard_service import service

FOLDER = Path(__file__).resolve().parents[2] / "deploy/grafana/dashboards"


def written():
    """The files and their texts."""
    made = {"gpu": gpu(), "engine": engine(), "service": service()}
    return {
        FOLDER / f"{name}.json": json.dumps(text, indent=2, ensure_ascii=False) + "\n" for name, text in made.items()
    }


def main():
    old = [path for path, text in written().items() if not path.is_file() or path.read_text() != text]
    if "--check" in sys.argv[1:]:
        for path in old:
            print(f"{path} is not what {Path(__file__).name} writes")
        sys.exit(bool(old))
    for path, text in written().items():
        path.write_text(text)


if __name__ == "__main__":
    main()
