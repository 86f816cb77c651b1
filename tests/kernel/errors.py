"""The one error of the kernel test harness."""


class HarnessError(Exception):
    """The kernel tests cannot run here, or the guest did not do what it was told. Never a skip."""
