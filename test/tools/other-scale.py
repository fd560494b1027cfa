"""other-scale.py ARTIFACT OUT: the artifact with a spec that its kernels were not
made from: its softmax_scale is another."""

import re
import struct
import sys
import zipfile
import zlib

source, to = sys.argv[1:]
spec = zipfile.ZipFile(source).read("spec.json")
other = re.sub(rb'(?<="softmax_scale":0\.)\d', b"6", spec)
assert other != spec
with open(source, "rb") as file, open(to, "wb") as out:
    crc = [struct.pack("<I", zlib.crc32(text)) for text in (spec, other)]
    out.write(file.read().replace(spec, other).replace(*crc))
