"""Ways out: revstep's step under the interfaces of other libraries (docs/compat.md)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from revstep.export.compat.scheduler import RevstepScheduler as RevstepScheduler

__all__ = ["RevstepScheduler"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """RevstepScheduler is of torch tensors: torch is imported with it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from revstep.export.compat import scheduler
    except ModuleNotFoundError as error:
        raise ImportError(
            f"revstep.compat needs {error.name}: pip install 'revstep[export]'"
        ) from error
    return getattr(scheduler, name)
