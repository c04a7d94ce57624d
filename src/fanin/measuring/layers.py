"""The table of layers: one row for every weight, in order of running."""

from collections.abc import Mapping

import torch

from fanin.graph.graph import Graph
from fanin.graph.role import ParameterRole
from fanin.graph.weight_uses import fans_of, kind_of, weight_uses
from fanin.measuring.histogram_bins import histogram
from fanin.measuring.watching import Watcher
from fanin.signals import LayerSignal, ParameterSignal


def layer_rows(
    model: torch.nn.Module,
    graph: Graph,
    roles: Mapping[str, ParameterRole],
    parameters: Mapping[str, ParameterSignal],
    watcher: Watcher,
    *,
    histograms: bool,
) -> tuple[LayerSignal, ...]:
    """One row for each weight that the graph uses."""
    values = dict(model.named_parameters())
    rows = []
    for use in weight_uses(graph):
        info, signal, role = graph.parameters[use.weight], parameters[use.weight], roles[use.weight]
        fans = fans_of(info.shape, role)
        # What the layer multiplies by, where that is computed: weight norm's g·v/|v|.
        made = watcher.read.weights.get(use.value)
        mean, std = (made.mean, made.std) if made else (signal.mean, signal.std)
        output = watcher.read.tensors.get(use.output)
        activated = watcher.read.tensors.get(use.activated)
        shares = watcher.read.activations.get(use.activated)
        rows.append(
            LayerSignal(
                weight=use.weight,
                module=use.weight.rpartition(".")[0],
                kind=kind_of(use, role),
                shape=info.shape,
                fan_in=fans.fan_in,
                fan_out=fans.fan_out,
                weight_mean=mean if mean is not None else float("nan"),
                weight_std=std if std is not None else float("nan"),
                output=use.output,
                activation=use.activation,
                activated=use.activated,
                output_rms=output.rms if output else None,
                activated_rms=activated.rms if activated else None,
                gradient_rms=output.gradient_rms if output else None,
                weight_gradient_rms=signal.gradient_rms,
                dead_share=shares.dead if shares else None,
                saturated_share=shares.saturated if shares else None,
                observations=shares.observations if shares else None,
                output_histogram=watcher.read.histograms.get(use.output),
                gradient_histogram=watcher.read.gradient_histograms.get(use.output),
                weight_histogram=histogram(values[use.weight]) if histograms else None,
            )
        )
    return tuple(rows)
