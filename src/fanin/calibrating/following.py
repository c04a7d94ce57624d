"""Follow a run of the scratch model and hand over the result of every product as it appears."""

from collections.abc import Callable

import torch

from fanin.calibrating.products import Product, Products
from fanin.graph.graph import Operation

Visit = Callable[[Product, torch.Tensor], None]
VisitSum = Callable[[Product, str, torch.Tensor], None]


class Follower:
    """An observer that knows the operations of the run before, and follows as long as they recur.

    What is visited is the very tensor that the model goes on with, so that a visitor which scales
    it in place shows all later layers what they will get once the weight is scaled: one run
    settles a whole chain, however deep.

    Args:
        products: of the run before.
        visit: given each product and its result.
        visit_sum: given a product, its bias and the sum, where the bias is added afterwards.
    """

    def __init__(self, products: Products, visit: Visit, visit_sum: VisitSum | None = None) -> None:
        self._products, self._visit, self._visit_sum = products, visit, visit_sum
        self._sums = {
            product.added[0]: (product, product.added[1])
            for product in products.at.values()
            if product.added is not None
        }
        self.lost = False
        """Other operations ran than before: what was measured so far stands, the rest is open."""

    def __call__(self, operation: Operation, tensors: tuple[torch.Tensor, ...]) -> None:
        """See one operation; called by the recorder, where nothing is recorded."""
        names, index = self._products.names, operation.index
        self.lost = self.lost or index >= len(names) or names[index] != operation.name
        if self.lost or not tensors:
            return
        with torch.no_grad():
            product = self._products.at.get(index)
            if product is not None:
                self._visit(product, tensors[0].detach())
            elif self._visit_sum is not None and index in self._sums:
                self._visit_sum(*self._sums[index], tensors[0].detach())
