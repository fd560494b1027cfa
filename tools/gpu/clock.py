"""The clock that steps are held to. In a dry run it is a file, WORK/clock, whose
seconds are counted instead of lived through."""
import time


def _file(work):
    return work / "clock"


def begin(work, dry):
    """Now, at the start of a run."""
    _file(work).unlink(missing_ok=True)
    if dry:
        _file(work).write_text("0")
    return now(work)


def now(work):
    try:
        return float(_file(work).read_text())
    except OSError:
        return time.monotonic()


def left(end, work):
    return end - now(work)


def spend(work, seconds):
    """In a dry run."""
    _file(work).write_text(str(now(work) + seconds))
