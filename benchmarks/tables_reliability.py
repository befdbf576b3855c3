"""Write docs/reliability.rst from benchmarks/results: faults that were tried, and what became of them."""

from __future__ import annotations

from .text import list_table, number, origin

PAGE = "docs/reliability.rst"
NAMES = ("reliability",)

INTRODUCTION = """.. Written by python -m benchmarks.tables from benchmarks/results; a test fails where the two differ.

Reliability
===========

What may end, damage or starve a fit, what was tried, and what became of it. The same scenarios run, in smaller number,
in the test suite.

"""

REST = """
Beyond what is counted above, the tests hold that

* a fit in which memory gives out, while gradients of any batch are formed or multiplied, goes on with half as many rows
  at once, and its result is the same to rounding;
* Ctrl-C and every error leave the estimator and the module as they were, and the checkpoint usable;
* a disk that is full costs the newest checkpoint and neither the one before nor the fit;
* rows that change between two passes of a fit with a checkpoint are found out and named;
* a checkpoint of another model, of other data or settings is refused, with the difference named;
* public functions, given arrays of any shape, dtype, memory order and magnitude, return what is finite or say in a
  sentence why not; threads that fit clones of one module, or share a fitted estimator, find what one after the other
  does.

"""


def render(results: dict[str, dict]) -> str:
    """Return the text of the page."""
    record = results["reliability"]
    rows = record["results"]["rows"]
    table = list_table(("What was done", "Tried", "As it should be"), cells(rows))
    return INTRODUCTION + table + REST + soak_text(rows) + origin("reliability", record)


def cells(rows: dict[str, dict]):
    damage = rows["damage"]
    what = f"One bit of a file of {damage['file_bytes']:,} bytes changed: refused before use"
    yield what, f"{damage['tried']:,}", f"{damage['found']:,}"
    if "kills" in rows:
        kills = rows["kills"]
        fit = f"a fit of LeNet-5, {kills['n_rows']} images, rank {kills['n_components']}, {kills['fit_seconds']:.1f} s"
        what = f"SIGKILL at a random moment of {fit}: another process goes on to the same bytes"
        ended = kills["random"]["tried"] - kills["random"]["killed"]
        what += f" ({ended} had ended before)" if ended else ""
        yield what, str(kills["random"]["tried"]), str(kills["random"]["equal"])
        kinds = ", ".join(kills["sites"]["kinds"])
        what = f"SIGKILL at every place where it writes ({kinds}): another process goes on to the same bytes"
        yield what, str(kills["sites"]["reached"]), str(kills["sites"]["equal"])


def soak_text(rows: dict[str, dict]) -> str:
    soak = rows["soak"]
    return (
        f"{soak['n_fits']} fits of changing batch size grow resident memory by {number(soak['mib_per_100_fits'])} MiB\n"
        f"per hundred, {soak['n_transforms']:,} transforms by {number(soak['mib_per_100_transforms'])} MiB\n"
        f"(least squares; memory is trimmed before it is read); the peak of the process, untrimmed, is "
        f"{number(soak['peak_mib'])} MiB.\nLive tensors, hooks, threads and file descriptors "
        f"{'are as many after as before' if soak['after'] == soak['before'] else 'have changed in number'}.\n\n"
    )
