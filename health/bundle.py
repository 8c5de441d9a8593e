"""The probe as arguments of a Python, which is how it gets into a container of any image.

Owns: the archive of `probe/`, and the few lines that unpack it there.
"""

import base64
import bz2
import io
from pathlib import Path
from zipfile import ZipFile, ZipInfo

PARTS = Path(__file__).with_name("probe")

_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3

# Python imports from archives that are files; with the import of `main` all of this one is read.
# A client that lost its scheduler has threads that would keep the interpreter.
UNPACK = """
import binascii, bz2, os, sys
path = f"/tmp/dask-health-{os.urandom(8).hex()}.zip"
with open(path, "xb") as file:
    file.write(bz2.decompress(binascii.a2b_base64(sys.argv[1])))
sys.path.insert(0, path)
try:
    from probe.proof import main
finally:
    os.remove(path)
sys.path.remove(path)
main(sys.argv[2])
os._exit(0)
""".strip()


def command(order: str) -> list[str]:
    """Return the command that carries out an order, which is JSON; for Python 3.10 and newer."""
    packed = base64.b64encode(bz2.compress(archive())).decode()
    return ["python", "-c", UNPACK, packed, order]


def archive() -> bytes:
    """Return the probe as a zip archive, the same bytes for the same source everywhere.

    Stored, because each zlib compresses in its own way; bzip2 packs it as a whole.
    """
    content = io.BytesIO()
    with ZipFile(content, "w") as opened:
        for part in sorted(PARTS.glob("*.py")):
            entry = ZipInfo(f"{PARTS.name}/{part.name}", _EPOCH)
            entry.create_system = _UNIX
            opened.writestr(entry, part.read_text(encoding="utf-8"))
    return content.getvalue()
