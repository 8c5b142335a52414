"""PyTorch: tensors through their own reducers, their storages as shared memory, gradients along with them.

A tensor on a CUDA device is read into main memory and put on the same device at the target, where there is one.
"""

from __future__ import annotations

import ctypes
import importlib
import io
import sys
from typing import Any

from .memory import INLINE_BYTES_MAX, Block, flat
from .place import current


def torch() -> Any:
    return sys.modules["torch"]


def reducer_for(kind: type) -> Any:
    loaded = sys.modules.get("torch")
    if loaded is None or not hasattr(loaded, "Tensor"):
        return None
    if issubclass(kind, loaded.Tensor):
        return reduce_tensor
    if issubclass(kind, loaded.TypedStorage):
        return reduce_typed_storage
    if issubclass(kind, loaded.UntypedStorage):
        return reduce_storage
    if issubclass(kind, loaded.jit.ScriptModule):
        return reduce_script
    return None


def reduce_tensor(carrier: Any, tensor: Any) -> Any:
    carrier.needs("torch")
    if tensor.is_cuda:
        carrier.cuda_used = True
    if not tensor.is_leaf:
        carrier.warn("keeps its value; the graph that computed it, for backward(), stays")
    reduced = tensor.__reduce_ex__(5)
    gradient = tensor.grad if tensor.is_leaf else None
    if gradient is None or isinstance(reduced, str) or len(reduced) > 2:
        return reduced
    # Its own reducer leaves the gradient out.
    return (*reduced, (gradient,), None, None, set_gradient)


def reduce_typed_storage(carrier: Any, storage: Any) -> Any:
    return make_typed_storage, (_one(carrier, storage._untyped_storage), storage.dtype)


def _one(carrier: Any, storage: Any) -> Any:
    """The same object for the same storage: torch makes wrappers as it needs them."""
    return carrier.once(("storage", storage._cdata), storage, lambda: storage)


def reduce_storage(carrier: Any, storage: Any) -> Any:
    if _one(carrier, storage) is not storage:
        return same_storage, (_one(carrier, storage),)
    place = str(storage.device)
    if place.startswith("cuda"):
        carrier.cuda_used = True
    held = storage if place == "cpu" else carrier.once(storage._cdata, storage, storage.cpu)
    address, size = held.data_ptr(), held.nbytes()
    if storage.resizable() and size <= INLINE_BYTES_MAX:
        # Torch's own memory: no array looks into it, or torch would not let it be resized.
        return make_small_storage, (ctypes.string_at(address, size) if size else b"", place)
    memory = carrier.memory(address, size, held)
    memory.use(address, address + size)
    if (address, size) == (memory.address, memory.size) and memory.kind["k"] == "bytes":
        memory.kind = {"k": "torch"}
    return make_storage, (memory, address, size, place)


def reduce_script(carrier: Any, module: Any) -> Any:
    return make_script, (module.save_to_buffer(),)


def reduce_array_of_tensor(carrier: Any, array: Any, tensor: Any) -> Any:
    """An array made by ``tensor.numpy()``: it goes on sharing the tensor's memory."""
    storage = tensor.untyped_storage()
    offset = int(array.__array_interface__["data"][0]) - storage.data_ptr()
    return make_array_of_tensor, (storage, offset, array.shape, array.strides, array.dtype, array.flags.writeable)


# --- the other halves


def set_gradient(made: Any, state: tuple[Any]) -> None:
    made.grad = state[0]


def make_typed_storage(untyped: Any, dtype: Any) -> Any:
    return torch().storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


def same_storage(storage: Any) -> Any:
    return storage


def make_small_storage(contents: bytes, place: str) -> Any:
    library = importlib.import_module("torch")
    storage, memory = storage_block(library, len(contents))
    if contents:
        memory[:] = contents
    return _placed(library, storage, place)


def make_storage(block: Block, address: int, size: int, place: str) -> Any:
    library = importlib.import_module("torch")
    if isinstance(block.owner, library.UntypedStorage) and block.owner.nbytes() == size:
        storage = block.owner
    else:
        offset = address - block.origin
        if not size:
            return _placed(library, library.UntypedStorage(0), place)
        part = flat(block.owner)[offset : offset + size]
        storage = library.frombuffer(part, dtype=library.uint8).untyped_storage()
    return _placed(library, storage, place)


def _placed(library: Any, storage: Any, place: str) -> Any:
    if place == "cpu":
        return storage
    kind, _, number = place.partition(":")
    if kind == "cuda" and library.cuda.is_available():
        index = int(number or 0)
        if index < library.cuda.device_count():
            return storage.cuda(index)
        current().note(f"What was on {place} is on cuda:0: there are fewer CUDA devices here.")
        return storage.cuda(0)
    current().note(f"What was on {place} is in main memory: there is no such device here.")
    return storage


def make_script(buffer: bytes) -> Any:
    return importlib.import_module("torch.jit").load(io.BytesIO(buffer))


def make_array_of_tensor(storage: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    numpy = importlib.import_module("numpy")
    flat = torch().empty(0, dtype=torch().uint8).set_(storage).numpy()
    made = numpy.ndarray(shape, dtype, flat, offset, strides)
    made.flags.writeable = writeable
    return made


def storage_block(library: Any, size: int) -> tuple[Any, memoryview]:
    """Memory for a storage, allocated by torch, so that it can be resized like any other."""
    storage = library.UntypedStorage(size)
    if not size:
        return storage, memoryview(b"")
    return storage, memoryview((ctypes.c_ubyte * size).from_address(storage.data_ptr())).cast("B")
