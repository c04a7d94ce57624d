"""The page of a plan: a picture of the model's blocks, and every parameter with its reason."""

import math

from fanin import __version__
from fanin.planning.assignment import Plan
from fanin.planning.plan_table import describe_scheme, fold_plan, show_shape, show_std, summary
from fanin.reporting.html.page import render
from fanin.reporting.html.plan_boxes import box_view, end_of, gain_of, stds_of
from fanin.reporting.picture.flow import plan_flow
from fanin.reporting.picture.layout import BOX_HEIGHT, BOX_WIDTH, lay_out
from fanin.signals import Signals


def plan_page(plan: Plan, signals: Signals | None = None) -> str:
    """The plan as one HTML file that needs no network.

    Args:
        plan: the plan.
        signals: those of ``fanin.predict`` under this plan (or measured ones): the picture then
            shows the RMS of each layer's output too.
    """
    drawing = lay_out(plan_flow(plan))
    layers = {layer.weight: layer for layer in signals.layers} if signals else {}
    return render(
        "plan.html",
        version=__version__,
        title=f"How {plan.model_type or 'the model'} is initialised",
        plan=plan,
        summary=summary(plan),
        parameters=sum(math.prod(a.shape) for a in plan.values()),
        drawing=drawing,
        boxes=[box_view(box, layers) for box in drawing.boxes],
        source=signals.source if signals else "",
        box_width=BOX_WIDTH,
        box_height=BOX_HEIGHT,
        rows=fold_plan(plan),
        shortened=end_of,
        describe=describe_scheme,
        show_shape=show_shape,
        show_std=show_std,
        stds=stds_of,
        gain=gain_of,
    )
