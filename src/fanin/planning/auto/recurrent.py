"""Recurrent layers: input and recurrent matrices, gate biases."""

from fanin.graph.role import Role
from fanin.planning.recipe import Decision
from fanin.planning.subject import Circumstances, Subject
from fanin.schemes import Blockwise, Ones, Orthogonal, Xavier, Zeros


def recurrent_weight(subject: Subject, circumstances: Circumstances) -> Decision:
    """Orthogonal recurrent matrices, Xavier input matrices, each gate on its own."""
    role = subject.role
    gates = len(subject.axes.block_sizes) or 1
    each = f"each of {gates} gates on its own" if gates > 1 else "one matrix"
    if role.role is Role.RECURRENT:
        reason = f"recurrent: orthogonal, {each}, so that the state neither grows nor fades"
        return Decision(Orthogonal(), reason, role.evidence)
    return Decision(Xavier(), f"input of a recurrent layer: Xavier, {each}", role.evidence)


def recurrent_bias(subject: Subject, circumstances: Circumstances) -> Decision:
    """Zero, but 1 for the forget gate of an LSTM, in one of torch's two biases only."""
    role = subject.role
    gates = role.block_names
    # torch adds bias_ih and bias_hh: 1 in both would make 2.
    first = not subject.local_name.startswith("bias_hh")
    if role.kind == "lstm" and "f" in gates and first:
        schemes = tuple(Ones() if gate == "f" else Zeros() for gate in gates)
        reason = "LSTM bias: forget gate 1, others 0, so that memory lasts at the start"
        return Decision(Blockwise(schemes), reason, role.evidence)
    other = "; the forget gate's 1 is in bias_ih" if role.kind == "lstm" and not first else ""
    return Decision(Zeros(), f"recurrent bias: 0{other}", role.evidence)
