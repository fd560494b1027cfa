#!/usr/bin/env python3
"""Builds a small kit for an emulated GPU and runs it.

    kit.py SOURCE BUILD WORK

What can be tried without a GPU: golden vectors, random batches, planted bugs,
the runner's resuming and its crashed rows. Standard library only.
"""
import base64
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tarfile
import time
import unittest
import zipfile

SOURCE, BUILD, WORK = (pathlib.Path(path).resolve() for path in sys.argv[1:4])

CRASH = '''import os

def step(context):
    context.row("before", lambda: {"value": 1})
    context.row("crash", lambda: os._exit(9))
    context.row("raise", lambda: 1 // 0)
    context.row("after", lambda: {"value": 2})
'''


HANG = """import time

def step(context):
    context.row("sleep", lambda: time.sleep(600))
"""
LAST = """def step(context):
    context.row("last", lambda: {"value": 1})
"""


def build(name, *options):
    out = WORK / name
    done = subprocess.run(
        [SOURCE / "tools" / "gpu-kit", "-o", out, "--build", BUILD, *options],
        capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return out


class Kit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        shutil.rmtree(WORK, ignore_errors=True)
        WORK.mkdir(parents=True)
        cls.kit = build("emulated", "--targets=sim:sm_90", "--random=1",
                        "--models=small-bf16,small-k8v16,random-.*")

    def run_kit(self, out, only, budget=500, more=()):
        done = subprocess.run(
            [self.kit / "run", "--out", WORK / out, "--device=sim:sm_90",
             f"--only={only}", f"--budget={budget}", *more],
            capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def path(self, out, step):
        return WORK / f"{out}.work" / f"{step}.json"

    def rows(self, out, step):
        return json.loads(self.path(out, step).read_text())["rows"]

    def test_correct(self):
        status, text = self.run_kit("good", "20,30,40,60")
        self.assertEqual(status, 0, text)
        golden = self.rows("good", "20-golden")
        self.assertEqual(len(golden), 18)  # 3 models, 3 schedules, 2 seeds
        for row in golden.values():
            for part in ("out", "cache"):
                self.assertEqual(row[part]["differ"], 0)
                self.assertGreater(row[part]["elements"], 0)
        rows = self.rows("good", "30-correctness")
        self.assertGreater(max(row.get("ratio", 0) for row in rows.values()), 0)
        for fault in ("page-stride", "live-row", "length"):
            self.assertTrue(rows[f"planted {fault}"]["found"])
        # These say why they did not run.
        self.assertIn("GPU", self.rows("good", "60-decode")["step"]["note"])
        # What is done is not done again.
        before = self.path("good", "30-correctness").read_text()
        status, text = self.run_kit("good", "30")
        self.assertIn("done before", text)
        self.assertEqual(before,
                         self.path("good", "30-correctness").read_text())
        # All of it is in the archive, from which another run goes on.
        status, text = self.run_kit(
            "moved", "30", more=["--from", WORK / "good" / "results.tar.gz"])
        self.assertIn("30-correctness: done before", text)

    def test_wrong_golden(self):
        """Vectors of another seed must not pass."""
        index = json.loads((self.kit / "kit.json").read_text())
        first, second = (v["file"] for v in
                         index["models"][0]["artifacts"][0]["golden"])
        good = (self.kit / first).read_bytes()
        try:
            shutil.copyfile(self.kit / second, self.kit / first)
            status, text = self.run_kit("golden", "20")
        finally:
            (self.kit / first).write_bytes(good)
        self.assertEqual(status, 1, text)
        self.assertIn(f"20-golden, {first}", text)

    def test_wrong_kernel(self):
        """A kernel that scales scores as another spec says must not pass."""
        index = json.loads((self.kit / "kit.json").read_text())
        model = index["models"][0]
        artifact = self.kit / model["artifacts"][0]["file"]
        spec = json.loads((self.kit / model["spec"]).read_text())
        with zipfile.ZipFile(artifact) as good:
            manifest = json.loads(good.read("manifest.json"))
        scale = manifest["model"]["softmax_scale"]
        spec["model"]["softmax_scale"] = 0.5 * scale
        (WORK / "other.json").write_text(json.dumps(spec))
        kept = artifact.read_bytes()
        try:
            subprocess.run([BUILD / "bin" / "kvc", "compile",
                            WORK / "other.json", "--target=sim:sm_90",
                            "-o", artifact], check=True)
            sys.path.insert(0, str(self.kit))
            import cases
            import kvc
            device = kvc.Device(kvc.Library(self.kit / "libkvc-runtime.so"),
                                "sim:sm_90")
            program = kvc.Program(device, artifact)
            case = cases.Case(program, 0, 1, sequences=2, longest=40)
            self.assertEqual(cases.check(device, case)["findings"], [])
            program.model["softmax_scale"] = scale
            self.assertTrue(cases.check(device, case)["findings"])
            # A page table with an id beyond the pool is out of bounds.
            with self.assertRaisesRegex(kvc.Error, "out of bounds"):
                cases.check(device, case, fault="table")
        finally:
            artifact.write_bytes(kept)

    def test_crashed_rows(self):
        step = self.kit / "steps" / "99-crash.py"
        step.write_text(CRASH)
        try:
            status, text = self.run_kit("crash", "99")
        finally:
            os.remove(step)
        self.assertEqual(status, 1, text)
        rows = self.rows("crash", "99-crash")
        self.assertEqual(rows["before"]["value"], 1)
        self.assertIn("crashed", rows["crash"]["error"])
        self.assertIn("ZeroDivisionError", rows["raise"]["error"])
        self.assertEqual(rows["after"]["value"], 2)

    def test_a_step_that_hangs(self):
        """It is ended, the next one is done, and the archive has both."""
        steps = self.kit / "steps"
        (steps / "98-hang.py").write_text(HANG)
        (steps / "99-last.py").write_text(LAST)
        runner = self.kit / "run"
        kept = runner.read_text()
        try:
            runner.write_text(kept.replace("ALONE = 120", "ALONE = 4").replace(
                "GRACE = 10", "GRACE = 1"))
            status, text = self.run_kit("hang", "98,99", budget=30)
        finally:
            runner.write_text(kept)
            os.remove(steps / "98-hang.py")
            os.remove(steps / "99-last.py")
        self.assertEqual(status, 1, text)
        self.assertIn("98-hang: its process ended with status -1", text)
        with tarfile.open(WORK / "hang" / "results.tar.gz") as archive:
            row = lambda step, key: json.load(
                archive.extractfile(f"{step}.json"))["rows"][key]
            self.assertIn("crashed", row("98-hang", "sleep")["error"])
            self.assertEqual(row("99-last", "last")["value"], 1)

    def test_no_time(self):
        status, text = self.run_kit("late", "30", budget=1)
        self.assertIn("no time left", text)
        self.assertFalse(self.path("late", "30-correctness").exists())

    def test_for_a_gpu(self):
        """What travels: no emulated kernels, nothing large."""
        kit = build("real", "--targets=sm_90", "--random=0",
                    "--models=small-f16,prefill-d64-bf16")
        index = json.loads((kit / "kit.json").read_text())
        self.assertEqual([m["name"] for m in index["models"]],
                         ["small-f16", "prefill-d64-bf16"][::-1])
        for model in index["models"]:
            for artifact in model["artifacts"]:
                names = zipfile.ZipFile(kit / artifact["file"]).namelist()
                self.assertIn("cuda/sm_90.0.ptx", names)
                self.assertFalse([n for n in names if n.startswith("sim/")])
        self.assertTrue(index["models"][1]["artifacts"][0]["golden"])
        with tarfile.open(WORK / "real.tar.xz") as archive:
            self.assertIn("real/run", archive.getnames())
        self.assertLess((WORK / "real.tar.xz").stat().st_size, 8_000_000)
        self.assertEqual(index["ops"], ["sm_90"])
        self.assertEqual(index["refused"], [])
        self.check_ops(kit)
        self.check_dry_run(kit, index)

    def check_dry_run(self, kit, index):
        """15 minutes: one call of 500 seconds at most and one of 200, in which
        every step is begun, with all models and stand-ins for the GPU."""
        sys.path.insert(0, str(kit))
        import models
        index["models"] = [
            {"name": spec["name"], "group": group, "spec": "none",
             "artifacts": [{"file": f"{spec['name']}.{i}", "schedule": schedule,
                            "label": models.label(schedule),
                            "golden": [{"file": f"{spec['name']}.{i}.{seed}",
                                        "seed": seed} for seed in range(2)]}
                           for i, schedule in
                           enumerate(models.schedules(spec["name"]))]}
            for group, specs in (
                ("bench", models.BENCH), ("small", models.SMALL),
                ("random", [models.drawn(1, i) for i in range(8)]))
            for spec in specs]
        (kit / "kit.json").write_text(json.dumps(index))
        begun, ended = set(), 0
        for seed in range(3):
            first = self.dry_call(kit, seed, 1, 500)
            second = self.dry_call(kit, seed, 2, 200, "--from",
                                   WORK / f"dry-{seed}-1" / "results.tar.gz")
            # The second call's archive has the first one's rows.
            self.assertLessEqual(first["rows"], second["rows"])
            begun |= second["steps"]
            ended += first["ended"] + second["ended"]
        self.assertEqual(begun, {path.stem for path in
                                 (kit / "steps").glob("[0-9]*.py")})
        self.assertGreater(ended, 0, "no process of a dry run ended early")
        self.check_cut_off(kit)
        # Rows that are too large for what may come back.
        for name, was, becomes in (
                ("dry.py", "BYTES = 4000", "BYTES = 20_000"),
                ("run", "MOST_BYTES = 15_000_000", "MOST_BYTES = 1_000_000")):
            text = (kit / name).read_text()
            self.assertIn(was, text)
            (kit / name).write_text(text.replace(was, becomes))
        text = self.dry_call(kit, 0, 1, 500, most=1_000_000)["text"]
        self.assertIn("results.tar.gz stays as it was", text)

    def check_cut_off(self, kit):
        """A call that is killed leaves a whole archive of the steps so far."""
        out = WORK / "cut"
        for folder in (out, out.with_name(out.name + ".work")):
            shutil.rmtree(folder, ignore_errors=True)
        dry = kit / "dry.py"
        kept = dry.read_text()
        # Not what is packed when a process ends early.
        self.assertIn("rng.random() < 0.01", kept)
        dry.write_text(kept.replace("rng.random() < 0.01", "False").replace(
            "slow = 3", "slow = 1"))
        process = subprocess.Popen(
            [kit / "run", "--call", "1", "--dry-run=0", "--out", out],
            stdout=subprocess.DEVNULL, start_new_session=True)
        archive = out / "results.tar.gz"
        while not archive.exists() and process.poll() is None:
            time.sleep(0.01)
        cut = process.poll() is None
        if cut:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        dry.write_text(kept)
        self.assertTrue(cut, "there was no archive before the end")
        with tarfile.open(archive) as tar:
            self.assertIn("10-environment.json", tar.getnames())
            self.assertNotIn("90-ncu.json", tar.getnames())

    def dry_call(self, kit, seed, call, seconds, *more, most=16 << 20):
        out = WORK / f"dry-{seed}-{call}"
        for folder in (out, out.with_name(out.name + ".work")):
            shutil.rmtree(folder, ignore_errors=True)
        done = subprocess.run(
            [kit / "run", "--call", str(call), f"--dry-run={seed}", "--out",
             out, *more], capture_output=True, text=True)
        text = done.stdout + done.stderr
        took = re.search(r"on the counted clock: (\d+) s", text)
        self.assertTrue(took, text)
        # Ten seconds are for starting the kit's first process, and packing.
        self.assertLessEqual(int(took.group(1)), seconds - 10, text)
        self.assertNotIn("Traceback", text)
        files = list(out.iterdir())
        self.assertLessEqual(len(files), 8)
        for file in files:
            self.assertLessEqual(file.stat().st_size, most, file)
        rows, steps = 0, set()
        with tarfile.open(out / "results.tar.gz") as archive:
            for member in archive.getmembers():
                if member.name.endswith(".json"):
                    result = json.load(archive.extractfile(member))
                    rows += len(result["rows"])
                    if result["rows"]:
                        steps.add(member.name.removesuffix(".json"))
                    for row in result["rows"].values():
                        error = row.get("error", "crashed")
                        self.assertIn("crashed", error, member.name)
        return {"rows": rows, "steps": steps, "text": text,
                "ended": text.count("its process ended")}

    def check_ops(self, kit):
        """Words of instructions: right ones pass, each wrong one does not."""
        sys.path.insert(0, str(kit))
        import kvc
        import ops
        device = kvc.Device(kvc.Library(kit / "libkvc-runtime.so"), "cpu")
        kernels = ops.read(kit / "ops" / "sm_90")
        rows = re.findall(r"^KVC_PTX_OP\((\w+), (\d+)",
                          (SOURCE / "lib/base/Simt" / "Ops.def").read_text(),
                          re.MULTILINE)
        names = {kernel["name"].split(".")[0] for kernel in kernels}
        self.assertEqual(names, {row for row, sm in rows if int(sm) <= 90})
        for kernel in kernels:
            words = ops.expected(kernel)
            self.assertTrue(words, kernel["name"])
            self.assertEqual(ops.compare(kernel, words)["findings"], [])
            if kernel["name"] != "SmemBase":  # 0 whatever happens
                self.assertTrue(any(words), kernel["name"])
            wrong = bytearray(words)
            wrong[-1] ^= 0x40  # a large step of an f32, too
            self.assertTrue(ops.compare(kernel, wrong)["findings"])
            self.assertEqual(ops.run(Answer(kernel, words), device, kernel),
                             words)


class Answer:
    """In place of a module on a GPU: checks a launch and writes an answer."""

    def __init__(self, kernel, words):
        self.kernel, self.words = kernel, words

    def launch(self, symbol, grid, threads, shared, params):
        assert symbol.startswith("kvc_") and threads % 32 == 0 and shared
        source, result = struct.unpack("<QQ", params)
        given = base64.b64decode(self.kernel["in"])
        assert ctypes.string_at(source, len(given)) == given
        assert len(self.words) % (grid * threads * 4) == 0
        ctypes.memmove(result, self.words, len(self.words))


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
