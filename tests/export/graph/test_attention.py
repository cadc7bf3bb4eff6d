"""Attention in a graph is PyTorch's, with masks of every form and rows of them all off."""

import warnings

import numpy as np
import onnxruntime as ort
import pytest
import torch
from torch import nn
from torch.nn.functional import scaled_dot_product_attention as attend

from revstep.export.graph.attention import masks_as_given, translations

OFF, LOWEST = -torch.inf, torch.finfo(torch.float32).min
NAMES = ["q", "k", "v", "mask"]


def floats(on, low):
    return torch.zeros(on.shape).masked_fill(~on, low)


def heads(x, count=2):
    return x.reshape(x.shape[0], x.shape[1], count, -1).transpose(1, 2)


def grouped(q, k, v, m):
    key, value = (heads(part[..., :4]) for part in (k, v))  # 2 heads of keys for 4 of queries
    return attend(heads(q, 4), key, value, attn_mask=m[:, None, None], enable_gqa=True)


def of_heads(q, k, v, mask):
    return attend(heads(q), heads(k), heads(v), attn_mask=mask[:, None, None])


FORMS = {
    "bool": of_heads,
    "-inf": lambda q, k, v, m: of_heads(q, k, v, floats(m, OFF)),
    "large": lambda q, k, v, m: of_heads(q, k, v, floats(m, -1e4)),
    "lowest": lambda q, k, v, m: of_heads(q, k, v, floats(m, LOWEST)),
    "bool, three axes": lambda q, k, v, m: attend(q, k, v, attn_mask=m[:, None]),
    "-inf, three axes": lambda q, k, v, m: attend(q, k, v, attn_mask=floats(m, OFF)[:, None]),
    "none, three axes": lambda q, k, v, m: attend(q, k, v, scale=0.3),
    "causal, three axes": lambda q, k, v, m: attend(q, k, v, is_causal=True),
    "bool, five axes": lambda q, k, v, m: attend(
        heads(q)[:, None], heads(k)[:, None], heads(v)[:, None], attn_mask=m[:, None, None, None]
    ),
    "grouped heads": grouped,
}  # fmt: skip


class Attend(nn.Module):
    """All forms at once."""

    def forward(self, q, k, v, mask):
        return tuple(form(q, k, v, mask) for form in FORMS.values())


@pytest.fixture(scope="module")
def graph(tmp_path_factory):
    """Runs the graph of ``Attend``; returns a dict of the forms' outputs."""
    path, batch = tmp_path_factory.mktemp("graph") / "g.onnx", {0: torch.export.Dim("batch")}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Attend(), inputs(2), path, dynamo=True, opset_version=20, verbose=False,
            custom_translation_table=translations(), dynamic_shapes=(batch,) * 4,
            input_names=NAMES,
        )  # fmt: skip
    session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(given):
        fed = {name: part.numpy() for name, part in zip(NAMES, given, strict=True)}
        return dict(zip(FORMS, session.run(None, fed), strict=True))

    return run


def inputs(rows):
    generator = torch.Generator().manual_seed(rows)
    q, k, v = (torch.randn(rows, n, 8, generator=generator) for n in (3, 5, 5))
    mask = torch.rand(rows, 5, generator=generator) > 0.5
    mask[0], mask[-1] = False, True
    return q, k, v, mask


@pytest.mark.parametrize("rows", [1, 4])
@pytest.mark.parametrize("form", FORMS)
def test_the_graph_attends_as_torch_does_with_rows_all_off(form, rows, graph):
    given = inputs(rows)
    want = FORMS[form](*given)
    got = graph(given)[form]
    assert torch.isfinite(want).all()
    np.testing.assert_allclose(got, want.numpy(), atol=2e-6)
    if form.startswith(("bool", "-inf")) and rows > 1:
        assert not got[0].any()  # an even mean of the values without the fix


@pytest.mark.parametrize("form", ["bool", "-inf", "bool, three axes"])
def test_nan_in_a_query_is_not_hidden_by_its_mask(form, graph):
    q, k, v, mask = inputs(3)
    q[1, 2] = torch.nan
    mask[1] = True
    want = FORMS[form](q, k, v, mask).numpy()
    got = graph((q, k, v, mask))[form]
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    assert np.isnan(got).any()


def test_whether_a_mask_is_causal_is_asked_again_afterwards():
    from torch.nn.modules import transformer

    ask = transformer._detect_is_causal_mask
    causal = nn.Transformer.generate_square_subsequent_mask(3)
    with masks_as_given():
        assert not transformer._detect_is_causal_mask(causal)
        assert transformer._detect_is_causal_mask(causal, is_causal=True)
    assert transformer._detect_is_causal_mask is ask
    assert transformer._detect_is_causal_mask(causal)
