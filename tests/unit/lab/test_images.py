"""The lab rebuilds images when their content changed and only then."""

import io
import tarfile

import pytest

from lab import caddy, context, engine, images
from lab.debian import BASE
from lab.shell import LabError


@pytest.fixture
def source(tmp_path, monkeypatch):
    """Return a folder that stands for images/."""
    (tmp_path / "Dockerfile").write_text("ARG BASE_IMAGE=python:3.12\nFROM ${BASE_IMAGE}\n")
    (tmp_path / "Dockerfile.caddy").write_text("FROM debian\n")
    (tmp_path / "dask.txt").write_text("dask==2030.1.0 \\\n    --hash=sha256:00\n")
    monkeypatch.setattr(context, "SOURCE", tmp_path)
    return tmp_path


@pytest.fixture
def clean(monkeypatch):
    """Remove this machine's settings for package indexes."""
    for name in ("PIP_CERT", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)


def contents(archive):
    """Return the files of a build context."""
    with tarfile.open(fileobj=archive) as tar:
        return {entry.name: tar.extractfile(entry).read().decode() for entry in tar}


@pytest.mark.usefixtures("source")
class TestContent:
    def test_equal_files_have_equal_hashes(self):
        """Nothing is rebuilt when nothing changed."""
        assert context.content_hash("base") == context.content_hash("base")

    @pytest.mark.parametrize("name", ["Dockerfile", "dask.txt", "notebook.txt"])
    def test_each_file_counts(self, source, name):
        """A change in any file that the build reads is a change of the image."""
        before = context.content_hash("base")
        with (source / name).open("a") as file:
            file.write("# changed\n")
        assert before != context.content_hash("base")

    def test_the_base_counts(self):
        """Another base image is another image."""
        assert context.content_hash("one") != context.content_hash("two")

    def test_the_version_is_the_one_in_the_lock(self):
        """Images are named by their Dask version."""
        assert "2030.1.0" == context.dask_version()

    def test_a_lock_without_dask_is_refused(self, source):
        """The message names the fix."""
        (source / "dask.txt").write_text("numpy==2.0\n")
        with pytest.raises(LabError, match="python -m lab lock"):
            context.dask_version()

    def test_the_default_base_is_the_dockerfiles(self):
        """There is one place where the default base image is written."""
        assert "python:3.12" == context.default_base()


@pytest.mark.usefixtures("source", "clean")
class TestArchive:
    def test_the_index_settings_are_sent(self, monkeypatch):
        """A mirror that this machine uses serves the build too."""
        monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
        assert (
            "index-url = https://mirror.example/simple" in contents(context.archive())["pip.conf"]
        )

    def test_the_certificates_are_sent(self, monkeypatch, tmp_path):
        """A proxy that this machine trusts is trusted by the build."""
        bundle = tmp_path / "bundle.crt"
        bundle.write_text("certificates")
        monkeypatch.setenv("PIP_CERT", str(bundle))
        files = contents(context.archive())
        assert "certificates" == files["ca.pem"]
        assert "cert = /build/ca.pem" in files["pip.conf"]

    def test_several_indexes_fit_on_a_line(self, monkeypatch):
        """A list, which pip prints with a value per line, reaches the build."""
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "https://a.example\nhttps://b.example")
        settings = contents(context.archive())["pip.conf"]
        assert "extra-index-url = https://a.example https://b.example\n" in settings

    def test_paths_of_this_machine_stay_here(self, monkeypatch):
        """Settings that name local folders mean nothing in a build."""
        monkeypatch.setenv("PIP_FIND_LINKS", "/somewhere")
        assert "/somewhere" not in contents(context.archive())["pip.conf"]

    def test_equal_files_give_equal_bytes(self):
        """The engine's cache is hit by an unchanged context."""
        assert context.archive().read() == context.archive().read()


@pytest.mark.usefixtures("source")
class TestCaddy:
    def test_dockerfile_version_and_base_count(self, source):
        """Caddy's image is rebuilt when one of them changes, and not when Dask changes."""
        before = context.caddy_hash("base", "2.11.9")
        assert before != context.caddy_hash("base", "2.11.10")
        assert before != context.caddy_hash("other", "2.11.9")
        (source / "dask.txt").write_text("dask==2031.1.0\n")
        assert before == context.caddy_hash("base", "2.11.9")
        (source / "Dockerfile.caddy").write_text("FROM other\n")
        assert before != context.caddy_hash("base", "2.11.9")

    def test_the_program_is_sent(self, tmp_path):
        """The program is in the context and executable."""
        program = tmp_path / "built"
        program.write_bytes(b"program")
        with tarfile.open(fileobj=context.caddy_archive(program)) as tar:
            assert ["Dockerfile", "caddy"] == tar.getnames()
            assert 0o755 == tar.getmember("caddy").mode
            assert b"program" == tar.extractfile("caddy").read()


@pytest.mark.usefixtures("source")
class TestReferences:
    def test_targets_are_published_under_their_own_names(self):
        """A deployment names the registry, the image and its version."""
        references = [image.reference for image in images.current_images("localhost:5001", BASE)]
        dask = ["dask-swarm:2030.1.0", "dask-swarm-notebook:2030.1.0"]
        expected = [*dask, f"dask-swarm-caddy:{caddy.SERIES}"]
        assert [f"localhost:5001/{name}" for name in expected] == references

    def test_an_absent_registry_has_nothing(self):
        """Where no registry answers, every image is to be built."""
        image, *_ = images.current_images("localhost:1", BASE)
        assert image.published() is None


class TestProgress:
    def test_a_failed_step_shows_its_output(self):
        """The last lines before the failure are part of the message."""
        messages = [{"stream": "Step 1/1 : RUN x\n"}, {"stream": "no such file\n"}]
        with pytest.raises(LabError, match="no such file"):
            engine.follow([*messages, {"error": "it failed"}], "an image")

    def test_success_is_quiet(self, capsys):
        """Only steps are shown, not what they print."""
        engine.follow([{"stream": "Step 1/1 : RUN x\n"}, {"stream": "chatter\n"}], "an image")
        assert "lab: Step 1/1 : RUN x\n" == capsys.readouterr().err


def test_the_archive_is_a_tar():
    """The context made from the real images/ can be unpacked."""
    assert {"Dockerfile", "dask.txt", "notebook.txt"} <= contents(context.archive()).keys()
    assert isinstance(context.archive(), io.BytesIO)
