"""Fuzz every target for some time each, and say how much was done: python -m tests.fuzz.run --help.

What is found that reaches new code goes to the work directory, which the next run begins with; what fails is
kept there in a file named crash-…, and the run ends with status 1.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.fuzz.targets import TARGETS

CORPUS = Path(__file__).parent / "corpus"
CHECKOUT = Path(__file__).parents[2]
NATIVE = CHECKOUT / "build" / "native"
_LIMITS = ("-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1")


def native_targets() -> list[str]:
    """The fuzzers that `make -C native fuzz` has built."""
    return sorted(path.name for path in NATIVE.glob("fuzz-*"))


def fuzz(name: str, work: Path, limit: Sequence[str], native: Path = NATIVE) -> tuple[int, str]:
    """How often a target ran, and why it stopped, empty if nothing failed."""
    found = work.absolute() / name
    found.mkdir(parents=True, exist_ok=True)
    seeds = [str(path) for path in [CORPUS / name] if path.is_dir()]
    program = (
        [str(native / name)] if name.startswith("fuzz-") else [sys.executable, "-m", "tests.fuzz.one", name]
    )
    arguments = [*program, *_LIMITS, *limit, f"-artifact_prefix={found}-", str(found), *seeds]
    done = subprocess.run(arguments, capture_output=True, text=True, errors="replace", cwd=CHECKOUT)
    count = re.search(r"stat::number_of_executed_units:\s*(\d+)", done.stderr)
    return int(count[1]) if count else 0, "" if done.returncode == 0 else done.stderr[-3000:]


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
        count, problem = fuzz(name, options.work, [f"-max_total_time={options.seconds}"])
        total, failed = total + count, failed or bool(problem)
        print(f"{name:20} {count:12,d} executions{'   FAILED' if problem else ''}", flush=True)
        print(problem, end="", file=sys.stderr)
    print(f"{'all':20} {total:12,d} executions")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
