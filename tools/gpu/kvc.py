"""The C ABI of <kvc/runtime.h> by ctypes: devices, memory, programs.

    library = Library("libkvc-runtime.so")
    device = Device(library, "cuda:0")        # or "cpu", or "sim:sm_90"
    program = Program(device, "model.kvca")
    program.append(0, rows=..., k=..., ...)   # fields of kvc_append_args
    program.attend(0, batch=..., q=..., ...)  # fields of kvc_attend_args

Pointers are plain integers: torch's data_ptr(), or Buffer.address of a Memory,
which is the device's and needs nothing but the driver. Standard library only.
"""
import ctypes as c
import json
import os
import sys
import zipfile

# The package's declarations, which are made of the headers.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)),
                                "../../runtime/python/kvc"))
from _abi import (KVC_RUNTIME_ABI, RUNTIME, AppendArgs, AttendArgs,
                  CacheOptions, CudaOptions, Plane, Seq, SimOptions,
                  SlotRequest, Step)

U32, U64, SIZE, PTR, TEXT = (c.c_uint32, c.c_uint64, c.c_size_t, c.c_void_p,
                             c.c_char_p)


class Error(Exception):
    """A call of the runtime or the driver failed."""


class Library:
    def __init__(self, path):
        self.lib = c.CDLL(str(path))
        for name, result, arguments in RUNTIME:
            function = getattr(self.lib, name)
            function.restype, function.argtypes = result, arguments
        abi = self.lib.kvc_runtime_abi()
        if abi != KVC_RUNTIME_ABI:
            raise Error(f"{path}: expected runtime ABI "
                        f"{KVC_RUNTIME_ABI}, found {abi}")

    def must(self, status):
        if status.code:
            raise Error(self.lib.kvc_error_text().decode())


class Device:
    """`name`: "cpu", "sim:TARGET" or "cuda:ORDINAL"."""

    def __init__(self, library, name, seed=1):
        self.library, self.name = library, name
        self.kind, _, what = name.partition(":")
        self.handle = PTR()
        lib = library.lib
        if self.kind == "cuda":
            self.driver = Driver(int(what or 0))
            options = CudaOptions(size=c.sizeof(CudaOptions),
                                  ordinal=int(what or 0))
            create = lib.kvc_device_create_cuda
        elif self.kind == "sim":
            options = SimOptions(size=c.sizeof(SimOptions),
                                 target=what.encode(), seed=seed)
            create = lib.kvc_device_create_sim
        elif self.kind == "cpu":
            options, create = None, lib.kvc_device_create_cpu
        else:
            raise Error(f"no device is called `{name}`: expected cuda:0, "
                        "sim:sm_90 or cpu")
        pointer = c.addressof(options) if options else None
        library.must(create(pointer, c.byref(self.handle)))

    def memory(self):
        return DeviceMemory(self) if self.kind == "cuda" else HostMemory(self)


#===--- memory -------------------------------------------------------------===#

class Buffer:
    """`size` bytes at `address`, a multiple of 64; its Memory's."""

    def __init__(self, address, size, hold=None):
        self.address, self.size, self.hold = address, size, hold


class HostMemory:
    """Memory of this process; on an emulated GPU, all that kernels may use."""

    def __init__(self, device):
        self.device, self.buffers = device, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def upload(self, data, writable=True):
        raw = c.create_string_buffer(max(1, len(data)) + 64)
        address = (c.addressof(raw) + 63) // 64 * 64
        c.memmove(address, bytes(data), len(data))
        self.buffers.append(Buffer(address, len(data), raw))
        if self.device.kind == "sim" and data:
            library = self.device.library
            library.must(library.lib.kvc_sim_allow(
                self.device.handle, address, len(data), int(writable)))
        return self.buffers[-1]

    def download(self, buffer):
        return c.string_at(buffer.address, buffer.size)

    def close(self):
        for buffer in self.buffers:
            if self.device.kind == "sim" and buffer.size:
                self.device.library.lib.kvc_sim_forget(self.device.handle,
                                                       buffer.address)
        self.buffers = []


class Driver:
    """The CUDA driver, with the primary context of one GPU current."""

    def __init__(self, ordinal):
        try:
            self.lib = c.CDLL("libcuda.so.1")
        except OSError as error:
            raise Error(f"there is no CUDA driver here: {error}") from None
        self.must("cuInit", U32(0))
        device, context = c.c_int(), PTR()
        self.must("cuDeviceGet", c.byref(device), c.c_int(ordinal))
        self.must("cuDevicePrimaryCtxRetain", c.byref(context), device)
        self.must("cuCtxSetCurrent", context)

    def must(self, name, *arguments):
        result = getattr(self.lib, name)(*arguments)
        if result:
            text = TEXT()
            self.lib.cuGetErrorString(c.c_int(result), c.byref(text))
            why = text.value.decode() if text.value else "unknown error"
            raise Error(f"{name}: {why} (CUDA error {result})")


    def load(self, image):
        """A module of PTX or a cubin."""
        return Module(self, image)


class Module:
    """Kernels that are not kvc's, launched as they are."""

    def __init__(self, driver, image):
        self.driver, self.handle = driver, PTR()
        text = c.create_string_buffer(image)  # ends with 0, as PTX must
        driver.must("cuModuleLoadData", c.byref(self.handle), text)

    def launch(self, symbol, grid, threads, shared, params):
        """`params`: the bytes of the kernel's one parameter."""
        function = PTR()
        self.driver.must("cuModuleGetFunction", c.byref(function), self.handle,
                         TEXT(symbol.encode()))
        block = c.create_string_buffer(params, len(params))
        pointers = (PTR * 1)(c.addressof(block))
        one = U32(1)
        self.driver.must("cuLaunchKernel", function, U32(grid), one, one,
                         U32(threads), one, one, U32(shared), PTR(), pointers,
                         PTR())
        self.driver.must("cuCtxSynchronize")


class DeviceMemory:
    """Memory of a GPU: one allocation per buffer, of exactly its size, so that
    a memory checker knows where each ends."""

    def __init__(self, device):
        self.driver, self.buffers = device.driver, []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def upload(self, data, writable=True):
        address = U64()
        self.driver.must("cuMemAlloc_v2", c.byref(address),
                         SIZE(max(1, len(data))))
        buffer = Buffer(address.value, len(data))
        self.buffers.append(buffer)
        if data:
            self.driver.must("cuMemcpyHtoD_v2", address, bytes(data),
                             SIZE(len(data)))
        return buffer

    def download(self, buffer):
        self.driver.must("cuCtxSynchronize")
        data = c.create_string_buffer(max(1, buffer.size))
        if buffer.size:
            self.driver.must("cuMemcpyDtoH_v2", data, U64(buffer.address),
                             SIZE(buffer.size))
        return data.raw[:buffer.size]

    def close(self):
        """Frees everything; errors of an earlier launch are reported by who
        downloads."""
        for buffer in self.buffers:
            self.driver.lib.cuMemFree_v2(U64(buffer.address))
        self.buffers = []


#===--- programs -----------------------------------------------------------===#

class Program:
    """A loaded artifact; `manifest` is what it says of itself."""

    def __init__(self, device, path):
        self.device, self.library = device, device.library
        with zipfile.ZipFile(path) as artifact:
            self.manifest = json.loads(artifact.read("manifest.json"))
        self.handle = PTR()
        self.library.must(self.library.lib.kvc_program_load_file(
            device.handle, str(path).encode(), c.byref(self.handle)))
        self.target = self.library.lib.kvc_program_target(self.handle).decode()
        # Code that the driver refused or compiled, in lines.
        self.remarks = self.library.lib.kvc_program_remarks(
            self.handle).decode()
        self.model = self.manifest["model"]
        self.stores = self.manifest["stores"]

    def close(self):
        self.library.lib.kvc_program_release(self.handle)
        self.handle = PTR()

    def split(self, store):
        """Tokens after which decode begins another split; 0: never."""
        name = self.stores[store]["name"]
        return next((kernel["split"] for kernel in self.manifest["kernels"]
                     if kernel["store"] == name and kernel["kind"] == "attend"
                     and kernel["min_queries"] <= 1), 0)

    def append(self, store, planes, **fields):
        array = (Plane * len(planes))(*planes)
        args = AppendArgs(size=c.sizeof(AppendArgs), planes=c.addressof(array),
                          plane_count=len(planes), **fields)
        self.library.must(self.library.lib.kvc_append(self.handle, store,
                                                      c.byref(args)))

    def workspace(self, store, batch, rows, kv_len):
        size = SIZE()
        self.library.must(self.library.lib.kvc_attend_workspace(
            self.handle, store, batch, rows, kv_len, c.byref(size)))
        return size.value

    def attend_args(self, planes, **fields):
        array = (Plane * len(planes))(*planes)
        args = AttendArgs(size=c.sizeof(AttendArgs), planes=c.addressof(array),
                          plane_count=len(planes), **fields)
        args.kept = array  # alive as long as the arguments
        return args

    def attend(self, store, planes, **fields):
        self.launch(store, self.attend_args(planes, **fields))

    def launch(self, store, args):
        self.library.must(self.library.lib.kvc_attend(self.handle, store,
                                                      c.byref(args)))


class Cache:
    """Sequences whose pages the runtime manages; `limits` are fields of
    kvc_cache_options."""

    def __init__(self, program, **limits):
        self.library, self.handle = program.library, PTR()
        self.program = program  # which the cache uses
        options = CacheOptions(size=c.sizeof(CacheOptions), **limits)
        self.call("create", program.handle, c.byref(options),
                  c.byref(self.handle))

    def call(self, name, *arguments):
        self.library.must(getattr(self.library.lib, f"kvc_cache_{name}")(
            *arguments))

    def open(self):
        sequence = Seq()
        self.call("open", self.handle, c.byref(sequence))
        return sequence

    def release(self, sequence):
        self.call("release", self.handle, sequence)

    def reserve(self, wanted):
        """A step with room for [(sequence, new tokens)...]."""
        requests = (SlotRequest * len(wanted))(*wanted)
        step = Step()
        self.call("reserve", self.handle, requests, len(wanted), None,
                  c.byref(step))
        return step

    def append(self, step, layer, k, v):
        self.call("append", self.handle, step, layer, k.address, v.address)

    def attend(self, step, layer, q, out):
        self.call("attend", self.handle, step, layer, q.address, out.address,
                  None)

    def commit(self, step):
        self.call("commit", self.handle, step, None)

    def check(self):
        self.call("check", self.handle, 2)

    def close(self):
        self.library.lib.kvc_cache_destroy(self.handle)
        self.handle = PTR()
