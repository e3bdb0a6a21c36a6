"""The sample flows do real work, the same by scheduler and by script."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Space

ROOT = Path(__file__).parent.parent


@pytest.fixture
def samples(space: Space) -> Space:
    for name in ("flows", "tasks"):
        shutil.copytree(ROOT / name, space.path / name, dirs_exist_ok=True)
    return space


def report(samples: Space) -> dict[str, object]:
    path = samples.path / "reports/final_report.json"
    content: dict[str, object] = json.loads(path.read_text())
    path.unlink()
    return content


def test_the_samples_are_listed(samples: Space) -> None:
    assert samples.miniflow("list").stdout == "measure_stdlib\nsample_flow\n"


def test_the_sample_flow_reports_what_its_parameters_say(samples: Space) -> None:
    samples.miniflow("run", "sample_flow", "--parallel", "4", "-p", '{"date": "2024-02-29", "source": "email"}')
    content = report(samples)
    assert (content["date"], content["source"]) == ("2024-02-29", "email")


def test_the_script_of_the_sample_flow_makes_the_same_report(samples: Space) -> None:
    assert samples.miniflow("run", "sample_flow").returncode == 0
    by_scheduler = report(samples)
    script = samples.path / samples.miniflow("run", "sample_flow", "--dry-run").stdout.strip()
    assert samples.bash(script).returncode == 0
    assert report(samples) == by_scheduler


def test_a_source_that_does_not_exist_fails_the_first_task_and_skips_the_others(samples: Space) -> None:
    result = samples.miniflow("run", "sample_flow", "-p", '{"source": "jsom"}')
    assert result.returncode == 1
    tasks = json.loads((samples.latest("sample_flow") / "run.json").read_text())["tasks"]
    assert {name: task["state"] for name, task in tasks.items()} == {
        "fetch_data": "failed",
        "process_data": "skipped",
        "generate_report": "skipped",
    }
    assert "did you mean json?" in result.stdout


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "tasks").glob("*.py")))
def test_each_script_explains_itself(script: str) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "tasks" / script, "--help"], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert result.stdout.startswith("usage: ")
