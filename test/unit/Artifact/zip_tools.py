"""Checks that a .kvca opens with Python's zipfile and with unzip."""

import struct
import subprocess
import sys
import zipfile
import zlib

path = sys.argv[1]
raw = open(path, "rb").read()
with zipfile.ZipFile(path) as archive:
    assert archive.testzip() is None
    infos = archive.infolist()
    assert infos[0].filename == "manifest.json" and len(infos) > 1
    for info in infos:
        name, extra = struct.unpack_from("<HH", raw, info.header_offset + 26)
        data = info.header_offset + 30 + name + extra
        assert data % 64 == 0, f"{info.filename} is at {data}"
        assert info.compress_type == zipfile.ZIP_STORED
        assert info.date_time == (1980, 1, 1, 0, 0, 0), info.date_time
        content = archive.read(info)
        assert content == raw[data : data + info.file_size]
        assert info.CRC == zlib.crc32(content)
for command in (["unzip", "-t", path], ["unzip", "-l", path]):
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    # unzip warns of what it repairs, and says so in words.
    assert "warning" not in result.stderr + result.stdout, result
print(f"{len(infos)} entries agree")
