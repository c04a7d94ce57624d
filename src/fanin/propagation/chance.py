"""Places that chance alone chooses: a masked autoencoder sorts random numbers and keeps the first.

One draw of them stands for all: what is picked, masked and put back in order must be the same
tokens in every operation, and no weights or data have a say in which.
"""

from fanin.graph.graph import Graph

_DRAWN = ("rand", "normal", "uniform", "exponential", "bernoulli", "multinomial")


def by_chance(graph: Graph, tensor: int) -> bool:
    """Whether a tensor is made of random numbers alone, drawn by the model's own call.

    Shapes, as in ``rand_like(x)``, count for nothing.
    """
    front, seen, drawn = [tensor], set[int](), False
    while front:
        current = front.pop()
        if current in seen:
            continue
        seen.add(current)
        maker = graph.producer.get(current)
        if maker is None:
            if graph.tensors[current].kind != "constant":
                return False
        elif any(word in maker.name for word in _DRAWN):
            # Probabilities are data; what is only overwritten is not.
            if maker.name in ("bernoulli", "multinomial") and maker.inputs:
                return False
            drawn = True
        else:
            front += maker.inputs
    return drawn
