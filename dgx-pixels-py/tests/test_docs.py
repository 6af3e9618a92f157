"""The examples in the docs run as they stand."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

import dgx_pixels as dp


@pytest.mark.parametrize("page", ["README.md", "docs/python.md"])
def test_all_blocks_of_a_page_run_one_after_the_other(
    page: str, run: Any, with_torch: None, tmp_path: Path
) -> None:
    with dp.Engine("sketch") as engine:
        engine.generate("a slime", seed=1).enlarged(8).save(tmp_path / "screenshot.png")
    blocks = re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(), re.M | re.S)
    assert blocks
    ended = run("\n".join(blocks), timeout=600)
    assert ended.returncode == 0, ended.stderr
