"""Columns of a matrix found behind views, and what is common to whom because of them.

Correlations are between samples: E[x x′]/E[x²] over 24 draws of the weights. One of them is known
to 1/√(draws × features) or better, 0.03 here; the tolerances are twice that.
"""

import numpy as np
import pytest
import torch
from building_blocks import Module, batch, dense
from torch import nn
from torch.nn import functional as F  # noqa: N812

import fanin
from fanin.graph.recording import record
from fanin.propagation.columns import numbering_columns
from fanin.propagation.layout import plain_axes

HEADS, WIDTH = 3, 5


def views(m, x):
    q, k, v = m.a(x).view(4, 6, 3, HEADS, WIDTH).permute(2, 0, 3, 1, 4).unbind(0)
    return q, (2 * k).transpose(-1, -2), v.reshape(4 * HEADS, 6, WIDTH), m.a(x).relu()


def test_heads_and_features_are_columns_and_samples_and_tokens_are_not():
    graph = record(Module(views, a=dense(7, 3 * HEADS * WIDTH)), batch(4, 6, 7))
    flags = [
        numbering_columns(graph, out, plain_axes(graph.tensors[out].shape)) for out in graph.outputs
    ]
    assert flags[0] == (False, True, False, True)
    assert flags[1] == (False, True, True, False)
    # Samples and heads in one atom differ in their columns.
    assert flags[2] == (True, False, True)
    split = numbering_columns(graph, graph.outputs[2], ((4, HEADS), (6,), (WIDTH,)))
    assert split == (False, True, False, True)
    assert flags[3] is None


def correlations(build, inputs, wanted, draws=24):
    """Predicted and measured sample correlation of the last tensor that is wanted."""

    def last(signals):
        return [s for s in signals.tensors.values() if wanted(s)][-1].correlation

    torch.manual_seed(0)
    predicted = last(fanin.predict(build(), inputs))
    cosines = []
    for seed in range(draws):
        torch.manual_seed(seed)
        cosines.append(last(fanin.measure(build(), inputs)))
    return predicted, float(np.mean(cosines))


@pytest.mark.parametrize(("features", "tokens"), [(12, 24), (24, 12)])
@pytest.mark.parametrize("fused", [True, False])
def test_one_query_leans_the_same_way_in_every_sample(features, tokens, fused):
    def run(m, x):
        k, v = (part(x).view(len(x), tokens, 2, -1).transpose(1, 2) for part in (m.k, m.v))
        q = m.q.expand(len(x), 2, tokens, 64)
        if fused:
            return F.scaled_dot_product_attention(q, k, v)
        shares = (q.flatten(0, 1) @ k.flatten(0, 1).transpose(1, 2) / 8).softmax(-1)
        return (shares @ v.flatten(0, 1)).view(q.shape)

    def build():
        q = nn.Parameter(torch.randn(1, 2, tokens, 64))
        return Module(run, k=dense(features, 128), v=dense(features, 128), q=q)

    # The output has the samples in front, and is the last with heads.
    predicted, measured = correlations(
        build, batch(16, tokens, features), lambda s: len(s.shape) == 4
    )
    assert measured > 0.1
    assert predicted == pytest.approx(measured, abs=0.06)


@pytest.mark.parametrize(("terms", "count"), [(6, 4), (10, 7)])
def test_units_of_few_weights_differ_in_the_mean_of_their_maximum(terms, count):
    def run(m, x):
        return F.layer_norm(m.a(x).amax(1), (256,))

    predicted, measured = correlations(
        lambda: Module(run, a=dense(terms, 256)),
        batch(48, count, terms),
        lambda s: s.operation == "native_layer_norm" and len(s.shape) == 2 and s.shape[1] == 256,
    )
    assert measured > 0.12
    assert predicted == pytest.approx(measured, abs=0.06)
