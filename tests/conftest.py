"""Rules for every test: nothing is left behind, nothing is logged unasked, nothing is skipped.

Levels, lower ones first: unit (pure functions, native code), tree (an eCryptfs tree without FUSE), ops
(FUSE handlers without a mount), mount (a real mount), reliability (mounts that are made to fail), tpm
(swtpm), kernel (Debian's kernel in QEMU), package (what is installed, and whole systems).
"""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from tests import watch

LEVELS = ("unit", "tree", "ops", "mount", "reliability", "tpm", "kernel", "package")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="also run what takes long (marker: full)")
    text = "how long those go on that may go on for as long as one likes (10)"
    parser.addoption("--minutes", type=float, default=10.0, help=text)


def pytest_configure(config: pytest.Config) -> None:
    """Properties are tried on the same examples in each run, and on new ones with --full."""
    settings.register_profile("same", derandomize=True)
    settings.load_profile("default" if config.getoption("--full") else "same")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Lower levels first; tests marked full only if asked for."""
    items.sort(key=_level)
    if not config.getoption("--full"):
        long = [item for item in items if item.get_closest_marker("full")]
        items[:] = [item for item in items if item not in long]
        if long:
            config.hook.pytest_deselected(items=long)


def _level(item: pytest.Item) -> int:
    levels = [LEVELS.index(part) for part in item.path.parent.parts if part in LEVELS]
    return levels[-1] if levels else 0


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that cannot run has failed."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail"):
        _fail(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """The same for a module that skips itself as a whole."""
    report = yield
    if report.skipped:
        _fail(report)
    return report


def _fail(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: {reason} (a skip counts as a failure)"


@pytest.fixture(autouse=True, scope="session")
def _session_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    watch.mark_processes()
    watch.MOUNT_ROOTS.append(tmp_path_factory.getbasetemp())
    before = watch.Snapshot.take()
    yield
    _fail_if(before.leaks(descriptors=False))


@pytest.fixture(autouse=True)
def _test_leaves_nothing(_session_leaves_nothing: None) -> Iterator[None]:
    before = watch.Snapshot.take()
    yield
    _fail_if(before.leaks())


@pytest.fixture(autouse=True)
def expected_log() -> Iterator[watch.ExpectedLog]:
    """Log records of level WARNING and above fail a test unless it expects them, by pattern:

        expected_log(r"cannot lock memory")

    A pattern that nothing matched fails the test too.
    """
    with watch.ExpectedLog() as log:
        yield log
    _fail_if(log.complaints())


@pytest.fixture
def open_tmp_path() -> Iterator[Path]:
    """A temporary directory that other users reach too (pytest's own are the owner's alone)."""
    with tempfile.TemporaryDirectory(prefix="fusecrypt-test-") as name:
        path = Path(name)
        path.chmod(0o755)
        watch.MOUNT_ROOTS.append(path)
        yield path
        watch.unmount_below(path)


def _fail_if(complaints: list[str]) -> None:
    if complaints:
        pytest.fail("\n".join(complaints), pytrace=False)
