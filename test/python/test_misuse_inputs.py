"""What callers get wrong with sizes, files and specs: each case gives the documented
class, with what was expected and what was found, and leaves cache and process
as they were."""

import array
import ctypes
import json
import math
import os
import pickle
import tempfile
import unittest
from pathlib import Path

import kvc
import test_cache
from misuse import Misuse
from plain import Plain, Rows, check_rows
from test_cache import DIM, KV_HEADS, LAYERS, PAGE, Q_HEADS, SPEC, Runner


def setUpModule():
    test_cache.setUpModule()


class Numbers(Misuse):
    """Sizes of caches, arenas and devices."""

    def test_sizes_of_caches(self):
        for tokens in (0, -1, 1 << 64):
            self.refused(kvc.InvalidArgument,
                         lambda: kvc.Cache(self.program, tokens), "tokens",
                         f"found {tokens}")
        for tokens in (None, "64", math.nan, 64.0):
            self.refused(TypeError, lambda: kvc.Cache(self.program, tokens),
                         "tokens: expected an integer", repr(tokens))
        for name in ("sequences", "tokens_per_sequence", "batch",
                     "step_tokens", "rollback"):
            for value in (-1, 1 << 32):
                self.refused(
                    kvc.InvalidArgument,
                    lambda: kvc.Cache(self.program, 64, **{name: value}),
                    f"{name}: expected", f"found {value}")
            self.refused(TypeError, lambda: kvc.Cache(
                self.program, 64, **{name: "4"}), name, "'4'")
        for name in ("sequences", "tokens_per_sequence", "batch",
                     "step_tokens"):
            self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
                self.program, 64, **{name: 0}), "found 0")
        self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
            self.program, 64, sequences=2, tokens_per_sequence=8), "tokens")

    def test_tokens_beyond_32_bits(self):
        # Not the 5 tokens that the low bits say.
        self.refused(kvc.InvalidArgument,
                     lambda: kvc.Cache(self.program, (1 << 32) + 5), "tokens")

    def test_more_memory_than_there_is(self):
        self.refused(kvc.InvalidArgument, lambda: kvc.Cache(
            self.program, 1 << 40, sequences=1 << 20,
            tokens_per_sequence=1 << 20), "no arena can hold")
        with open("/proc/sys/vm/overcommit_memory", encoding="ascii") as file:
            if file.read().strip() == "1":
                self.skipTest("this machine promises any memory")
        error = self.refused(kvc.OutOfMemory, lambda: kvc.Cache(
            self.program, 1 << 31, sequences=1 << 11,
            tokens_per_sequence=1 << 20))
        self.assertIsInstance(error, MemoryError)

    def test_what_bytes_hold(self):
        for size in (-1, 1 << 64):
            self.refused(kvc.InvalidArgument,
                         lambda: self.program.tokens_in(size), "size")
        self.refused(TypeError, lambda: self.program.tokens_in("1 GB"),
                     "'1 GB'")
        self.refused(kvc.InvalidArgument, lambda: self.program.bytes_for(-5),
                     "found -5")

    def test_arenas(self):
        make = lambda arena: kvc.Cache(self.program, 64, arena=arena)
        self.refused(TypeError, lambda: make(4096),
                     "arena: expected an array", "int")
        size = self.program.bytes_for(64)
        memory = (ctypes.c_uint8 * (2 * size + 128))()
        flat = memoryview(memory).cast("B")[-ctypes.addressof(memory) % 64:]
        self.refused(ValueError, lambda: make(flat[:size].toreadonly()),
                     "arena: expected memory that can be written")
        self.refused(ValueError, lambda: make(flat[:2 * size:2]),
                     "arena: expected a dense array")
        self.refused(kvc.InvalidArgument, lambda: make(flat[1:size + 1]), "64")
        self.refused(kvc.InvalidArgument, lambda: make(flat[:100]), "arena")

    def test_an_arena_stays_where_it_is(self):
        size = self.program.bytes_for(64)
        arena = bytearray(size + 64)
        skip = -(ctypes.addressof((ctypes.c_char * 1).from_buffer(arena))) % 64
        cache = kvc.Cache(self.program, 64,
                          arena=memoryview(arena)[skip:skip + size])
        self.refused(BufferError, lambda: arena.extend(bytes(1 << 20)))
        run = Runner(self, cache)
        run.step({run.open(): 9})
        cache.close()

    def test_devices(self):
        for name in ("", "gpu", "cpu:-1", "cpu:two", "cuda:x", "sim:",
                     "cpu:1:2", " cpu"):
            self.refused(ValueError, lambda: kvc.Device(name),
                         "device: expected", repr(name))
        for name in (None, 0, b"cpu", ["cpu"]):
            self.refused(TypeError, lambda: kvc.Device(name),
                         "device: expected its name", repr(name))
        for name in ("cpu:4294967297", "cpu:8193"):
            self.refused(kvc.InvalidArgument, lambda: kvc.Device(name),
                         "threads")
        self.refused(kvc.InvalidArgument, lambda: kvc.Device("cuda:4294967296"))
        self.refused(ValueError, lambda: kvc.Device("sim:sm_90\0"), "null")

    def test_a_gpu_that_is_not_there(self):
        self.refused(kvc.DeviceError, lambda: kvc.Device("cuda:4096"))


class Artifacts(Misuse):
    """Bytes and files that are no artifacts, or those of another machine."""

    def setUp(self):
        super().setUp()
        self.data = kvc.compile(SPEC).data

    def test_what_holds_no_bytes(self):
        for thing, name in ((None, "NoneType"), (5, "int"), ({}, "dict"),
                            ([1, 2], "list")):
            self.refused(TypeError, lambda: kvc.load(thing),
                         "artifact: expected", name)
            self.refused(TypeError, lambda: kvc.Artifact(thing),
                         "data: expected the bytes", name)

    def test_what_was_cut(self):
        for size in (0, 1, 100, len(self.data) // 2, len(self.data) - 1):
            self.refused(kvc.Corrupt, lambda: kvc.load(self.data[:size]))

    def test_what_was_changed(self):
        for at in range(0, len(self.data), len(self.data) // 23):
            wrong = bytearray(self.data)
            wrong[at] ^= 0x55
            if bytes(wrong) == self.data:
                continue
            try:
                kvc.load(wrong)
            except kvc.Error as error:
                self.assertIsInstance(error, kvc.Corrupt)
                self.assertTrue(str(error))

    def test_what_is_something_else(self):
        for data in (b"PK\3\4" + bytes(1000), bytes(4096),
                     json.dumps(SPEC).encode()):
            self.refused(kvc.Corrupt, lambda: kvc.load(data))

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            missing = os.path.join(folder, "missing.kvca")
            error = self.refused(kvc.IoError, lambda: kvc.load(missing),
                                 missing)
            self.assertIsInstance(error, OSError)
            self.refused(kvc.IoError, lambda: kvc.load(folder), folder)
            path = Path(folder) / "a.kvca"
            path.write_bytes(self.data)
            self.refused(ValueError, lambda: kvc.load(f"{path}\0.txt"), "null")
            path.write_bytes(b"")
            self.refused(kvc.IoError, lambda: kvc.load(path), "a.kvca")
            path.write_bytes(b"{}")
            self.refused(kvc.Corrupt, lambda: kvc.load(path))
            with self.assertRaises(FileNotFoundError):
                kvc.compile(Path(folder) / "missing.json")
            with self.assertRaises(FileNotFoundError):
                kvc.Artifact(self.data).save(Path(folder) / "no" / "a.kvca")
            self.assertEqual(os.listdir(folder), ["a.kvca"])

    def test_another_machine(self):
        artifact = kvc.compile(SPEC, targets=["sm_90", "sim:sm_90"])
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact), "CPU")
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact, "sim:sm_1"),
                     "sm_1", "sm_90")
        self.refused(kvc.Unsupported, lambda: kvc.load(artifact, "sim:sm_80"),
                     "sm_90")


class Specs(Misuse):
    """Specs that do not compile, with the place and the remedy."""

    def spec_error(self, spec, pointer, line, *words):
        error = self.refused(kvc.SpecError, lambda: kvc.compile(spec), *words)
        self.assertTrue(error.diagnostics)
        found = error.diagnostics[0]
        self.assertEqual((found.severity, found.pointer), ("error", pointer))
        self.assertEqual(found.line, line)
        self.assertTrue(found.message and found.code and found.file)
        return found

    def test_a_codec_that_there_is_not(self):
        spec = dict(SPEC, streams={"k": {"codec": "f8"}, "v": {"codec": "f32"}})
        found = self.spec_error(spec, "/streams/k/codec", 13, "f8")
        self.assertTrue(found.fix)

    def test_numbers_out_of_range(self):
        model = dict(SPEC["model"], kv_heads=3)
        self.spec_error(dict(SPEC, model=model), "/model/q_heads", 6, "3")
        self.spec_error(dict(SPEC, model=dict(SPEC["model"], layers=-1)),
                        "/model/layers", 5, "-1")
        self.spec_error(dict(SPEC, layout={"kind": "paged", "page": 1 << 70}),
                        "/layout/page", 21)

    def test_nan(self):
        error = self.refused(kvc.SpecError, lambda: kvc.compile(
            dict(SPEC, layout={"kind": "paged", "page": math.nan})))
        self.assertEqual(error.diagnostics[0].line, 21)

    def test_names_that_there_are_not(self):
        found = self.spec_error(dict(SPEC, layuot={}), "/layuot", 23, "layuot")
        self.assertIn("layout", found.fix)

    def test_text_that_is_no_json(self):
        self.refused(kvc.SpecError, lambda: kvc.compile("{"), "1:")
        self.refused(kvc.SpecError, lambda: kvc.compile("{}"))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.json"
            for text in (b"", b"\xff\xfe{}", b'{"name": "\xff"}', b"[1]",
                         b"[" * 100000):
                path.write_bytes(text)
                error = self.refused(kvc.SpecError, lambda: kvc.compile(path))
                self.assertEqual(error.diagnostics[0].file, str(path))

    def test_what_is_no_spec(self):
        for thing in (None, 3, b"{}", [SPEC]):
            self.refused(TypeError, lambda: kvc.compile(thing),
                         "spec: expected", type(thing).__name__)
        self.refused(TypeError, lambda: kvc.compile({"kvc": {1, 2}}))

    def test_targets_and_schedules(self):
        for target in ("sm_12", "", "arm64", "native,native"):
            error = self.refused(kvc.SpecError,
                                 lambda: kvc.compile(SPEC, targets=[target]))
            self.assertIn("x86-64-v3", error.diagnostics[0].fix)
        self.refused(kvc.SpecError, lambda: kvc.compile(
            SPEC, schedule=["decode.nothing=1"], cache=False), "nothing")
        for name in ("targets", "schedule"):
            for thing in (None, 5, [5], [None]):
                self.refused(TypeError,
                             lambda: kvc.compile(SPEC, **{name: thing}),
                             f"{name}: expected strings")
        self.refused(ValueError, lambda: kvc.compile(
            SPEC, targets=["native\0sm_90"]), "null")


class OwnPages(Misuse):
    """Kernels on pages and tables of the caller's."""

    PAGES = 6

    def setUp(self):
        super().setUp()
        self.store = self.program.stores[0]
        size = self.PAGES * self.store.page_bytes
        self.memory = (ctypes.c_uint8 * (size + 64))()
        skip = -ctypes.addressof(self.memory) % 64
        self.flat = memoryview(self.memory).cast("B")[skip:skip + size]
        self.pool = self.flat.cast("B", (self.PAGES, self.store.page_bytes))
        self.k, self.v = Rows(7, KV_HEADS, DIM, 1), Rows(7, KV_HEADS, DIM, 2)
        self.q, self.out = Rows(2, Q_HEADS, DIM, 3), Rows(2, Q_HEADS, DIM)
        self.append()

    def tearDown(self):
        self.attend()
        super().tearDown()

    def append(self, store="main", slots=None, pool=None, **more):
        if slots is None:
            slots = array.array("q", [5 * PAGE + t for t in range(4)] +
                                [3 * PAGE + t for t in range(3)])
        self.program.append(store, self.k.view(), self.v.view(), slots,
                            self.pool if pool is None else pool, **more)

    def attend(self, cu_q=(0, 2), kv_len=(7,), table=(5, 3), pool=None,
               **more):
        def as_array(given):
            return array.array("i", given) if isinstance(given, tuple) \
                else given
        if isinstance(table, tuple):
            table = memoryview(array.array("i", table)).cast("B").cast(
                "i", (1, len(table)))
        more.setdefault("out", self.out.view())
        self.program.attend("main", self.q.view(), as_array(cu_q),
                            as_array(kv_len), table,
                            self.pool if pool is None else pool, **more)

    def test_slots_behind_the_pool(self):
        self.refused(kvc.InvalidArgument, lambda: self.append(
            slots=array.array("q", [self.PAGES * PAGE] * 7)),
            f"expected below {self.PAGES} * {PAGE}", "slot[0]")
        self.refused(ValueError, lambda: self.append(page_count=99),
                     f"page_count: expected at most the pool's {self.PAGES}")
        self.refused(kvc.InvalidArgument, lambda: self.append(page_count=-1),
                     "page_count")

    def test_slots_that_are_too_few_or_narrow(self):
        self.refused(ValueError, lambda: self.append(
            slots=array.array("q", [0])), "slots: expected 7 of i64",
            "found [1]")
        self.refused(ValueError, lambda: self.append(
            slots=array.array("i", [0] * 7)), "i32")

    def test_pages_behind_the_pool(self):
        for page in (self.PAGES, -1):
            self.refused(kvc.InvalidArgument,
                         lambda: self.attend(table=(5, page)), "table",
                         f"expected 0 to {self.PAGES - 1}", f"found {page}")

    def test_tables_that_are_too_short(self):
        self.refused(kvc.InvalidArgument, lambda: self.attend(table=(5,)),
                     "expected at least 2 entries", "found 1")
        self.refused(ValueError, lambda: self.attend(
            table=array.array("q", [5, 3])), "table: expected i32", "i64")

    def test_offsets(self):
        for offsets, words in (((0, 3), "2 rows of q"), ((1, 2), "cu_q[0]"),
                               ((0, -1), "ascending")):
            with self.assertRaises(ValueError) as caught:
                self.attend(cu_q=offsets)
            self.assertIn(words, str(caught.exception))
        self.refused(ValueError, lambda: self.attend(cu_q=(0,)),
                     "cu_q: expected 2 of i32")

    def test_lengths(self):
        for length in (-1, 1):
            self.refused(kvc.InvalidArgument,
                         lambda: self.attend(kv_len=(length,)), "kv_len[0]",
                         f"found {length}")
        self.refused(TypeError, lambda: self.attend(kv_len=7),
                     "kv_len: expected an array")
        self.refused(ValueError, lambda: self.attend(
            kv_len=ctypes.c_int32(7)), "kv_len: expected [batch]")

    def test_workspaces(self):
        self.refused(ValueError,
                     lambda: self.attend(workspace=bytes(1 << 20)),
                     "workspace: expected memory that can be written")
        # Smaller than what aligning it takes: less than nothing is left.
        for size in (0, 1, 8):
            self.refused(kvc.InvalidArgument, lambda: self.attend(
                workspace=bytearray(size + 64)[:size]), "workspace")
        self.refused(TypeError, lambda: self.attend(workspace=4096),
                     "workspace: expected an array")

    def test_pools(self):
        self.refused(ValueError, lambda: self.append(pool=self.flat),
                     f"pool: expected [pages, {self.store.page_bytes}] bytes")
        self.refused(ValueError, lambda: self.append(
            pool=self.pool.toreadonly()), "pool: expected an array that can be")
        narrow = self.flat.cast("B", (2 * self.PAGES,
                                      self.store.page_bytes // 2))
        self.refused(ValueError, lambda: self.append(pool=narrow), "pool")
        self.refused(TypeError, lambda: self.append(pool="pages"),
                     "pool: expected an array")
        self.refused(ValueError, lambda: self.append(pool=()),
                     "planes: expected 2")
        for wrong, error, text in (
                (5, TypeError, "planes[1]: expected a Plane"),
                ((1, 2), TypeError, "planes[1]: expected a Plane"),
                ((1, 2, "3"), TypeError, "planes[1].head_stride: expected an"),
                ((1, 1 << 63, 3), kvc.InvalidArgument, "planes[1].page_stride"),
                ((-1, 2, 3), kvc.InvalidArgument, "planes[1].base: expected")):
            self.refused(error, lambda: self.append(
                pool=((64, 0, 0), wrong)), text)
        self.refused(kvc.InvalidArgument, lambda: self.append(
            pool=[kvc.Plane(0, 0, 0)] * 2), "null")

    def test_stores_and_numbers(self):
        self.refused(KeyError, lambda: self.append(store="side"), "side")
        self.refused(KeyError, lambda: self.append(store=None), "None")
        self.refused(kvc.InvalidArgument, lambda: self.attend(max_queries=-1),
                     "max_queries")
        self.refused(kvc.InvalidArgument,
                     lambda: self.program.attend_workspace("main", -1, 1, 1),
                     "batch")
        self.refused(ValueError, lambda: self.attend(constants=[1]),
                     "constants")


class Constants(Misuse):
    """What a spec's expressions are given by calls."""

    def setUp(self):
        super().setUp()
        self.sinks = kvc.Cache(kvc.load(kvc.compile(dict(
            SPEC, kvc="0.2", attend={"constants": {"sinks": {"size": Q_HEADS}},
                                     "sink": "sinks[h]"}))), 64)

    def out(self):
        """What a step of one row gives, and the plain copy of it."""
        k, v, q = (Rows(1, heads, DIM, heads) for heads in
                   (KV_HEADS, KV_HEADS, Q_HEADS))
        out, plain = Rows(1, Q_HEADS, DIM), Plain(self.program.model)
        plain.append(k, v, range(1))
        with self.sinks.open() as b, self.sinks.step({b: 1}) as step:
            try:
                step.append(0, k.view(), v.view())
                step.attend(0, q.view(), out=out.view())
            finally:
                step.abandon()
        return plain, q, out

    def test_constants(self):
        give = self.sinks.set_constants
        self.refused(kvc.InvalidArgument, self.out, "constants", "not set")
        for constants in ((), [array.array("f", [0])] * 2, {}):
            self.refused(ValueError, lambda: give("main", constants),
                         "constants: expected ['sinks']")
        self.refused(KeyError, lambda: give("main", {"snks": 1}), "snks")
        self.refused(ValueError, lambda: give("main", [array.array("f", [0])]),
                     f"sinks: expected {Q_HEADS} of f32", "found [1]")
        self.refused(TypeError, lambda: give("main", [None]),
                     "sinks: expected an array")
        self.refused(TypeError, lambda: give("main", None),
                     "constants: expected")
        values = array.array("f", [-1e30] * Q_HEADS)
        self.refused(kvc.InvalidArgument,
                     lambda: give("main", [values], layer=LAYERS), "layer")
        give("main", {"sinks": values})
        plain, q, out = self.out()
        check_rows(self, [plain], [1], q, out)
        # The address is what the cache keeps.
        self.refused(BufferError, lambda: values.extend([0] * 1000))
        values[:] = array.array("f", [1e30] * Q_HEADS)
        self.assertEqual(max(map(abs, self.out()[2].values)), 0)


class Errors(unittest.TestCase):
    def test_classes_have_the_names_of_their_codes(self):
        from kvc import _abi, errors
        from kvc._library import runtime
        def name_of(code):
            name = runtime.kvc_code_name(code).decode()
            return "".join(c for c in name if c.isalpha())
        for code, cls in errors.BY_CODE.items():
            self.assertTrue(name_of(code).startswith(cls.__name__.lower()),
                            (name_of(code), cls))
            self.assertIs(getattr(kvc, cls.__name__), cls)
        unknown = name_of(max(errors.BY_CODE) + 1)
        self.assertEqual(unknown, name_of(_abi.KVC_ALL_LAYERS))
        self.assertNotIn(unknown, map(name_of, errors.BY_CODE))

    def test_versions(self):
        from kvc import _abi
        from kvc._library import compiler, runtime
        self.assertEqual(runtime.kvc_runtime_abi(), _abi.KVC_RUNTIME_ABI)
        self.assertEqual(compiler.kvc_compiler_abi(), _abi.KVC_COMPILER_ABI)
        self.assertTrue(kvc.compiler.version().startswith(
            f"kvc {kvc.__version__}, LLVM "))

    def test_errors_go_between_processes(self):
        error = kvc.OutOfPages("text", 1, 2, 3, 4)
        read = pickle.loads(pickle.dumps(error))
        self.assertEqual((str(read), read.where, read.need, read.have,
                          read.have_later), ("text", 1, 2, 3, 4))
        for cls in (kvc.IoError, kvc.OutOfMemory, kvc.InvalidArgument):
            self.assertEqual(str(pickle.loads(pickle.dumps(cls("a", 7)))), "a")
        error = kvc.SpecError([kvc.Diagnostic("error", "E-X", "text")])
        read = pickle.loads(pickle.dumps(error))
        self.assertEqual(read.diagnostics, error.diagnostics)
        self.assertEqual(str(read), str(error))


if __name__ == "__main__":
    unittest.main()
