"""What calls raise: a class per status of kvc/runtime.h, and SpecError."""

from dataclasses import dataclass, field

from . import _abi


class Error(Exception):
    """A call failed and, but for DeviceError and Poisoned, changed nothing.

    `code` is the kvc_code, `where` the stable number of the check that failed.
    """

    code = None

    def __init__(self, text, where=0, need=0, have=0, have_later=0):
        super().__init__(text)
        self.where = where
        self.need, self.have, self.have_later = need, have, have_later


class WouldBlock(Error):
    """Enough pages exist, but work in flight reads them."""

    code = _abi.KVC_WOULD_BLOCK


class OutOfPages(Error):
    """Release something: `need` pages were asked for, `have` are free, and
    `have_later` once nothing is in flight."""

    code = _abi.KVC_OUT_OF_PAGES


class OutOfSequences(Error):
    """The table of sequences or of steps is full."""

    code = _abi.KVC_OUT_OF_SEQUENCES


class Stale(Error):
    """The sequence, step or cache was released, or made before fork()."""

    code = _abi.KVC_STALE


class Busy(Error):
    """The sequence is in an open step or being read, or a call of the step is
    under way."""

    code = _abi.KVC_BUSY


class InvalidArgument(Error, ValueError):
    """An argument is not what the call expects; the text says what that is."""

    code = _abi.KVC_INVALID_ARGUMENT


class Unsupported(Error):
    """No variant of the artifact runs here, and the text lists each and why; or
    it has no kernel for this call, as it is of an earlier version."""

    code = _abi.KVC_UNSUPPORTED


class OutOfMemory(Error, MemoryError):
    """The host or the device has no more memory or threads to give now."""

    code = _abi.KVC_OUT_OF_MEMORY


class IoError(Error, OSError):
    """A file could not be read."""

    code = _abi.KVC_IO_ERROR


class Corrupt(Error):
    """An artifact that is damaged or hostile."""

    code = _abi.KVC_CORRUPT


class DeviceError(Error):
    """The device failed, or an emulator found a fault of a kernel."""

    code = _abi.KVC_DEVICE_ERROR


class Poisoned(Error):
    """An invariant of the cache broke earlier; its statistics still work."""

    code = _abi.KVC_POISONED


class SequenceFull(Error):
    """More tokens than a sequence of this cache can ever have."""

    code = _abi.KVC_SEQUENCE_FULL


class NotAppended(Error):
    """The step's rows of a layer are not written yet."""

    code = _abi.KVC_NOT_APPENDED


BY_CODE = {cls.code: cls for cls in Error.__subclasses__()}


@dataclass(frozen=True)
class Diagnostic:
    """One message of the compiler, where it stands in the spec.

    `pointer` is the JSON pointer, `fix` what would be legal, "" if nothing is
    known to be. Lines and columns count from 1.
    """

    severity: str
    code: str
    message: str
    file: str = ""
    line: int = 0
    column: int = 0
    pointer: str = ""
    fix: str = ""
    notes: list = field(default_factory=list)

    def __str__(self):
        place = f"{self.file}:{self.line}:{self.column}: " if self.line else ""
        at = f" (at {self.pointer})" if self.pointer else ""
        help_ = f"\n  help: {self.fix}" if self.fix else ""
        return (f"{place}{self.severity}: {self.message} "
                f"[{self.code}]{at}{help_}")


class SpecError(ValueError):
    """The spec does not compile: `diagnostics` say where and why."""

    def __init__(self, diagnostics):
        self.diagnostics = list(diagnostics)
        super().__init__("\n".join(str(each) for each in self.diagnostics))

    def __reduce__(self):
        return SpecError, (self.diagnostics,)
