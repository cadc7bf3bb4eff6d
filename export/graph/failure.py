"""Why ``torch.onnx.export`` failed, in our words, with the module's line."""

from __future__ import annotations

from revstep.engine.errors import ExportError
from revstep.export.graph.batch_range import FREE_BATCH
from revstep.export.module.line import causes, line_of_error

MAX_LENGTH = 600  # characters of the exporter's message: its reason comes before its stacks
AFTER = (
    "\n\n",
    "Please file",
    "Framework stack",
    "User Stack",
    "The following call raised",
    "For more info",
)
BATCH = (
    "the module fixes its batch (something in its forward holds only for the example's 2 rows), so "
    f"the graph can't take another: {FREE_BATCH}"
)
VALUES = (
    "the module branches on a tensor's values, or takes a python number or a shape from them, "
    "which a graph can't: use torch.where, or compute it in __init__"
)
UNKNOWN = (
    "torch.onnx.export has no ONNX form of an operator, or of how the module uses it: write it "
    "with other operators"
)
COMPLEX = (
    "an operator on complex numbers has no ONNX form: compute with the real and imaginary parts "
    "(torch.view_as_real), or make its result in __init__"
)
OTHER = (
    "torch.onnx.export failed: the module must be traceable by torch.export (no branches on tensor "
    "values, no numpy in forward)"
)


def failure(error: Exception) -> ExportError:
    """The error that an export ends with: the likely cause, the line, and the exporter's reason."""
    chain = list(causes(error))
    text = "\n".join(map(str, chain))
    if "specialized" in text or "onstraint" in text:
        why = BATCH
    elif "data-dependent" in text:
        why = VALUES
    elif "complex-valued" in text:
        why = COMPLEX
    elif type(error).__name__ == "ConversionError":
        why = UNKNOWN
    else:
        why = OTHER
    first = chain[-1]
    said = f"{type(first).__name__}: {_reason(str(first))}"
    return ExportError(f"{why}{line_of_error(error)}. The exporter said: {said}")


def _reason(text: str) -> str:
    """An error's text in one line, without the advice and the stacks that follow the reason."""
    for follows in AFTER:
        text = text.strip().split(follows)[0]
    text = " ".join(text.split())
    return text if len(text) <= MAX_LENGTH else text[:MAX_LENGTH] + " ..."
