"""Cuts a golden artifact into seeds for ArtifactReaderFuzzer.cpp.

ArtifactReaderSeeds.py GOLDEN BUNDLE MANIFEST OBJECT MENDED

The last four are written: the whole file, its manifest, its first object and the
whole file for the reader that mends checksums, each behind the byte that selects
its reader. The manifest has one kernel more, of a kind that no reader knows, so
that its words may be anything. Its symbol has the key of another, which the
fuzzer mends.
"""

import json
import pathlib
import sys
import zipfile

golden, bundle, manifest, obj, mended = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(golden) as archive:
    first = next(n for n in archive.namelist() if n.endswith(".o"))
    bundle.write_bytes(b"\0" + golden.read_bytes())
    document = json.loads(archive.read("manifest.json"))
    document["kernels"].append(
        document["kernels"][0]
        | {"name": "window.evict", "kind": "evict", "param_bytes": 32,
           "params": [{"offset": 8, "what": "scores", "of": "a.b"}]})
    manifest.write_bytes(b"\1" + json.dumps(document).encode())
    mended.write_bytes(b"\3" + golden.read_bytes())
    obj.write_bytes(b"\2" + archive.read(first))
