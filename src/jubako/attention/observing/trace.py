"""Records every operation that torch performs during a call, with what goes in and what comes out.

The mode sits below autograd, where composite functions have come apart, and does not change which path torch takes (a
mode for functions would: the fast path of torch's attention is not taken under one). What an operation overwrites is
copied first, so each tensor recorded is what it was when it was made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Node", "Trace", "decompose", "storage_of", "tensors_in"]


class Node:
    """A tensor, the operation that made it ("" for one that was there before), and the tensors that went into that."""

    __slots__ = ("arguments", "frozen", "index", "inputs", "is_constant", "op", "tensor")

    def __init__(
        self, index: int, op: str, tensor: torch.Tensor, inputs: list[Node], arguments: tuple[Any, ...]
    ) -> None:
        self.index = index
        self.op = op
        self.tensor = tensor
        self.frozen: torch.Tensor | None = None
        self.inputs = inputs
        self.arguments = arguments  # as given, with None for tensors
        self.is_constant = False  # follows from weights alone, and from indices

    @property
    def value(self) -> torch.Tensor:
        """What the tensor was when it was made."""
        return self.tensor if self.frozen is None else self.frozen


class Trace(TorchDispatchMode):  # type: ignore[misc, unused-ignore]
    """With it: the operations of all that is called. `nodes` are in order.

    `find_constants` gives the weights. It is asked at the end, too: some are made anew when a module is called.
    """

    def __init__(self, find_constants: Callable[[], Iterable[torch.Tensor]] = tuple) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.nodes: list[Node] = []
        self._latest: dict[int, Node] = {}  # by the id of the tensor, which is kept alive by the node
        self._find_constants = find_constants
        self._held = list(find_constants())  # so that nothing else gets their memory
        self._constants = {storage_of(each) for each in self._held}

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        made = {storage_of(each) for each in self._find_constants()} - self._constants
        for node in self.nodes if made else ():  # in order: what follows from them comes after
            if node.op and (
                storage_of(node.tensor) in made or (node.inputs and all(n.is_constant for n in node.inputs))
            ):
                node.is_constant = True

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        """Called by torch for each operation."""
        named = kwargs or {}
        if (result := decompose(self, func, args, named)) is not NotImplemented:
            return result
        inputs = [self._node_of(tensor) for tensor in tensors_in((args, named))]
        written = list(_written(func, args, named))
        for tensor in written:
            self._freeze(tensor)
        result = func(*args, **named)
        for tensor in written:
            self._renew(tensor, inputs)
        arguments = tuple(None if isinstance(each, torch.Tensor) else each for each in (*args, *named.values()))
        for tensor in tensors_in(result):
            node = self._add(func.overloadpacket.__name__, tensor, inputs, arguments)
            node.is_constant = all(each.is_constant for each in inputs)
        return result

    def _node_of(self, tensor: torch.Tensor) -> Node:
        node = self._latest.get(id(tensor))
        if node is None:
            node = self._add("", tensor, [], ())
            node.is_constant = storage_of(tensor) in self._constants or not tensor.is_floating_point()
        return node

    def _add(self, op: str, tensor: torch.Tensor, inputs: list[Node], arguments: tuple[Any, ...]) -> Node:
        node = Node(len(self.nodes), op, tensor, inputs, arguments)
        self.nodes.append(node)
        self._latest[id(tensor)] = node
        return node

    def _freeze(self, written: torch.Tensor) -> None:
        """Keeps what is about to be overwritten, also where it is seen through other tensors."""
        storage = storage_of(written)
        for node in self.nodes:
            if node.frozen is None and storage_of(node.tensor) == storage:
                node.frozen = node.tensor.clone()

    def _renew(self, written: torch.Tensor, inputs: list[Node]) -> None:
        """What is seen through other tensors of the same memory is something else from now on."""
        storage = storage_of(written)
        for node in list(self._latest.values()):
            if node.tensor is not written and node.frozen is not None and storage_of(node.tensor) == storage:
                self._add("written", node.tensor, [node, *inputs], ()).is_constant = node.is_constant


def decompose(mode: TorchDispatchMode, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """What a composite function gives, its parts seen by the mode, where torch does not take it apart before; else
    NotImplemented.
    """
    if not torch.is_inference_mode_enabled():
        return NotImplemented
    with mode:
        return func.decompose(*args, **named)


def _written(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """The tensors that an operation overwrites."""
    for position, argument in enumerate(func._schema.arguments):
        if argument.alias_info is not None and argument.alias_info.is_write:
            value = kwargs.get(argument.name, args[position] if position < len(args) else None)
            yield from tensors_in(value)


def tensors_in(value: Any) -> Iterator[torch.Tensor]:
    """All tensors in a value, however it is nested."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from tensors_in(each)
    elif isinstance(value, dict):
        yield from tensors_in(list(value.values()))


def storage_of(tensor: torch.Tensor) -> int:
    """What is the same for all tensors that share their memory."""
    try:
        return tensor.untyped_storage().data_ptr() or id(tensor)  # 0 where there is nothing in it
    except (NotImplementedError, RuntimeError):  # a sparse or nested tensor, or one without data
        return id(tensor)
