"""Run the benchmarks: python -m benchmarks [name ...] [--device cpu] [--smoke].

A benchmark is a module bench_<name>.py beside this file with ``run(device, smoke) -> dict``. Its answer goes
to results/<name>.json together with the environment that it was measured in; a smoke run goes to smoke/.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parent
PACKAGES = ("sknfk", "torch", "numpy", "scipy", "scikit-learn", "skorch", "joblib")


def main(arguments: list[str] | None = None) -> None:
    available = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    options = parse(arguments, available)
    for name in options.names or available:
        path = write(name, measure(name, options.device, options.smoke), options.smoke)
        print(f"{name}: {path.relative_to(HERE.parent)}", flush=True)


def parse(arguments: list[str] | None, available: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(available)}; none means all")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cpu or cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(available))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(available)}")
    return options


def measure(name: str, device: str, smoke: bool) -> dict:
    """Run one benchmark and return its results under its environment."""
    benchmark = importlib.import_module(f"benchmarks.bench_{name}")
    record = {"name": name, "full": not smoke, **environment(device)}
    record["command"] = f"python -m benchmarks {name} --device {device}{' --smoke' if smoke else ''}"
    started = time.perf_counter()
    results = benchmark.run(device=device, smoke=smoke)
    record["wall_seconds"] = round(time.perf_counter() - started, 3)
    return {**record, "results": results}


def environment(device: str) -> dict:
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}},
        "cpu_count": os.cpu_count(),
        "torch_threads": torch.get_num_threads(),
        "device": device,
        "device_name": device_name(torch.device(device)),
    }


def commit() -> str | None:
    """Return the commit that the checkout stands on, with ``+`` if files differ from it."""
    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + ("+" if git("status", "--porcelain") else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def write(name: str, record: dict, smoke: bool) -> Path:
    folder = HERE / ("smoke" if smoke else "results")
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.json"
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
