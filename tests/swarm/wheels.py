"""Small Python packages, for containers that reach no package index."""

import io
import tarfile
import zipfile

FOLDER = "/tmp/wheels"
# pip uses the folder instead of an index.
OPTIONS = f"--no-index --find-links {FOLDER}"


def wheel(name, version, requires=()):
    """Return file name and content of a wheel whose module has a `VERSION` and nothing else."""
    info = f"{name}-{version}.dist-info"
    needs = "".join(f"Requires-Dist: {name}\n" for name in requires)
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in (files | {f"{info}/RECORD": record}).items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


def copy_into(container, *wheels):
    """Put wheels into the folder of a running container that `OPTIONS` names."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in wheels:
            entry = tarfile.TarInfo(f"wheels/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    assert container.put_archive("/tmp", stream.getvalue())
