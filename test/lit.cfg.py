# lit's view of the suite: which files are tests, and which tools they call.
import os
import shutil

import lit.formats

config.name = "kvc"
config.test_format = lit.formats.ShTest(execute_external=False)
config.suffixes = [".mlir", ".test"]
config.test_source_root = os.path.join(config.kvc_source, "test")
config.test_exec_root = os.path.join(config.kvc_binary, "test")
config.environment["PATH"] = os.pathsep.join(
    [
        os.path.join(config.kvc_binary, "bin"),
        config.llvm_tools,
        os.environ["PATH"],
    ]
)
config.environment["FILECHECK_OPTS"] = "--enable-var-scope"
# No test may touch the user's kernel cache.
config.environment["KVC_CACHE_DIR"] = os.path.join(config.test_exec_root, "kvc-cache")
# What a CUDA toolkit adds; tests that need it say so.
for tool in ["ptxas", "nvdisasm"]:
    if shutil.which(tool, path=config.environment["PATH"]):
        config.available_features.add(tool)
config.substitutions.append(("%kvc_bin", os.path.join(config.kvc_binary, "bin")))
config.substitutions.append(("%specs", os.path.join(config.kvc_source, "specs")))
config.substitutions.append(("%data", os.path.join(config.kvc_source, "test", "data")))
config.substitutions.append(("%source", config.kvc_source))
