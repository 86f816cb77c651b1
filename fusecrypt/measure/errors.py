"""What makes a row impossible; its text is the one line that is shown."""


class BenchError(Exception):
    """A program that failed or is missing, a directory that cannot be used."""
