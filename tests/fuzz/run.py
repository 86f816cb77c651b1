"""Fuzz every target for some time each, and say how much was done: python -m tests.fuzz.run --help.

What is found that reaches new code goes to the work directory, which the next run begins with; how often
each target ran adds up there. What fails is kept there in a file named TARGET-crash-…, and the run ends with
status 1.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
CHECKOUT = Path(__file__).parents[2]
NATIVE = CHECKOUT / "build" / "native"
_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1")


class Outcome(NamedTuple):
    """What a run did: how often the target ran; what code its old inputs reached, in libFuzzer's units, and
    all inputs in the end; how many were new; why it stopped, empty if nothing failed."""

    executions: int
    before: int
    after: int
    found: int
    problem: str


def native_targets() -> list[str]:
    """The fuzzers that `make -C native fuzz` has built."""
    return sorted(path.name for path in NATIVE.glob("fuzz-*"))


def fuzz(name: str, work: Path, limit: Sequence[str], native: Path = NATIVE) -> Outcome:
    """Run a target up to a limit, in libFuzzer's words."""
    found = work.absolute() / name
    found.mkdir(parents=True, exist_ok=True)
    seeds = [str(path) for path in [CORPUS / name] if path.is_dir()]
    program = (
        [str(native / name)] if name.startswith("fuzz-") else [sys.executable, "-m", "tests.fuzz.one", name]
    )
    arguments = [*program, *_LIMITS, *limit, f"-artifact_prefix={found}-", str(found), *seeds]
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", cwd=CHECKOUT)
    said = done.stderr
    return Outcome(
        _number(said, r"stat::number_of_executed_units:\s*(\d+)"),
        _number(said, r"INITED\s+cov: (\d+)"),
        _number(said, r" cov: (\d+)"),
        _number(said, r"stat::new_units_added:\s*(\d+)"),
        "" if done.returncode == 0 else said[-3000:],
    )


def _number(said: str, pattern: str) -> int:
    """The last that was said; 0 if none was."""
    return int([0, *re.findall(pattern, said)][-1])


def add_up(work: Path, name: str, executions: int) -> int:
    """How often a target has run in all runs in this directory, with these."""
    file = work / "executions.json"
    known: dict[str, int] = json.loads(file.read_text()) if file.exists() else {}
    known[name] = known.get(name, 0) + executions
    file.write_text(json.dumps(known))
    return known[name]


def main() -> int:
    parser = argparse.ArgumentParser(prog="script/fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="; ".join([*TARGETS, "fuzz-… (native)"]))
    parser.add_argument("--seconds", type=int, default=60, help="for each target (60)")
    parser.add_argument(
        "--work", type=Path, default=Path("build/fuzz"), help="where finds are kept (build/fuzz)"
    )
    options = parser.parse_args()
    total, failed = 0, False
    for name in options.targets or [*TARGETS, *native_targets()]:
        done = fuzz(name, options.work, [f"-max_total_time={options.seconds}"])
        total, failed = total + done.executions, failed or bool(done.problem)
        ever = add_up(options.work, name, done.executions)
        line = f"{name:16} {done.executions:12,d} executions ({ever:,d} in all),"
        line += f" coverage {done.before} to {done.after}, {done.found} new inputs"
        print(line + "   FAILED" * bool(done.problem), flush=True)
        print(done.problem, end="", file=sys.stderr)
    print(f"{'all':16} {total:12,d} executions ({add_up(options.work, 'all', total):,d} in all)")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
