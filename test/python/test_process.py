"""The package in a process: what leaks, what other threads, signals, children
and OpenMP see of it."""

import contextlib
import ctypes
import gc
import os
import signal
import subprocess
import sys
import threading
import unittest

import kvc
import test_cache
from kvc import _library
from kvc._library import compiler, runtime
from plain import Rows
from test_cache import DIM, KV_HEADS, Q_HEADS, SPEC, Runner, new_cache


#: How code in another process finds the tests.
PATH = f"import os, sys\nsys.path.insert(0, {os.path.dirname(__file__)!r})\n"


def setUpModule():
    test_cache.setUpModule()


@contextlib.contextmanager
def replaced(library, name, function):
    """A C function of the package replaced by another."""
    kept = getattr(library, name)
    library.__dict__[name] = function
    try:
        yield kept
    finally:
        library.__dict__[name] = kept


def python(code, *arguments, **environment):
    """Runs code in a process of its own, which can import the tests."""
    return subprocess.run(
        [sys.executable, "-c", PATH + code, *arguments], timeout=60, text=True,
        capture_output=True, env=dict(
            os.environ, PYTHONWARNINGS="ignore::DeprecationWarning",
            **environment))  # 3.12 warns of fork() beside threads


def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def held():
    """Open files and threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


class Leaks(unittest.TestCase):
    """What is made and dropped many times leaves nothing. That the measure
    would see it is shown by taking away what frees it."""

    MIB = 1 << 20

    def grown(self, make, count):
        """Bytes that the process grew by in the best of three thirds: a leak is
        in all of them, what an allocator takes at once in one."""
        for _ in range(count // 10):
            make()
        gc.collect()
        files_and_threads, sizes = held(), [resident()]
        for _ in range(3):
            for _ in range(count // 3):
                make()
            gc.collect()
            sizes.append(resident())
        self.assertEqual(held(), files_and_threads)
        return min(after - before for before, after in zip(sizes, sizes[1:]))

    def check(self, make, count, library, free):
        self.assertLess(self.grown(make, count), self.MIB)
        with replaced(library, free, lambda *_: None):
            self.assertGreater(self.grown(make, count), self.MIB)

    def a_cache(self):
        cache = new_cache(tokens=64, sequences=4)
        a = cache.open()
        with cache.step({a: 3}) as step:
            step.mark_appended()
        b = a.fork()
        with contextlib.suppress(ZeroDivisionError):
            with cache.step({a: 1, b: 2}):
                1 / 0
        with contextlib.suppress(kvc.NotAppended):
            with cache.step({b: 1}):
                pass
        with contextlib.suppress(kvc.SequenceFull):
            cache.step({b: 65})
        b.truncate(1)
        cache.step({a: 1})
        stats = cache.stats()
        self.assertEqual((stats["sequences"], stats["steps"],
                          stats["pages_live"]), (2, 0, 2))

    def test_ten_thousand_caches(self):
        self.assertLess(self.grown(self.a_cache, 10000), self.MIB)

    def test_a_leak_of_caches_is_seen(self):
        with replaced(runtime, "kvc_cache_destroy", lambda *_: None):
            self.assertGreater(self.grown(self.a_cache, 1000), self.MIB)

    def test_sequences_and_steps_of_one_cache(self):
        cache = new_cache()
        before = cache.stats()

        def make():
            with cache.open() as a:
                with cache.step({a: 3}) as step:
                    step.mark_appended()
                children = [a.fork(), a.fork()]
                for child in children:
                    with cache.step({child: 1}) as step:
                        step.mark_appended()
                with contextlib.suppress(kvc.InvalidArgument):
                    a.truncate(4)
        self.assertLess(self.grown(make, 3000), self.MIB)
        gc.collect()
        after = cache.stats()
        self.assertGreater(after.pop("pages_copied"), before.pop("pages_copied"))
        self.assertEqual(after, before)
        cache.check()

    def test_programs(self):
        data = kvc.compile(SPEC).data
        self.check(lambda: kvc.load(data, "cpu:2"), 600, runtime,
                   "kvc_program_release")

    def test_devices(self):
        self.assertLess(self.grown(lambda: kvc.Device("cpu:3"), 200),
                        self.MIB)

    def test_artifacts_that_are_refused(self):
        data = kvc.compile(SPEC).data

        def make():
            with contextlib.suppress(kvc.Corrupt):
                kvc.load(data[:-7])
        self.assertLess(self.grown(make, 2000), self.MIB)

    def test_artifacts(self):
        self.check(lambda: kvc.compile(SPEC), 300, compiler,
                   "kvc_compile_free")

    def test_specs_that_are_refused(self):
        def make():
            with contextlib.suppress(kvc.SpecError):
                kvc.compile(dict(SPEC, model={}))
        self.assertLess(self.grown(make, 1000), self.MIB)

    def test_calls(self):
        cache = new_cache()
        k, q, out = (Rows(2, heads, DIM, 1)
                     for heads in (KV_HEADS, Q_HEADS, Q_HEADS))
        with cache.step({cache.open(): 2}) as step:
            def make():
                step.append(0, k.view(), k.view())
                step.attend(0, q.view(), out=out.view())
                with contextlib.suppress(ValueError):
                    step.append(0, q.view(), k.view())
            self.assertLess(self.grown(make, 5000), self.MIB)
            step.mark_appended()


class Threads(unittest.TestCase):
    """Kernels run without the interpreter's lock."""

    def setUp(self):
        self.ticks, self.over = 0, threading.Event()
        # One thread: a kernel that takes as long as it can.
        self.cache = kvc.Cache(kvc.load(kvc.compile(SPEC), "cpu:1"), 1 << 15)
        self.sequence = self.cache.open()

    def long_step(self, rows):
        step = self.cache.step({self.sequence: rows})
        step.mark_appended()
        q, out = Rows(rows, Q_HEADS, DIM), Rows(rows, Q_HEADS, DIM)
        return step, lambda: step.attend(0, q.view(), out=out.view())

    def tick(self):
        while not self.over.wait(0.001):
            self.ticks += 1

    def ticks_in_attend(self, rows):
        ticking = threading.Thread(target=self.tick)
        step, attend = self.long_step(rows)
        self.over.clear()
        ticking.start()
        try:
            while not self.ticks:
                pass
            before = self.ticks
            attend()
            return self.ticks - before
        finally:
            self.over.set()
            ticking.join()
            step.abandon()

    def test_another_thread_runs_in_an_attend(self):
        rows = 1 << 10
        while self.ticks_in_attend(rows) < 50 and rows < 1 << 15:
            rows *= 2
        self.assertLess(rows, 1 << 15)
        # The same call by a function that keeps the lock.
        keeping = ctypes.PyDLL(runtime_path()).kvc_cache_attend_strided
        free = runtime.kvc_cache_attend_strided
        keeping.restype, keeping.argtypes = free.restype, free.argtypes
        with replaced(runtime, "kvc_cache_attend_strided", keeping):
            self.assertLess(self.ticks_in_attend(rows), 25)

    def test_a_cache_is_not_closed_under_a_kernel(self):
        rows = 1 << 12
        for _ in range(10):
            step, attend = self.long_step(rows)
            begun, failures = threading.Event(), []

            def work():
                begun.set()
                try:
                    attend()
                except kvc.Stale as error:  # it was closed before
                    failures.append(error)
            thread = threading.Thread(target=work)
            thread.start()
            begun.wait()
            try:
                self.over.wait(0.005)
                self.cache.close()
            except kvc.Busy as error:
                self.assertIn("under way", str(error))
                break
            finally:
                thread.join()
            del step
            self.setUp()
            rows = min(2 * rows, 1 << 15)
        else:
            self.fail("no attend was long enough")
        self.assertEqual(failures, [])
        step.abandon()
        self.cache.check()
        self.cache.close()

    def test_threads_compile_and_load(self):
        failures = []

        def work(name):
            try:
                program = kvc.load(kvc.compile(dict(SPEC, name=name)))
                self.assertEqual(program.name, name)
                with self.assertRaises(kvc.SpecError):
                    kvc.compile(dict(SPEC, name=7))
            except BaseException as error:  # pylint: disable=broad-except
                failures.append(error)
        threads = [threading.Thread(target=work, args=(f"t{i}",))
                   for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_each_thread_has_its_own_error(self):
        """The text of a failure is that of the thread's last."""
        cache, failures = new_cache(), []
        sequences = [cache.open() for _ in range(4)]

        def work(tokens):
            for _ in range(300):
                try:
                    sequences[tokens].truncate(1000 + tokens)
                except kvc.InvalidArgument as error:
                    if not str(error).endswith(f"found {1000 + tokens}"):
                        failures.append(str(error))
        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])


def runtime_path():
    return next(str(path) for path in _library._places("libkvc-runtime.so")
                if path.exists())


class Processes(unittest.TestCase):
    def test_interrupts(self):
        """Ctrl-C ends a step as any exception does."""
        code = """
import kvc, test_cache as t, unittest
t.setUpModule()
run = t.Runner(unittest.TestCase(), t.new_cache())
a = run.open(); run.step({a: 3})
k = t.Rows(1, t.KV_HEADS, t.DIM, 1).view()
q = t.Rows(1, t.Q_HEADS, t.DIM, 1).view()
try:
    with run.cache.step({a: 1}) as step:
        print("ready", flush=True)
        while True:
            step.append(0, k, k)
            step.attend(0, q, out=q)
except KeyboardInterrupt:
    pass
assert run.cache.stats()["steps"] == 0 and len(a) == 3
run.step({a: 2})
run.cache.check()
"""
        child = subprocess.Popen([sys.executable, "-c", PATH + code], text=True,
                                 stdout=subprocess.PIPE,
                                 stderr=subprocess.PIPE)
        self.assertEqual(child.stdout.readline(), "ready\n")
        child.send_signal(signal.SIGINT)
        _, errors = child.communicate(timeout=60)
        self.assertEqual((child.returncode, errors), (0, ""))

    def test_a_forked_child_ends_as_any_process(self):
        """Not by _exit(): the collector and C's destructors run, too."""
        done = python("""
import kvc, test_cache as t, unittest
t.setUpModule()
run = t.Runner(unittest.TestCase(), t.new_cache())
a = run.open(); run.step({a: 3})
step = run.cache.step({a: 1})
child = os.fork()
if child == 0:
    for call in (a.fork, a.release, run.cache.open, step.commit,
                 run.cache.stats, lambda: run.cache.step({a: 1})):
        try:
            call()
            sys.exit(1)
        except kvc.Stale:
            pass
    repr(run.cache)
    run.cache.close()
    t.setUpModule()
    own = t.Runner(unittest.TestCase(), t.new_cache())
    b = own.open(); own.step({b: 3})
    sys.exit(0)
status = os.waitpid(child, 0)[1]
step.abandon()
run.step({a: 2})
run.cache.check()
sys.exit(os.waitstatus_to_exitcode(status))
""")
        self.assertEqual((done.returncode, done.stderr), (0, ""))

    def test_workers_of_multiprocessing(self):
        for method in ("fork", "spawn", "forkserver"):
            done = python("""
import multiprocessing
import kvc, test_cache as t, unittest

def work(data):
    t.program = kvc.load(data)
    run = t.Runner(unittest.TestCase(), t.new_cache())
    a = run.open(); run.step({a: 3})
    return len(a)

if __name__ == "__main__":
    t.setUpModule()
    data = kvc.compile(t.SPEC).data
    work(data)
    context = multiprocessing.get_context(sys.argv[1])
    if sys.argv[1] == "fork":
        with context.Pool(2) as pool:
            print(pool.map(work, [data] * 2))
    else:
        child = context.Process(target=kvc.load, args=(data,))
        child.start(); child.join()
        print([3, 3] if child.exitcode == 0 else child.exitcode)
""", method)
            self.assertEqual((done.returncode, done.stderr, done.stdout),
                             (0, "", "[3, 3]\n"), method)

    def test_openmp_leaves_all_cpus(self):
        """OMP_PROC_BIND binds the thread that loads OpenMP to one CPU."""
        try:
            ctypes.CDLL("libgomp.so.1")
        except OSError:
            self.skipTest("libgomp.so.1 is not installed")
        code = """
import ctypes
cpus = os.sched_getaffinity(0)
ctypes.CDLL("libgomp.so.1")
bound = os.sched_getaffinity(0)
import kvc
before = set(os.listdir("/proc/self/task"))
device = kvc.Device("cpu")
made = set(os.listdir("/proc/self/task")) - before
assert all(os.sched_getaffinity(int(task)) == cpus for task in made)
print(len(cpus), len(bound), len(made) + 1)
"""
        done = python(code, OMP_PROC_BIND="true")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        cpus, bound, threads = map(int, done.stdout.split())
        self.assertEqual(bound, 1)
        # As many as without, which a container may limit.
        done = python(code)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(list(map(int, done.stdout.split())),
                         [cpus, cpus, threads])

    def test_cycles_end_in_any_order(self):
        cache = new_cache()
        for _ in range(3):
            a = cache.open()
            step = cache.step({a: 1})
            ring = [cache, a, step]
            ring.append(ring)
            step.ring = a.ring = cache.ring = ring
            del a, step, ring
            cache = new_cache()
            gc.collect()
        run = Runner(self, cache)
        run.step({run.open(): 3})


if __name__ == "__main__":
    unittest.main()
