"""Measure fusecrypt, its rivals and the bare directory in one interleaved run.

Exit statuses: 0 everything that was asked for was measured; 1 nothing could be measured; 2 the command line
was wrong; 5 something was left out because this system lacks it or it failed (a line says what, and so does
the report); 130 interrupted.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from types import FrameType

from bench import ledger, report
from bench.commit import commit
from bench.contenders import CONTENDERS, Contender
from bench.workloads import ONCE, WORKLOADS
from fusecrypt.measure.errors import BenchError
from fusecrypt.measure.machine import QUIET, Machine
from fusecrypt.measure.places import TMPFS, file_system, working_directory
from fusecrypt.measure.plot import to_svg
from fusecrypt.measure.processes import adopt_orphans, descendants, wait_for_end
from fusecrypt.measure.results import Results
from fusecrypt.measure.runner import Plan, check_room, run_rounds
from fusecrypt.measure.workload import FULL, QUICK, TINY, Scale

DONE, FAILED, INCOMPLETE, INTERRUPTED = 0, 1, 5, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    adopt_orphans()
    machine = Machine.look()
    contenders, missing = _available(options.contenders)
    statuses = []
    try:
        for place in options.on or [TMPFS]:
            try:
                statuses.append(_measure(place, options, contenders, missing, machine))
            except BenchError as error:
                say(str(error))
                statuses.append(FAILED)
    except KeyboardInterrupt:
        say("interrupted; everything is cleaned up")
        return INTERRUPTED
    finally:
        wait_for_end(descendants(), 1.0)
    if set(statuses) == {FAILED}:
        return FAILED
    return INCOMPLETE if set(statuses) != {DONE} else DONE


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="script/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    scale = parser.add_mutually_exclusive_group()
    scale.set_defaults(scale=FULL)
    scale.add_argument(
        "--quick", dest="scale", action="store_const", const=QUICK, help="smaller; at most five minutes"
    )
    scale.add_argument(
        "--tiny", dest="scale", action="store_const", const=TINY, help="only shows that the bench works"
    )
    parser.add_argument(
        "--contenders", type=_words(CONTENDERS), default=list(CONTENDERS), metavar="A,B",
        help=f"of {', '.join(CONTENDERS)}",
    )  # fmt: skip
    parser.add_argument(
        "--workloads", type=_words(WORKLOADS), default=list(WORKLOADS), metavar="A,B",
        help=f"of {', '.join(WORKLOADS)}",
    )  # fmt: skip
    parser.add_argument(
        "--on", action="append", metavar="tmpfs|DIR", help="where the lower directories lie; may be repeated"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="write JSON, Markdown and SVG files there")
    parser.add_argument("--ledger", action="store_true", help=f"add a line to {ledger.LEDGER.name}, if quiet")
    return parser


def _words(known: Collection[str]) -> Callable[[str], list[str]]:
    """For argparse: known words, separated by commas."""

    def parse(text: str) -> list[str]:
        words = text.split(",")
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is none of {', '.join(known)}")
        return words

    return parse


def _available(names: Sequence[str]) -> tuple[list[Contender], list[str]]:
    """The contenders that are there, and a line for each that is not."""
    found, missing = [], []
    for contender in map(CONTENDERS.__getitem__, names):
        reason = contender.missing()
        if reason is None:
            found.append(contender)
        else:
            missing.append(f"{contender.name}: {reason}")
            say(f"left out: {missing[-1]}")
    return found, missing


def _measure(
    place: str, options: argparse.Namespace, contenders: list[Contender], missing: list[str], machine: Machine
) -> int:
    """One run in one place; returns its status. Raises BenchError if there is no run at all."""
    scale: Scale = options.scale
    with working_directory(place) as directory:
        check_room(directory, scale)
        kind = file_system(directory)
        results = Results(
            place=kind,
            scale=scale.name,
            date=time.strftime("%Y-%m-%d"),
            build=commit(),
            machine=str(machine),
            load=machine.load,
            versions={contender.name: contender.version() for contender in contenders},
            left_out=list(missing),
        )
        workloads = {name: WORKLOADS[name] for name in options.workloads}
        run_rounds(Plan(directory, kind != TMPFS, scale, contenders, workloads, ONCE), results, say)
    for reason in results.left_out[len(missing) :]:
        say(f"left out: {reason}")
    if not results.samples:
        raise BenchError("nothing could be measured")
    _publish(results, options, machine)
    return INCOMPLETE if results.left_out else DONE


def _publish(results: Results, options: argparse.Namespace, machine: Machine) -> None:
    """The table on standard output; files and the ledger's line where asked for. Raises BenchError."""
    table = report.to_markdown(results)
    print(table)
    try:
        if options.out is not None:
            _write_files(results, table, options.out)
        if options.ledger and machine.is_quiet:
            ledger.append(results)
        elif options.ledger:
            say(f"no line in the ledger: the load was {machine.load:.2f} before the run, not below {QUIET}")
    except OSError as error:
        raise BenchError(f"cannot write {error.filename}: {error.strerror}") from None


def _write_files(results: Results, table: str, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    stem = f"{results.date}-{results.scale}-{results.place.replace('/', '-')}"
    (directory / f"{stem}.json").write_text(report.to_json(results))
    (directory / f"{stem}.md").write_text(table)
    for workload in dict.fromkeys(row.workload for row in results.samples):
        name = workload.replace(" ", "-")
        (directory / f"{stem}-{name}.svg").write_text(to_svg(results, workload))


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def say(text: str) -> None:
    """One line for whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
