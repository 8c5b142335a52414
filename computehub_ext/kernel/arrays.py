"""NumPy arrays, views and memoryviews: what shared memory in the source shares it in the target."""

from __future__ import annotations

import os
import sys
from typing import Any

from .memory import INLINE_BYTES_MAX, Block, address_of
from .refusals import Refused

# Kinds of numbers that an array's own allocation can be told from a plain string.
_PLAIN_KINDS = frozenset("biufc")
_EXPORTERS = (bytes, bytearray)


def numpy() -> Any:
    return sys.modules["numpy"]


def is_array_type(kind: type) -> bool:
    loaded = sys.modules.get("numpy")
    return (
        loaded is not None and isinstance(getattr(loaded, "ndarray", None), type) and issubclass(kind, loaded.ndarray)
    )


def reduce_array(carrier: Any, array: Any) -> Any:
    np = numpy()
    kind = type(array)
    if kind is np.ma.MaskedArray:
        return _reduce_masked(np, array)
    if isinstance(array, np.memmap) and array.filename is not None and array.mode in ("r", "r+", "w+"):
        return _reduce_memmap(array)
    if kind is not np.ndarray and not _plain_subclass(np, kind):
        return NotImplemented
    carrier.needs("numpy")
    if array.dtype.hasobject:
        return _reduce_objects(np, array)
    base = array.base
    if _goes_by_numpy(carrier, array) or (kind is np.ndarray and not array.size):
        return _by_numpy(array)
    # A subclass's own attributes; set one by one, since its __setstate__ is the array's.
    rest = () if kind is np.ndarray else (dict(vars(array)), None, None, set_attributes)
    low, high = _bounds(array)
    shape, strides, dtype = array.shape, array.strides, array.dtype
    writeable = array.flags.writeable
    exporter = _exporter(np, array)
    if exporter is not None:
        offset = low_offset(array) - address_of(exporter)[0]
        return (make_from_exporter, (kind, exporter, offset, shape, strides, dtype, writeable), *rest)
    tensor = _tensor(np, array)
    if tensor is not None:
        return carrier.reduce_array_of_tensor(array, tensor)
    root = _owner(np, array)
    if root is not array and _goes_by_numpy(carrier, root):
        # Its owner goes by NumPy's own way, and may be held by a name: look into that very array.
        offset = low_offset(array) - low_offset(root)
        return (make_view, (kind, root, offset, shape, strides, dtype, writeable), *rest)
    memory = carrier.memory(*_root(root, array, low, high))
    memory.use(low, high)
    if base is None and (low, high) == (memory.address, memory.address + memory.size):
        memory.kind = _owner_kind(array, memory.kind)
    arguments = (kind, memory, low_offset(array), shape, strides, dtype, writeable, base is None)
    return (make_array, arguments, *rest)


def make_known(carrier: Any, value: Any) -> None:
    """Make an array's whole memory known before a tensor looks into a part of it."""
    if is_array_type(type(value)) and value.base is None and value.size and not value.dtype.hasobject:
        low, high = _bounds(value)
        carrier.memory(low, high - low, value)


def _plain_subclass(np: Any, kind: type) -> bool:
    """A subclass that pickles as an array does, so that a view with its attributes is all of it."""
    return (
        kind.__reduce__ is np.ndarray.__reduce__
        and kind.__reduce_ex__ is np.ndarray.__reduce_ex__
        and kind.__setstate__ is np.ndarray.__setstate__  # type: ignore[attr-defined]
    )


def _goes_by_numpy(carrier: Any, array: Any) -> bool:
    """A small array that owns its memory: a block would cost more than it saves."""
    if type(array) is not numpy().ndarray:
        return False
    small = array.base is None and array.nbytes <= INLINE_BYTES_MAX and not carrier.shares_small_arrays
    return small and _dense(array) and array.dtype.isnative


def _by_numpy(array: Any) -> Any:
    """NumPy's own older form: the array then owns its memory at the target too, as it does here."""
    reduced = array.__reduce__()
    return reduced if array.flags.writeable else (*reduced, None, None, set_read_only_state)


def set_read_only_state(made: Any, state: Any) -> None:
    made.__setstate__(state)
    made.flags.writeable = False


def low_offset(array: Any) -> int:
    """The address of the first element."""
    return int(array.__array_interface__["data"][0])


def _bounds(array: Any) -> tuple[int, int]:
    low = high = low_offset(array)
    if not array.size:
        return low, high
    for index, count in enumerate(array.shape):
        reach = (count - 1) * array.strides[index]
        low, high = (low + reach, high) if reach < 0 else (low, high + reach)
    return low, high + array.itemsize


def _owner(np: Any, array: Any) -> Any:
    """The array at the bottom, through which this one and its sisters look."""
    root = array
    while isinstance(root.base, np.ndarray):
        root = root.base
    return root


def _dense(array: Any) -> bool:
    return bool(array.flags.c_contiguous or array.flags.f_contiguous)


def _root(root: Any, array: Any, low: int, high: int) -> tuple[int, int, Any]:
    """The memory at the bottom: address, size, and what keeps it alive."""
    first, last = _bounds(root)
    if first <= low and high <= last:
        return first, last - first, root
    return low, high - low, array


def _exporter(np: Any, array: Any) -> Any:
    """The bytes or bytearray at the bottom, which the user may hold too."""
    base = array
    while True:
        below = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
        if below is None or below is base:
            return None
        if type(below) is bytes and array.flags.writeable:
            return None  # memory that NumPy took over when it unpickled: nobody else looks into it
        if type(below) in _EXPORTERS or (type(below).__name__ == "array" and type(below).__module__ == "array"):
            return below
        if not isinstance(below, (np.ndarray, memoryview)):
            return None
        base = below


def _tensor(np: Any, array: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    base = array
    while isinstance(base, np.ndarray):
        base = base.base
    return base if isinstance(base, torch.Tensor) else None


def _owner_kind(array: Any, otherwise: dict[str, Any]) -> dict[str, Any]:
    dtype = array.dtype
    if dtype.kind not in _PLAIN_KINDS or dtype.names or not dtype.isnative:
        return otherwise
    if _dense(array):
        order = "C" if array.flags.c_contiguous else "F"
        return {"k": "array", "d": dtype.str, "s": list(array.shape), "o": order}
    return otherwise


def _reduce_objects(np: Any, array: Any) -> Any:
    root = _owner(np, array)
    if root is array or not _dense(root) or type(array) is not np.ndarray or array.dtype != root.dtype:
        return NotImplemented if type(array) is not np.ndarray else _by_numpy(array)
    items = (low_offset(array) - low_offset(root)) // array.itemsize
    return make_object_view, (root, items, array.shape, array.strides, array.flags.writeable)


def _reduce_masked(np: Any, array: Any) -> Any:
    options = {"fill_value": array._fill_value, "hard_mask": array._hardmask}
    state = {"_optinfo": dict(array._optinfo or {})}
    return make_masked, (array.data, array._mask, options), state, None, None, set_attributes


def _reduce_memmap(array: Any) -> Any:
    # The file is the memory: flushed here, opened again there, so that writes go on reaching it.
    array.flush()
    mode = "r" if array.mode == "r" else "r+"
    start = array
    while isinstance(start.base, type(array)):
        start = start.base
    inside = low_offset(array) - low_offset(start)
    place = (os.path.abspath(array.filename), mode, start.offset)
    return make_memmap, (place, inside, start.shape, start.dtype, array.shape, array.strides, array.dtype)


# --- the other halves


def set_attributes(made: Any, attributes: dict[str, Any]) -> None:
    made.__dict__.update(attributes)


def make_array(
    kind: Any,
    block: Block,
    address: int,
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    dtype: Any,
    writeable: bool,
    owns: bool,
) -> Any:
    owner = block.owner
    np = numpy()
    alike = owns and kind is np.ndarray and getattr(owner, "dtype", None) == dtype and owner.shape == shape
    if alike and (owner.strides == strides or owner.size <= 1):
        owner.flags.writeable = writeable
        return owner
    if isinstance(owner, np.ndarray) and not owner.flags.c_contiguous:
        owner = owner.T
    made = np.ndarray.__new__(kind, shape, dtype, owner, address - block.origin, strides)
    if not writeable:
        made.flags.writeable = False
    return made


def make_from_exporter(
    kind: Any, exporter: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool
) -> Any:
    made = numpy().ndarray.__new__(kind, shape, dtype, exporter, offset, strides)
    if not writeable and made.flags.writeable:
        made.flags.writeable = False
    return made


def make_view(kind: Any, root: Any, offset: int, shape: Any, strides: Any, dtype: Any, writeable: bool) -> Any:
    whole = root if root.flags.c_contiguous else root.T
    flat = whole.reshape(-1).view(numpy().ndarray).view(numpy().uint8)
    return make_from_exporter(kind, flat, offset, shape, strides, dtype, writeable)


def make_object_view(root: Any, items: int, shape: Any, strides: Any, writeable: bool) -> Any:
    flat = root.reshape(-1) if root.flags.c_contiguous else root.T.reshape(-1)
    return numpy().lib.stride_tricks.as_strided(flat[items:], shape, strides, writeable=writeable)


def make_masked(data: Any, mask: Any, options: dict[str, Any]) -> Any:
    return numpy().ma.MaskedArray(data, mask=mask, copy=False, **options)


def make_memmap(place: Any, inside: int, whole: Any, whole_dtype: Any, shape: Any, strides: Any, dtype: Any) -> Any:
    filename, mode, offset = place
    mapped = numpy().memmap(filename, dtype=whole_dtype, mode=mode, offset=offset, shape=whole)
    if shape == whole and dtype == whole_dtype and not inside:
        return mapped
    return numpy().ndarray.__new__(type(mapped), shape, dtype, mapped, inside, strides)


# --- memoryviews and array.array


def reduce_memoryview(carrier: Any, view: memoryview) -> Any:
    try:
        exporter, contiguous = view.obj, view.c_contiguous
    except ValueError:
        raise Refused(view, "a released memoryview") from None
    if len(view.format.lstrip("@")) != 1:
        raise Refused(view, "a memoryview of records: carry the object that it looks into")
    if not contiguous:
        raise Refused(view, "a memoryview with gaps: carry the object that it looks into")
    offset = address_of(view)[0] - address_of(exporter)[0] if view.nbytes else 0
    return make_memoryview, (exporter, offset, view.nbytes, view.format, view.shape, view.readonly)


def make_memoryview(
    exporter: Any, offset: int, size: int, form: str, shape: tuple[int, ...], read_only: bool
) -> memoryview:
    flat = memoryview(exporter)
    if flat.nbytes:
        flat = flat.cast("B") if flat.c_contiguous else memoryview(exporter.T).cast("B")
    made = flat[offset : offset + size]
    if form != "B" or len(shape) != 1:
        made = made.cast(form, shape) if len(shape) != 1 else made.cast(form)  # type: ignore[call-overload]
    return made.toreadonly() if read_only else made
