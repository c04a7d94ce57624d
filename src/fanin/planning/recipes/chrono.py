"""chrono: LSTM gates that remember for as long as the sequences are."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision, GraphUse, Recipe
from fanin.planning.recipes import lstm
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import ChronoBias, Zeros

LONGEST = 100.0
"""T where no recorded input says how long a sequence is."""


def longest_span(circumstances: Circumstances) -> float:
    """T: the longer of the first two axes of the recorded inputs of three axes or token ids."""
    graph = circumstances.graph
    if graph is None:
        return LONGEST
    shapes = [graph.tensors[i].shape for i in graph.inputs]
    spans = [max(shape[:2]) for shape in shapes if len(shape) in {2, 3}]
    return float(max([3, *spans])) if spans else LONGEST


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """b_f = log U(1, T − 1), b_i = −b_f in one bias of every LSTM; the rest as ``lstm``."""
    role = subject.role
    if role.role is Role.RECURRENT_BIAS and role.block_names == ("i", "f", "g", "o"):
        if subject.local_name.startswith("bias_hh"):
            return Decision(Zeros(), "LSTM bias: 0; the gates' is in bias_ih", role.evidence)
        longest = longest_span(circumstances)
        reason = f"gates that remember for up to T = {longest:g} steps"
        return Decision(ChronoBias(longest), reason, role.evidence)
    return lstm.decide(subject, circumstances)


RECIPE = Recipe(
    name="chrono",
    summary="LSTM forget gates b_f = log U(1, T − 1), input gates −b_f.",
    paper="Tallec & Ollivier, Can recurrent neural networks warp time?, ICLR 2018",
    docs="""\
T is the sequence length of the recorded inputs (the longer of their first two axes), or 100 without
inputs; for another T override the biases: {"*.bias_ih_l*": "chrono_bias_784"}. Matrices as in the
recipe lstm.""",
    decide=decide,
    graph=GraphUse.USED,
)
