"""Arrays of any library as addresses and strides, without copies.

An array is taken by the first of these that it has: `data_ptr()` and `stride()`
(PyTorch), `__array_interface__` (numpy), `__dlpack__()` (JAX, CuPy, ...), the
buffer protocol (memoryview, array.array). What is returned is valid as long as
the array is.
"""

import ctypes as c
from typing import NamedTuple


class View(NamedTuple):
    """Where an array is. `strides` are in bytes, `dtype` is "f32", "bf16",
    "u16", ..., `device` is "cpu" or "cuda:N"."""

    address: int
    shape: tuple
    strides: tuple
    dtype: str
    device: str = "cpu"
    readonly: bool = False


#: The exact types of tensors that were seen: what a call knows of one's dtype,
#: device, shape and strides holds for any other that has the same.
TENSORS = set()

_TORCH = {}
_KINDS = {"f": "f", "i": "i", "u": "u"}
_FORMATS = {"e": "f16", "f": "f32", "d": "f64", "b": "i8", "B": "u8",
            "h": "i16", "H": "u16", "i": "i32", "I": "u32", "l": "i64",
            "L": "u64", "q": "i64", "Q": "u64", "c": "u8", "?": "u8"}


def _torch_dtype(dtype):
    name = _TORCH.get(dtype)
    if name is None:
        written = str(dtype).removeprefix("torch.")
        name = {"bfloat16": "bf16", "bool": "u8"}.get(written)
        if name is None:
            kind = written.rstrip("0123456789")
            name = {"float": "f", "int": "i", "uint": "u"}.get(kind, kind)
            name += written[len(kind):]
        _TORCH[dtype] = name
    return name


def _of_torch(array):
    if getattr(array, "is_neg", bool)():
        raise ValueError("expected elements as they are stored, found a tensor "
                         "that negates them: resolve_neg()")
    kind = type(array)
    if kind.__module__ == "torch" or kind.__module__ == "torch.nn.parameter":
        TENSORS.add(kind)
    size = array.element_size()
    device = array.device
    return View(array.data_ptr(), tuple(array.shape),
                tuple(stride * size for stride in array.stride()),
                _torch_dtype(array.dtype),
                "cpu" if device.type == "cpu" else str(device))


def _of_interface(array):
    it = array.__array_interface__
    typestr = it["typestr"]
    # Objects have no size, and dates more than one.
    kind, size = _KINDS.get(typestr[1]), typestr[2:]
    size = int(size) if size.isdecimal() else 0
    if kind is None or typestr[0] == ">":
        # bfloat16 of ml_dtypes is an opaque type of two bytes.
        name = str(getattr(array, "dtype", typestr))
        dtype = {"bfloat16": "bf16"}.get(name, name)
    else:
        dtype = f"{kind}{8 * size}"
    strides = it.get("strides") or _dense(it["shape"], size)
    return View(it["data"][0], tuple(it["shape"]), tuple(strides), dtype,
                readonly=it["data"][1])


def _dense(shape, size):
    strides = []
    for extent in reversed(shape):
        strides.append(size)
        size *= extent
    return tuple(reversed(strides))


class _DLTensor(c.Structure):
    _fields_ = [("data", c.c_void_p), ("device_type", c.c_int32),
                ("device_id", c.c_int32), ("ndim", c.c_int32),
                ("code", c.c_uint8), ("bits", c.c_uint8),
                ("lanes", c.c_uint16), ("shape", c.POINTER(c.c_int64)),
                ("strides", c.POINTER(c.c_int64)),
                ("byte_offset", c.c_uint64)]


_capsule = c.pythonapi.PyCapsule_GetPointer
_capsule.restype, _capsule.argtypes = c.c_void_p, [c.py_object, c.c_char_p]


def _of_dlpack(array):
    # The capsule dies when this returns, the array does not.
    capsule = array.__dlpack__()
    at = _DLTensor.from_address(_capsule(capsule, b"dltensor"))
    shape = tuple(at.shape[i] for i in range(at.ndim))
    size = at.bits * at.lanes // 8
    if at.strides:
        strides = tuple(at.strides[i] * size for i in range(at.ndim))
    else:
        strides = _dense(shape, size)
    letter = {0: "i", 1: "u", 2: "f", 4: "bf", 6: "u"}.get(at.code, "?")
    device = {1: "cpu", 3: "cpu", 2: f"cuda:{at.device_id}",
              13: f"cuda:{at.device_id}"}.get(
                  at.device_type, f"DLPack device {at.device_type}")
    return View((at.data or 0) + at.byte_offset, shape, strides,
                f"{letter}{at.bits}", device)


class _Buffer(c.Structure):
    _fields_ = [("buf", c.c_void_p), ("obj", c.py_object),
                ("len", c.c_ssize_t), ("itemsize", c.c_ssize_t),
                ("readonly", c.c_int), ("ndim", c.c_int),
                ("format", c.c_char_p), ("shape", c.POINTER(c.c_ssize_t)),
                ("strides", c.POINTER(c.c_ssize_t)),
                ("suboffsets", c.POINTER(c.c_ssize_t)),
                ("internal", c.c_void_p)]


_get_buffer = c.pythonapi.PyObject_GetBuffer
_get_buffer.argtypes = [c.py_object, c.POINTER(_Buffer), c.c_int]
_release_buffer = c.pythonapi.PyBuffer_Release
_release_buffer.argtypes, _release_buffer.restype = [c.POINTER(_Buffer)], None
_STRIDED_RO = 0x0018 | 0x0004  # PyBUF_STRIDES, PyBUF_FORMAT


def _of_buffer(array):
    buffer = _Buffer()
    _get_buffer(array, c.byref(buffer), _STRIDED_RO)
    try:
        letter = (buffer.format or b"B").decode().lstrip("@=<") or "?"
        dtype = _FORMATS.get(letter, letter)
        if dtype[0] in "iu":
            dtype = f"{dtype[0]}{8 * buffer.itemsize}"
        shape = tuple(buffer.shape[i] for i in range(buffer.ndim))
        if buffer.strides:
            strides = tuple(buffer.strides[i] for i in range(buffer.ndim))
        else:  # of ctypes: dense
            strides = _dense(shape, buffer.itemsize)
        return View(buffer.buf or 0, shape, strides, dtype,
                    readonly=bool(buffer.readonly))
    finally:
        _release_buffer(c.byref(buffer))


def view(array, name="array"):
    """The View of any array. TypeError if it is none."""
    if hasattr(array, "data_ptr") and hasattr(array, "element_size"):
        return _of_torch(array)
    if hasattr(array, "__array_interface__"):
        return _of_interface(array)
    if hasattr(array, "__dlpack__"):
        return _of_dlpack(array)
    try:
        return _of_buffer(array)
    except (TypeError, BufferError) as error:
        raise TypeError(
            f"{name}: expected an array (PyTorch, numpy, DLPack or the buffer "
            f"protocol), found {type(array).__name__}") from error


def elements(it):
    """How many elements a View has."""
    count = 1
    for extent in it.shape:
        count *= extent
    return count


def size_of(dtype):
    """Bytes of an element, by the dtype's name in a View."""
    bits = dtype.lstrip("abcdefghijklmnopqrstuvwxyz")
    if not bits.isdecimal() or int(bits) % 8 or int(bits) == 0:
        raise TypeError(f"expected elements that are numbers, found {dtype!r}")
    return int(bits) // 8


def is_dense(it):
    """Whether the elements lie side by side, in the order of their indices."""
    size = size_of(it.dtype)
    for extent, stride in zip(reversed(it.shape), reversed(it.strides)):
        # A stride of one element says nothing.
        if extent > 1 and stride != size:
            return False
        size *= extent
    return True


def extent_of(it):
    """(first, end) of the addresses that hold a View's elements."""
    first, end = it.address, it.address + size_of(it.dtype)
    for count, stride in zip(it.shape, it.strides):
        if count == 0:
            return it.address, it.address
        if stride < 0:
            first += (count - 1) * stride
        else:
            end += (count - 1) * stride
    return first, end


def pinned(array):
    """What keeps an array's memory where it is: a bytearray, or an array.array,
    moves when it grows, unless somebody has a view of it."""
    try:
        return array, memoryview(array)
    except (TypeError, ValueError, BufferError):
        return array, None


def empty_like(array, shape, dtype, name="out"):
    """A new array of the library that `array` is of, on its device; numpy's
    for a plain buffer. `dtype` is the model's, as View names it; `name` is what
    may be given instead."""
    if hasattr(array, "data_ptr") and hasattr(array, "new_empty"):
        import torch
        return array.new_empty(shape, dtype=getattr(torch, _IN_TORCH[dtype]))
    return empty(shape, dtype, "cpu", name)


_IN_TORCH = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
_IN_NUMPY = {"f32": "float32", "f16": "float16", "bf16": "uint16"}


def empty(shape, dtype, device, name):
    """A new array on a device: numpy's on the host, PyTorch's on a GPU. `name`
    is what may be given instead."""
    try:
        if device != "cpu":
            return torch_empty(shape, dtype, device)
        import numpy
    except ImportError as error:
        raise TypeError(f"{error.name} is not installed: give `{name}`"
                        ) from None
    return numpy.empty(shape, dtype=_IN_NUMPY[dtype])


def torch_empty(shape, dtype, device):
    """A new tensor."""
    import torch
    return torch.empty(shape, dtype=getattr(torch, _IN_TORCH[dtype]),
                       device=device)
