"""The condition of a class label."""

from __future__ import annotations

import logging

from revstep.engine.spec.denoiser import Condition

logger = logging.getLogger(__name__)


class NullClassError(ValueError):
    """The caller's null class does not fit the folder."""


def class_labels(
    classes: int | None, null_class: int | None, known: int | None = None
) -> tuple[Condition, ...]:
    """The condition ``class_labels``; none without classes.

    Args:
        classes: How many rows the network's table has, or None.
        null_class: The caller's null class.
        known: The null class that the network is known to have.

    Raises:
        NullClassError: A null class out of range.
    """
    if classes is None:
        return ()
    null = known if null_class is None else null_class
    if null is not None and not 0 <= null < classes:
        raise NullClassError(
            f"null_class={null} is out of range; this model has the classes 0 to {classes - 1}"
        )
    if null is None:
        logger.warning(
            "the model has %d classes and no null class was named, so the bundle has no "
            "classifier-free guidance; if one of them (often the last, %d) means 'no class', pass "
            "--null-class %d",
            classes, classes - 1, classes - 1,
        )  # fmt: skip
    return (Condition(name="class_labels", dtype="int64", null=null, classes=classes),)
