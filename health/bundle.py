"""The probe's program as arguments of `python`, so that a container of any image can run it.

Owns the archive of `probe/`, and the few lines that unpack it in the container.
"""

import base64
import bz2
import io
from pathlib import Path
from zipfile import ZipFile, ZipInfo

PARTS = Path(__file__).with_name("probe")

_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3

# Python imports only from archives in files; the import of `main` reads all of the archive.
# A client that lost its scheduler has threads that would keep the interpreter alive.
UNPACK = """
import binascii, bz2, importlib, os, sys
path = f"/tmp/dask-health-{os.urandom(8).hex()}.zip"
with open(path, "xb") as file:
    file.write(bz2.decompress(binascii.a2b_base64(sys.argv[1])))
sys.path.insert(0, path)
try:
    main = importlib.import_module(f"probe.{sys.argv[2]}").main
finally:
    os.remove(path)
sys.path.remove(path)
main(sys.argv[3])
os._exit(0)
""".strip()


def command(request: str, module: str = "proof") -> list[str]:
    """Return the command that runs a request in JSON; for Python 3.10 and newer.

    `module` is the module of `probe/` whose `main` reads the request.
    """
    packed = base64.b64encode(bz2.compress(archive())).decode()
    return ["python", "-c", UNPACK, packed, module, request]


def archive() -> bytes:
    """Return the probe as a zip archive: the same source makes the same bytes on every machine.

    Stored, because versions of zlib compress differently; bzip2 packs the whole archive.
    """
    content = io.BytesIO()
    with ZipFile(content, "w") as opened:
        for part in sorted(PARTS.glob("*.py")):
            entry = ZipInfo(f"{PARTS.name}/{part.name}", _EPOCH)
            entry.create_system = _UNIX
            opened.writestr(entry, part.read_text(encoding="utf-8"))
    return content.getvalue()
