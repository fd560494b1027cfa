#!/usr/bin/env python3
"""Runs the package's tests, and fails if one of the C functions was not called
by any of them."""

import pathlib
import sys
import unittest

from kvc import _abi, _library

#: Functions that Python has no use for, and why.
NOT_CALLED = {
    "kvc_cache_append": "kvc_cache_append_strided of dense rows",
    "kvc_cache_attend": "kvc_cache_attend_strided of dense rows",
    "kvc_attend_plan": "saves an engine on a GPU a launch a layer: a Cache "
                       "plans by itself, and so does kvc_attend",
    "kvc_attend_plan_bytes": "of kvc_attend_plan",
    "kvc_orc_code_loader": "names for debuggers; its programs must end before "
                           "exit(), which no Python object can promise"}


#: Tests that CMakeLists.txt runs where PyTorch is.
WITH_TORCH = {"test_eval", "test_hf", "test_torch"}


class Traced:
    """A C function that notes its calls."""

    def __init__(self, name, function, called):
        self.__dict__.update(_name=name, _function=function, _called=called)

    def __call__(self, *arguments):
        self._called.add(self._name)
        return self._function(*arguments)

    def __getattr__(self, name):
        return getattr(self._function, name)


def main():
    called = set()
    declared = [(library, function[0])
                for library, functions in (
                    (_library.runtime, _abi.RUNTIME),
                    (_library.compiler, _abi.COMPILER))
                for function in functions]
    for library, name in declared:
        library.__dict__[name] = Traced(name, getattr(library, name), called)
    tests = unittest.defaultTestLoader.loadTestsFromNames(
        path.stem for path in sorted(pathlib.Path(".").glob("test_*.py"))
        if path.stem not in WITH_TORCH)
    passed = unittest.TextTestRunner().run(tests).wasSuccessful()
    names = {name for _, name in declared}
    for name in sorted(names - called - set(NOT_CALLED)):
        print(f"run.py: no test calls {name}", file=sys.stderr)
        passed = False
    for name in sorted(set(NOT_CALLED) & called | set(NOT_CALLED) - names):
        print(f"run.py: {name} is called, or is no function: NOT_CALLED has it "
              "in vain", file=sys.stderr)
        passed = False
    print(f"{len(called)} of {len(names)} C functions were called")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
