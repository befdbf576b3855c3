"""Run the benchmarks: python -m benchmarks [name ...] [--device cpu] [--cases a,b] [--smoke].

A benchmark is a module bench_<name>.py beside this file with ``run(device, smoke) -> dict``, or, where it is long,
``rows(device, smoke, ...) -> iterator of (key, row)`` and ``TAKES``, the options beyond these two. The answer goes to
results/<name>.json (results/<name>_cuda.json for a GPU) with the environment that it was measured in; a smoke run
goes to smoke/. Rows are written as they come and replace those of an earlier run with the same key, so that a
long benchmark can be run in parts; each carries its own environment. One that has ``is_complete(rows)`` keeps its rows
in partial/, which the docs never read, until it is.
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
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

HERE = Path(__file__).resolve().parent
PACKAGES = ("sknfk", "torch", "numpy", "scipy", "scikit-learn", "skorch", "joblib")
# Of these a row's own record is made; the rest of the environment stands once in the file.
ROW_ENVIRONMENT = ("date", "commit", "device_name", "torch_threads", "command")


def main(arguments: list[str] | None = None) -> None:
    available = sorted(path.stem.removeprefix("bench_") for path in HERE.glob("bench_*.py"))
    options = parse(arguments, available)
    for name in options.names or available:
        for path in measure(name, options):
            print(f"{name}: {path.relative_to(HERE.parent)}", flush=True)


def parse(arguments: list[str] | None, available: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="name", help=f"{', '.join(available)}; none means all")
    parser.add_argument("--device", default="cpu", help="a torch device, such as cpu or cuda")
    parser.add_argument("--smoke", action="store_true", help="tiny sizes: does it run at all?")
    parser.add_argument("--cases", default=(), type=words, help="only these cases, such as lenet5,mlp")
    parser.add_argument("--competitors", default=(), type=words, help="only these, such as paper,gram")
    parser.add_argument("--components", default=(), type=numbers, help="only these ranks, such as 32,128")
    parser.add_argument("--examples", default=(), type=numbers, help="only these numbers of rows, such as 2000")
    parser.add_argument("--repeats", default=None, type=int, help="repeats of what is timed")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(available))
    if unknown:
        parser.error(f"there is no benchmark {', '.join(unknown)}; choose from {', '.join(available)}")
    return options


def words(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def numbers(text: str) -> tuple[int, ...]:
    return tuple(int(word) for word in text.split(","))


def measure(name: str, options: argparse.Namespace) -> Iterator[Path]:
    """Run one benchmark; yield the file that it has written, after each row where it has rows."""
    benchmark = importlib.import_module(f"benchmarks.bench_{name}")
    record = {"name": name, "full": not options.smoke, **environment(options.device)}
    record["command"] = command_of(name, options)
    path = path_of(name, options)
    started = time.perf_counter()
    if hasattr(benchmark, "run"):
        results = benchmark.run(device=options.device, smoke=options.smoke)
        yield write(path, {**record, "wall_seconds": round(time.perf_counter() - started, 3), "results": results})
        return
    partial, is_complete = HERE / "partial" / path.name, getattr(benchmark, "is_complete", None)
    results = {} if options.smoke else earlier_rows(partial) or earlier_rows(path)
    arguments = chosen(benchmark, options)
    if "done" in benchmark.TAKES:  # it goes on where an earlier run was broken off
        arguments["done"] = frozenset(results)
    for key, row in benchmark.rows(device=options.device, smoke=options.smoke, **arguments):
        seconds = round(time.perf_counter() - started, 3)
        results[key] = {**row, "wall_seconds": seconds, **{name: record[name] for name in ROW_ENVIRONMENT}}
        is_partial = not options.smoke and is_complete is not None and not is_complete(results)
        yield write(partial if is_partial else path, {**record, "results": {"rows": dict(sorted(results.items()))}})
        if not is_partial and not options.smoke:
            partial.unlink(missing_ok=True)
        started = time.perf_counter()


def chosen(benchmark: ModuleType, options: argparse.Namespace) -> dict[str, Any]:
    """The options that this benchmark takes and the caller has given."""
    return {name: getattr(options, name) for name in benchmark.TAKES if getattr(options, name, None)}


def command_of(name: str, options: argparse.Namespace) -> str:
    words = [f"python -m benchmarks {name} --device {options.device}"]
    for option in ("cases", "competitors", "components", "examples"):
        if getattr(options, option):
            words.append(f"--{option} {','.join(map(str, getattr(options, option)))}")
    if options.repeats:
        words.append(f"--repeats {options.repeats}")
    return " ".join(words + (["--smoke"] if options.smoke else []))


def earlier_rows(path: Path) -> dict[str, dict]:
    return json.loads(path.read_text())["results"].get("rows", {}) if path.exists() else {}


def path_of(name: str, options: argparse.Namespace) -> Path:
    device = torch.device(options.device).type
    suffix = "" if device in ("cpu", name) else f"_{device}"
    return HERE / ("smoke" if options.smoke else "results") / f"{name}{suffix}.json"


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


def write(path: Path, record: dict) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n")
    return path


if __name__ == "__main__":
    sys.exit(main())
