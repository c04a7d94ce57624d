"""What the recipe ``auto`` decides: one file per context.

``decide`` reads a parameter's role and hands it to the file of its context; each of them is a
function from a subject and its model to a decision.
"""

from collections.abc import Mapping

from fanin.graph.role import Role
from fanin.planning.auto.adapter import adapter
from fanin.planning.auto.attention import attention
from fanin.planning.auto.bias import bias
from fanin.planning.auto.branch_rate import advice as of_single_layers
from fanin.planning.auto.constructor import advice as of_constructor
from fanin.planning.auto.convolution import convolution
from fanin.planning.auto.denoiser import closed_in_denoiser
from fanin.planning.auto.embedding import embedding
from fanin.planning.auto.first_layer import advice as of_inputs
from fanin.planning.auto.first_layer import matched_to_data
from fanin.planning.auto.gated import down_projection, inner_projection
from fanin.planning.auto.head import head, modulation, router
from fanin.planning.auto.learning_rate import advice as of_post_norm
from fanin.planning.auto.linear import linear
from fanin.planning.auto.message_passing import corrected_for_degree
from fanin.planning.auto.norm import norm_bias, norm_scale
from fanin.planning.auto.norm_free import closed_beside_attention
from fanin.planning.auto.norm_stack import advice as of_norm_stack
from fanin.planning.auto.plain_rate import advice as of_plain_stack
from fanin.planning.auto.recurrent import recurrent_bias, recurrent_weight
from fanin.planning.auto.towers import compared
from fanin.planning.recipe import Decide, Decision
from fanin.planning.small_parameters import small_parameter
from fanin.planning.subject import Circumstances, Subject

_BY_ROLE: Mapping[Role, Decide] = {
    Role.RESIDUAL_WRITER: linear,
    Role.WEIGHT: linear,
    Role.GATE_PROJECTION: inner_projection,
    Role.UP_PROJECTION: inner_projection,
    Role.DOWN_PROJECTION: down_projection,
    Role.QUERY: attention,
    Role.KEY: attention,
    Role.VALUE: attention,
    Role.PACKED_QKV: attention,
    Role.ATTENTION_OUT: attention,
    Role.HEAD: head,
    Role.MODULATION: modulation,
    Role.ROUTER: router,
    Role.EMBEDDING: embedding,
    Role.TIED_HEAD: embedding,
    Role.POSITION_TABLE: embedding,
    Role.RECURRENT_INPUT: recurrent_weight,
    Role.RECURRENT: recurrent_weight,
    Role.RECURRENT_BIAS: recurrent_bias,
    Role.BIAS: bias,
    Role.NORM_SCALE: norm_scale,
    Role.NORM_BIAS: norm_bias,
    Role.ADAPTER_DOWN: adapter,
    Role.ADAPTER_UP: adapter,
}


def decide(subject: Subject, circumstances: Circumstances) -> Decision:
    """The decision of a parameter's context, corrected for the data's size and nodes' degrees."""
    role = subject.role.role
    choose = _BY_ROLE.get(role, small_parameter)
    if role in {Role.WEIGHT, Role.RESIDUAL_WRITER} and "convolution" in subject.role.kind:
        choose = convolution
    decision = (
        closed_in_denoiser(subject, circumstances)
        or closed_beside_attention(subject, circumstances)
        or compared(subject, circumstances)
        or choose(subject, circumstances)
    )
    decision = matched_to_data(subject, circumstances, decision)
    return corrected_for_degree(subject, circumstances, decision)


def advise(circumstances: Circumstances) -> tuple[str, ...]:
    """What weights alone cannot do for a model."""
    return (
        *of_plain_stack(circumstances),
        *of_norm_stack(circumstances),
        *of_single_layers(circumstances),
        *of_post_norm(circumstances),
        *of_inputs(circumstances),
        *of_constructor(circumstances),
    )
