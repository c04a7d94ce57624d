"""auto: the choice that suits each parameter's use, read off the recorded model."""

from fanin.planning.auto import advise, decide
from fanin.planning.recipe import GraphUse, Recipe

RECIPE = Recipe(
    name="auto",
    summary="Chooses for every parameter by how the model uses it, with the reason.",
    paper="",
    docs="""\
He by quadrature before ReLU-like activations, Xavier before tanh and sigmoid, LeCun where no
activation follows, SELU's own. Deep plain stacks, without norm or skip: mirrored orthogonal
weights, orthogonal ones for tanh and other odd functions, signals as small as the depth asks for
and a head that takes this back; where neither helps, the stablest gain or the advice that a norm or
a skip is needed. First layers are matched to the data's second moment. Residual networks:
SmallInit's 2/(5·fan_in) for what reads a pre-norm, 1/fan_in elsewhere inside, writers scaled by the
number of branches (post-norm: DeepNorm's start by weights alone, and the learning rate that the
depth allows); where no norm stands, Fixup's scales and zero ends. Diffusion nets: branches,
modulations and output at zero. Attention's logits of std 1 at most, also where nothing divides them
by √d. Gated MLPs by the second moment of their product, recurrent matrices
orthogonal per gate, forget bias 1 in one of torch's two biases, embeddings of unit RMS (tied:
d^(−½)), a small head so that the loss starts near ln C (a language model's as if tied), norms 1,
biases 0. What a constructor set on purpose stays: LayerScale, gates, tokens, branch ends at zero,
constant biases.""",
    decide=decide,
    advise=advise,
    graph=GraphUse.NEEDED,
)
