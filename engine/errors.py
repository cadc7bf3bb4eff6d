"""The errors that revstep raises: for wrong arguments, and for failed builds, loads and runs.

Every message says what was got, what is allowed and how to fix it. Where it speaks of arguments
it is a ``Message`` (message.py), whose arguments the command line writes as its options.
"""

from __future__ import annotations

from revstep.engine.message import Argument, Message

__all__ = [
    "ArgumentError",
    "ArgumentTypeError",
    "BackendError",
    "BundleError",
    "Cancelled",
    "CapacityError",
    "CompileError",
    "DeadlineError",
    "DeviceMemoryError",
    "ExportError",
    "NonFiniteError",
    "ParityError",
    "ProgramError",
    "QueueFullError",
    "RevstepError",
    "ServiceClosedError",
]


class ArgumentError(ValueError):
    """A caller's wrong argument.

    Args:
        message: What was got, what is allowed, how to fix it.
        what: The argument's name, or words for a part of one, such as "the decoder's scale".

    Attributes:
        argument: The argument's name; empty where ``what`` is none.
    """

    def __init__(self, message: str, what: str = "") -> None:
        super().__init__(message)
        self.argument = what if what.isidentifier() else ""


class ArgumentTypeError(ArgumentError, TypeError):
    """An argument of a wrong type: a ``TypeError``, and as all wrong arguments a ``ValueError``."""


class RevstepError(Exception):
    """Base of the package's own errors.

    Args:
        message: What was got, what is allowed and how to fix it, in one or more parts.
    """

    def __init__(self, *message: str | Argument) -> None:
        super().__init__(Message(*message))


class BundleError(RevstepError):
    """A bundle that can't be read: damaged, of another version, or leaving its directory."""


class ExportError(RevstepError):
    """An export that failed; no bundle was written."""


class CompileError(RevstepError):
    """A compilation that failed; the bundle is as it was."""


class ParityError(CompileError):
    """A compiled network that differs from the reference by more than the bound."""


class BackendError(RevstepError):
    """A backend that is missing or can't run this bundle on this machine."""


class CapacityError(BackendError):
    """No room for another program beside those that run; a later try may find some."""


class DeviceMemoryError(BackendError):
    """A GPU without enough memory; the engine stays usable."""


class ProgramError(RevstepError, ValueError):
    """A sampler that can't be a program: not affine, non-finite, or reaching too far back."""


class NonFiniteError(RevstepError):
    """A run whose network output held NaN or infinity."""


class Cancelled(RevstepError):  # noqa: N818  (not an error of anybody)
    """A run that its caller cancelled."""


class DeadlineError(RevstepError):
    """A request that was not done by its deadline; its slots are free."""


class ServiceClosedError(RevstepError):
    """A service that takes no more requests: it is draining, or closed."""


class QueueFullError(RevstepError):
    """A service whose queue is full.

    Args:
        message: As for ``RevstepError``.
        retry_after_s: When a place may be free, in seconds.

    Attributes:
        retry_after_s: As given.
    """

    def __init__(self, *message: str | Argument, retry_after_s: float = 1.0) -> None:
        super().__init__(*message)
        self.retry_after_s = retry_after_s
