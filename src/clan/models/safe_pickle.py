"""Reading pickles of named arrays without executing code, unlike `pickle.load`.

`Interpreter` supports only the instructions that a table of arrays needs. A pickle may refer only to the keys of
`_GLOBALS`, whose values are defined here. Arrays remain descriptions, for which no memory is allocated. Memory is
bounded by the pickle's size, time by a maximum number of instructions.
"""

import io
import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from clan.core.files import UnfitFile, quoted

_MOST_INSTRUCTIONS = 300_000  # a ResNet-101, 700 arrays, needs 25,000
_MOST_ARGUMENTS = 8  # a call copies them
_LONGEST_KEY = 100  # characters of a storage's name

TORCH_STORAGES = {
    "Half": "f2", "BFloat16": "bf16", "Float": "f4", "Double": "f8", "Bool": "b1",
    "Byte": "u1", "Char": "i1", "Short": "i2", "Int": "i4", "Long": "i8",
}  # fmt: skip
"""PyTorch's storage types → number format: numpy's code, or bf16."""


@dataclass
class NumpyDtype:
    """A `numpy.dtype`: its code, and a state whose second entry is the byte order."""

    code: Any
    state: Any = None


@dataclass
class NumpyArray:
    """A `numpy.ndarray`: (version, shape, dtype, whether in Fortran's order, bytes or their Latin-1 text)."""

    state: Any = None


@dataclass
class TorchStorage:
    """A flat buffer that PyTorch's tensors are views of; its bytes are outside the pickle."""

    number_format: str
    raw: bytes | memoryview = b""


@dataclass(frozen=True)
class TorchTensor:
    """A view of a storage; offset and strides in elements."""

    storage: Any
    offset: Any
    shape: Any
    strides: Any


def _tuple(items: Any) -> tuple:
    if not isinstance(items, tuple):  # converting lists or text would copy them repeatedly
        raise ValueError("impossible tuple")
    return items


def _latin1(text: Any, encoding: Any) -> Any:
    if encoding != "latin1":
        raise ValueError("impossible encoding")
    return text  # encoded later, within the memory budget


_GLOBALS: dict[str, Any] = {
    "collections OrderedDict": lambda: {},
    "builtins tuple": _tuple,
    "__builtin__ tuple": _tuple,
    "_codecs encode": _latin1,
    "__builtin__ bytes": lambda: b"",  # empty bytes in protocol 2
    "numpy ndarray": None,  # only an argument of _reconstruct
    "numpy dtype": lambda code, *_: NumpyDtype(code),
    **{f"numpy.{core}.multiarray _reconstruct": lambda *_: NumpyArray() for core in ("core", "_core")},
    **{f"numpy.{core}.multiarray scalar": lambda *_: None for core in ("core", "_core")},
    "torch._utils _rebuild_tensor": lambda *window: TorchTensor(*window),
    "torch._utils _rebuild_tensor_v2": lambda *window_and_gradient: TorchTensor(*window_and_gradient[:4]),
    "torch._utils _rebuild_parameter": lambda tensor, *_: tensor,
    **{f"torch {name}Storage": number_format for name, number_format in TORCH_STORAGES.items()},
}
"""Global names allowed in a pickle → their substitutes, the only callables on the interpreter's stack."""


class Interpreter:
    """Interprets one pickle of protocol 2 to 4 with plain data and the functions of `_GLOBALS`."""

    def __init__(self, stream: io.BytesIO):
        self.storages: dict[str, TorchStorage] = {}
        self._stream = stream
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []  # the stacks below each mark
        self._memo: dict[int, Any] = {}

    def run(self) -> Any:
        """Returns the described object; the stream is positioned after the pickle."""
        for _ in range(_MOST_INSTRUCTIONS):
            name = _NAMES[self._stream.read(1)]
            if name == "STOP":
                return self._stack.pop()
            if name not in _INSTRUCTIONS:  # before its argument is read
                raise UnfitFile(f"uses the pickle instruction {name}, which weights do not need: do not use it")
            _INSTRUCTIONS[name](self, _ARGUMENTS[name](self._stream))
        raise UnfitFile("holds far more objects than a network has: save the network's state_dict() alone")

    def _push(self, value: Any) -> None:
        self._stack.append(value)

    def _pop(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise ValueError("a pickle takes more than it has")
        items = self._stack[-count:]
        del self._stack[-count:]
        return items

    def _mark(self) -> None:
        self._outer.append(self._stack)
        self._stack = []

    def _since_mark(self) -> list[Any]:
        items, self._stack = self._stack, self._outer.pop()
        return items

    def _memoize(self, index: int | None) -> None:
        self._memo[len(self._memo) if index is None else index] = self._stack[-1]

    def _recall(self, index: int) -> None:
        self._push(self._memo[index])

    def _extend(self, items: list[Any]) -> None:
        if not isinstance(self._stack[-1], list):
            raise ValueError("a pickle appends to what is no list")
        self._stack[-1].extend(items)

    def _update(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if not isinstance(target, dict):
            raise ValueError("a pickle sets entries of what is no dict")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Hashing nested tuples that share their parts takes exponential time.
            if not isinstance(key, str) and not (isinstance(key, int) and 0 <= key < 1 << 32):
                raise ValueError("a pickle's dict has a key that is neither text nor a small number")
            target[key] = value

    def _find(self, module: Any, name: Any) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise ValueError("a pickle names an object by what is no text")
        if (name := f"{module} {name}") not in _GLOBALS:
            raise UnfitFile(f"names the Python object {quoted(name)}: save the network's state_dict() alone")
        self._push(_GLOBALS[name])

    def _call(self) -> None:
        function, arguments = self._pop(2)
        if not callable(function) or len(_tuple(arguments)) > _MOST_ARGUMENTS:
            raise ValueError("a pickle makes an impossible call")
        self._push(function(*arguments))

    def _build(self) -> None:
        (state,) = self._pop(1)
        if isinstance(self._stack[-1], NumpyArray | NumpyDtype):
            self._stack[-1].state = state
        elif not isinstance(self._stack[-1], dict):  # attributes of an OrderedDict (_metadata) are not needed
            raise ValueError("a pickle sets the state of what has none")

    def _find_storage(self) -> None:
        kind, number_format, key = _tuple(self._pop(1)[0])[:3]
        named = isinstance(key, str) and len(key) <= _LONGEST_KEY
        if kind != "storage" or not isinstance(number_format, str) or not named:
            raise ValueError("impossible storage")
        storage = self.storages.setdefault(key, TorchStorage(number_format))
        if storage.number_format != number_format:
            raise UnfitFile("reads the same bytes as two types: save it again with contiguous tensors")
        self._push(storage)


def _two_lines(stream: io.BytesIO) -> list[str]:
    # pickletools resolves backslashes, pickle does not.
    return [stream.readline(256).removesuffix(b"\n").decode() for _ in range(2)]


_NAMES = {opcode.code.encode("latin1"): opcode.name for opcode in pickletools.opcodes}
_ARGUMENTS: Mapping[str, Callable[[io.BytesIO], Any]] = {
    opcode.name: opcode.arg.reader if opcode.arg else lambda stream: None for opcode in pickletools.opcodes
} | {"GLOBAL": _two_lines}

_INSTRUCTIONS: dict[str, Callable[[Interpreter, Any], None]] = {
    "PROTO": lambda vm, _: None,
    "FRAME": lambda vm, _: None,
    **dict.fromkeys(("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"), Interpreter._push),
    **dict.fromkeys(("SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"), Interpreter._push),
    **dict.fromkeys(("SHORT_BINBYTES", "BINBYTES", "BINBYTES8"), Interpreter._push),
    **dict.fromkeys(("SHORT_BINSTRING", "BINSTRING"), Interpreter._push),  # Python 2's
    "NONE": lambda vm, _: vm._push(None),
    "NEWTRUE": lambda vm, _: vm._push(True),
    "NEWFALSE": lambda vm, _: vm._push(False),
    "EMPTY_TUPLE": lambda vm, _: vm._push(()),
    "EMPTY_LIST": lambda vm, _: vm._push([]),
    "EMPTY_DICT": lambda vm, _: vm._push({}),
    "MARK": lambda vm, _: vm._mark(),
    "TUPLE": lambda vm, _: vm._push(tuple(vm._since_mark())),
    "TUPLE1": lambda vm, _: vm._push(tuple(vm._pop(1))),
    "TUPLE2": lambda vm, _: vm._push(tuple(vm._pop(2))),
    "TUPLE3": lambda vm, _: vm._push(tuple(vm._pop(3))),
    "APPEND": lambda vm, _: vm._extend(vm._pop(1)),
    "APPENDS": lambda vm, _: vm._extend(vm._since_mark()),
    "SETITEM": lambda vm, _: vm._update(vm._pop(2)),
    "SETITEMS": lambda vm, _: vm._update(vm._since_mark()),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "MEMOIZE"), Interpreter._memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET"), Interpreter._recall),
    "GLOBAL": lambda vm, names: vm._find(*names),
    "STACK_GLOBAL": lambda vm, _: vm._find(*vm._pop(2)),
    "REDUCE": lambda vm, _: vm._call(),
    "BUILD": lambda vm, _: vm._build(),
    "BINPERSID": lambda vm, _: vm._find_storage(),
}
"""The pickle instructions that files of weights use."""
