"""Watch every ATen operation of one call of a model, below autograd."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode, is_traceable_wrapper_subclass

from fanin.graph.arguments import (
    contains,
    is_composite,
    parts_of,
    plain,
    tensors_in,
    written_arguments,
)
from fanin.graph.calling import call, leaves
from fanin.graph.graph import Graph, Operation, ParameterInfo, Ref, TensorKind
from fanin.graph.guarding import Guard
from fanin.graph.identity import Geometry
from fanin.graph.input_moments import InputMoments, moments_of_input
from fanin.graph.inventory import named_tensors, read_modules
from fanin.graph.meta_gaps import run
from fanin.graph.module_paths import ModulePaths
from fanin.graph.values import Values

Observer = Callable[[Operation, tuple[torch.Tensor, ...]], None]

# Views that change no element of what they show; recorded lazily (see Recorder._is_detached).
_DETACH = ("detach", "alias")


class Recorder(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A dispatch mode that writes down each operation as it runs.

    Args:
        model: the module that will run.
        observe: called after each operation with the operation and the tensors that it returned
            (the first ``len(outputs)`` of ``operation.outputs``). They are the very tensors that
            the model goes on with, so that ``torch.autograd.grad`` can be asked for their
            gradients after the call; they carry no graph yet while ``observe`` runs, and what
            ``observe`` computes from them is not recorded. The later contents of a tensor that
            the model overwrites in place are those of its new id.

    Ids are given in order: parameters, buffers, inputs, then values as they appear; two runs of
    one model on equal inputs give equal ids.

    Examples:
        >>> model = nn.Linear(2, 3)
        >>> recorder = Recorder(model)
        >>> _ = recorder.run(torch.ones(1, 2))
        >>> [operation.name for operation in recorder.graph.operations]
        ['t', 'addmm']
    """

    def __init__(self, model: nn.Module, observe: Observer | None = None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._model = model
        self._observe = observe
        self._paths = ModulePaths(model)
        self._values = Values()
        self._operations: list[Operation] = []
        self._inputs: tuple[int, ...] = ()
        self._input_moments: dict[int, InputMoments] = {}
        self._outputs: tuple[int, ...] = ()
        # Alive until the end: a freed constant's memory could otherwise pass for another value.
        self._kept_alive: list[Any] = []
        self._contexts = ExitStack()
        self._guard = Guard()
        self.input_tensors: list[tuple[int, torch.Tensor]] = []
        """Ids and tensors of the inputs, in order."""
        self.constant_tensors: list[tuple[int, torch.Tensor]] = []
        """Ids and tensors of the constants that operations read, in order."""
        parameters, buffers = named_tensors(model)
        self._parameters: Mapping[str, ParameterInfo] = parameters.infos
        self._buffers: Mapping[str, ParameterInfo] = buffers.infos
        self.ids: dict[str, int] = {}
        """Name of every parameter and buffer -> the id of its value at the start."""
        for kind, named in ((TensorKind.PARAMETER, parameters), (TensorKind.BUFFER, buffers)):
            for name, tensor in named.tensors.items():
                first = named.infos[name].tied_to
                if first is not None:
                    self.ids[name] = self.ids[first]
                    continue
                owners = (name,) if kind is TensorKind.PARAMETER else ()
                self.ids[name] = self._values.new(tensor, kind, name, owners)
                self._open(tensor, self.ids[name])
                if kind is TensorKind.PARAMETER:
                    self._guard.add((tensor,))

    def run(self, inputs: Any) -> Any:
        """Call the model once under this recorder and return what it returned.

        Gradients are enabled and fused fast paths are off, so that no operation hides others.

        Raises:
            DataError: the inputs do not fit the signature of forward.
            RecordError: the model raised.
        """
        for tensor in self._parts(inputs):
            found = self._values.identity.find(tensor)
            value = found.value if found else self._values.new(tensor, TensorKind.INPUT)
            self.input_tensors.append((value, tensor))
            self._values.of_data(value)
            self._guard.add((tensor,))
            moments = moments_of_input(tensor)  # now: the model may write into its inputs
            if moments is not None:
                self._input_moments[value] = moments
        self._inputs = tuple(value for value, _ in self.input_tensors)
        self._kept_alive.append(inputs)
        with self:
            outputs = call(self._model, inputs)
        self._outputs = tuple(self._read(tensor) for tensor in self._parts(outputs))
        return outputs

    def put_back(self) -> None:
        """Undo what the model wrote into its own parameters and into its inputs."""
        self._guard.put_back()

    @staticmethod
    def _parts(value: Any) -> list[torch.Tensor]:
        return [part for tensor in leaves(value) for part in parts_of(tensor)]

    def _open(self, wrapper: torch.Tensor, value: int) -> None:
        """What a wrapper of a parameter holds is that parameter, for operations see it alone."""
        for part in parts_of(wrapper):
            if part is not wrapper:
                self._derive("unwrapped", part, (Ref(value),))

    @property
    def graph(self) -> Graph:
        """What was recorded, as a frozen value."""
        return Graph(
            model_type=type(self._model).__name__,
            operations=tuple(self._operations),
            tensors=dict(self._values.infos),
            parameters=self._parameters,
            buffers=self._buffers,
            modules=read_modules(self._model),
            inputs=self._inputs,
            outputs=self._outputs,
            input_moments=dict(self._input_moments),
        )

    def __enter__(self) -> "Recorder":
        with ExitStack() as stack:
            stack.enter_context(self._paths)
            stack.enter_context(torch.enable_grad())
            # A frozen nn.TransformerEncoder in eval mode would run as one opaque operation.
            fast = torch.backends.mha.get_fastpath_enabled()
            stack.callback(torch.backends.mha.set_fastpath_enabled, fast)
            torch.backends.mha.set_fastpath_enabled(False)
            super().__enter__()  # type: ignore[no-untyped-call]
            self._contexts = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            super().__exit__(kind, error, trace)  # type: ignore[no-untyped-call]
        finally:
            self._contexts.close()

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        read = tensors_in((args, kwargs))
        if any(is_traceable_wrapper_subclass(tensor) for tensor in read):
            return NotImplemented  # the wrapper computes with its parts, which come back here
        if func.namespace == "prim":
            return func(*args, **kwargs)  # a question about a tensor, such as its device
        ragged = any(tensor.is_nested for tensor in read)  # these have kernels of their own
        if not ragged and (torch.is_inference_mode_enabled() or is_composite(func)):
            # Without autograd above, composite operations such as ``linear`` arrive whole.
            with _Reentered(self):
                parts = func.decompose(*args, **kwargs)
            if parts is not NotImplemented:
                return parts
        name = func._schema.name.split("::")[-1]
        refs = {id(tensor): self._read(tensor) for tensor in read}
        written = written_arguments(func, args, kwargs)
        self._guard.save(written)
        result = run(func, args, kwargs)
        made = tensors_in(result)
        if name in _DETACH and len(made) == 1 and made[0] is not read[0]:
            # Autograd itself detaches what it saves for backward; only a detached tensor that is
            # read again belongs to the model.
            # An alias (``x[:]``) lets gradients through: it is another name of the same value.
            self._values.identity.hold(made[0], refs[id(read[0])], detached=name == "detach")
            return result
        inputs = tuple(refs[id(tensor)] for tensor in read)
        written_ids = {id(tensor) for tensor in written}
        outputs = [
            self._values.computed(tensor, inputs, written=id(tensor) in written_ids)
            for tensor in [*made, *(t for t in written if not contains(made, t))]
        ]
        self._append(
            name,
            func._overloadname,
            tuple(plain(value, refs) for value in args),
            {key: plain(value, refs) for key, value in kwargs.items()},
            inputs,
            outputs,
            tuple(made),
        )
        return result

    def _append(
        self,
        name: str,
        overload: str,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        inputs: Sequence[int],
        outputs: Sequence[int],
        tensors: tuple[torch.Tensor, ...],
    ) -> None:
        operation = Operation(
            index=len(self._operations),
            name=name,
            overload=overload,
            module=self._paths.current,
            args=args,
            kwargs=kwargs,
            inputs=tuple(inputs),
            outputs=tuple(outputs),
        )
        self._operations.append(operation)
        if self._observe is not None:
            self._observe(operation, tensors)

    def _read(self, tensor: torch.Tensor) -> int:
        """Id of the value that ``tensor`` holds, made now where it has none."""
        if isinstance(tensor, nn.Parameter) and not self._values.identity.knows(tensor):
            self._adopt(tensor)
        found = self._values.identity.find(tensor)
        if found is None:
            value = self._values.new(tensor, TensorKind.CONSTANT)
            self.constant_tensors.append((value, tensor))  # which also keeps them alive
            return value
        if found.detached and not found.writes_since and self._values.has_history(found.value):
            return self._derive("detach", tensor, (Ref(found.value),))
        if found.writes_since:
            last, geometry = found.writes_since[-1]
            if len(found.writes_since) == 1 and geometry.covers(Geometry.of(tensor)):
                return self._derive("view", tensor, (Ref(last), tuple(tensor.shape)))
            # The memory was written through other views: this value is the old one with those
            # parts replaced, as slice_scatter would give it.
            writers = tuple(Ref(value) for value, _ in found.writes_since)
            return self._derive("updated", tensor, (Ref(found.value), *writers))
        if not found.exact:
            return self._derive("alias", tensor, (Ref(found.value),))
        return found.value

    def _adopt(self, parameter: nn.Parameter) -> None:
        """A parameter that took another's place for the call, as FSDP's gathered ones do."""
        for name, current in self._model.named_parameters(remove_duplicate=False):
            if current is parameter and name in self.ids:
                self._values.identity.hold(parameter, self.ids[name])

    def _derive(self, name: str, tensor: torch.Tensor, args: tuple[Any, ...]) -> int:
        """Record an operation that nobody called: memory shared behind the recorder's back."""
        inputs = tuple(arg.tensor for arg in args if isinstance(arg, Ref))
        value = self._values.computed(tensor, inputs, written=False)
        self._append(name, "shared_memory", args, {}, inputs, (value,), (tensor,))
        return value


class _Reentered:
    """The mode again, inside its own dispatch, for the parts of a composite operation."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def __enter__(self) -> None:
        TorchDispatchMode.__enter__(self._recorder)  # type: ignore[no-untyped-call]

    def __exit__(self, *error: Any) -> None:
        TorchDispatchMode.__exit__(self._recorder, *error)  # type: ignore[no-untyped-call]
