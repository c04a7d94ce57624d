"""The values of a recording: an id for each, what is known of it, and which tensor holds it."""

from collections.abc import Sequence

import torch

from fanin.graph.arguments import shape_of
from fanin.graph.graph import TensorInfo, TensorKind
from fanin.graph.identity import Identity


class Values:
    """Gives ids in order of appearance, and follows what rests on data and what on parameters."""

    def __init__(self) -> None:
        self.identity = Identity()
        self.infos: dict[int, TensorInfo] = {}
        self._depends_on_data: set[int] = set()

    def new(
        self,
        tensor: torch.Tensor,
        kind: TensorKind,
        name: str = "",
        owners: tuple[str, ...] = (),
        *,
        written: bool = False,
    ) -> int:
        """An id for a value seen for the first time, which ``tensor`` holds from now on.

        Args:
            tensor: what holds it.
            kind: where it came from.
            name: of a parameter or buffer.
            owners: parameters that it is computed from, and nothing of the batch.
            written: it replaces, in place, what the tensor's memory held.
        """
        value = len(self.infos)
        self.infos[value] = TensorInfo(
            id=value,
            shape=shape_of(tensor),
            dtype=str(tensor.dtype).removeprefix("torch."),
            kind=kind,
            name=name,
            of_parameters=owners,
        )
        if written:
            self.identity.write(tensor, value)
        else:
            self.identity.hold(tensor, value)
        return value

    def of_data(self, value: int) -> None:
        """The value is an input of the model."""
        self._depends_on_data.add(value)

    def computed(self, tensor: torch.Tensor, inputs: Sequence[int], *, written: bool) -> int:
        """An id for what an operation made from ``inputs``."""
        owners: tuple[str, ...] = ()
        depends = any(value in self._depends_on_data for value in inputs)
        if not depends:
            names = (name for value in inputs for name in self.infos[value].of_parameters)
            owners = tuple(dict.fromkeys(names))
        value = self.new(tensor, TensorKind.COMPUTED, "", owners, written=written)
        if depends:
            self._depends_on_data.add(value)
        return value

    def has_history(self, value: int) -> bool:
        """Whether a gradient could flow back from the value: a constant detached is the same."""
        return value in self._depends_on_data or bool(self.infos[value].of_parameters)
