"""torch: what PyTorch's own ``reset_parameters`` gives every standard layer."""

import math

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe, leave
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Constant, Normal, Ones, PyTorchDefault, Xavier, Zeros

_RECURRENT = {"RNN", "LSTM", "GRU", "RNNCell", "LSTMCell", "GRUCell", "RNNBase", "RNNCellBase"}
_NORMS = {
    "BatchNorm1d",
    "BatchNorm2d",
    "BatchNorm3d",
    "SyncBatchNorm",
    "InstanceNorm1d",
    "InstanceNorm2d",
    "InstanceNorm3d",
    "LayerNorm",
    "GroupNorm",
    "RMSNorm",
}


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """The distribution of the layer's ``reset_parameters``, by its type."""
    layer, local, shape = subject.layer_type, subject.local_name, subject.shape
    if "Transformer" in subject.containers and len(shape) > 1:
        # nn.Transformer draws every matrix below it anew, by the shape alone.
        return Decision(PyTorchDefault("attention"), "nn.Transformer: Xavier uniform by shape")
    if layer == "MultiheadAttention":
        return _attention(subject)
    if layer == "Linear" and local == "bias" and "MultiheadAttention" in subject.containers:
        return Decision(Zeros(), "MultiheadAttention: out_proj's bias 0")
    if layer in {"Linear", "Bilinear"} or "Conv" in layer:
        return _weight_or_bias(subject, circumstances)
    if layer in {"Embedding", "EmbeddingBag"} and local == "weight":
        return Decision(PyTorchDefault("embedding"), f"{layer}: N(0, 1)")
    if layer in _RECURRENT and local.startswith(("weight_", "bias_")):
        scheme = PyTorchDefault(fan=subject.settings["hidden_size"])
        return Decision(scheme, f"{layer}: U(±1/√hidden_size), biases too")
    if layer in _NORMS and local in {"weight", "bias"}:
        scale = local == "weight"
        return Decision(Ones() if scale else Zeros(), f"{layer}: {'1' if scale else '0'}")
    if layer == "PReLU" and local == "weight":
        return Decision(Constant(float(subject.settings.get("init", 0.25))), "PReLU: its init")
    return leave(f"left: {subject.type_name}'s {local!r} is no parameter of a layer of torch.nn")


def _weight_or_bias(subject: Subject, circumstances: Circumstances) -> Decision:
    """Linear, Bilinear and convolutions: U(±1/√n) for weight and bias alike."""
    weight = circumstances.of_module(subject.module).get("weight")
    if subject.local_name not in {"weight", "bias"}:
        return leave(f"left: {subject.local_name!r} is no parameter of {subject.layer_type}")
    if weight is None:
        return leave("left: the weight beside it is not the model's own, so its fan_in is unknown")
    # By the shape alone, as torch reads it: a transposed convolution's "fan_in" is C_out·k.
    taps = weight.shape[2:] if subject.layer_type != "Bilinear" else ()
    fan_in = weight.shape[1] * math.prod(taps)
    if fan_in == 0:
        return leave("left: no inputs")
    text = f"{subject.layer_type}: U(±1/√{fan_in}), PyTorch's default; not He"
    return Decision(PyTorchDefault(fan=fan_in), text, (f"weight of shape {weight.shape}",))


def _attention(subject: Subject) -> Decision:
    local, width = subject.local_name, subject.shape[-1]
    if local in {"bias_k", "bias_v"}:
        return Decision(Normal(std=width**-0.5), "MultiheadAttention: Xavier normal over (1, 1, d)")
    if subject.role.role is Role.PACKED_QKV:
        # Xavier over the stacked (3d, d) matrix: half the variance of one of (d, d).
        text = "MultiheadAttention: Xavier uniform over the stacked q, k, v"
        return Decision(PyTorchDefault("attention"), text)
    if local.endswith("_proj_weight"):
        return Decision(Xavier(distribution="uniform"), "MultiheadAttention: Xavier uniform")
    return Decision(Zeros(), "MultiheadAttention: in_proj_bias 0")


RECIPE = Recipe(
    name="torch",
    summary="PyTorch's own reset_parameters for every layer of torch.nn.",
    paper="",
    docs="""\
Linear, Bilinear and convolutions draw weight and bias from U(±1/√n), with n as torch reads it off
the shape; that is a third of LeCun's variance and a sixth of He's. Embeddings N(0, 1) with the
padding row 0, recurrent layers U(±1/√hidden_size), MultiheadAttention Xavier uniform over the
stacked q, k, v, norms 1 and 0. Parameters of your own modules are left, since PyTorch has no
default for them.""",
    decide=decide,
    graph=GraphUse.IGNORED,
)
