"""Scheduler and workers with certificates, and clients of all kinds."""

import socket
import ssl
import threading
from contextlib import ExitStack, contextmanager
from copy import deepcopy

import dask
import pytest
from distributed import LocalCluster
from distributed.security import Security

from health.probe import UnprovenError, tls
from health.probe.members import WorkerError
from health.probe.messages import Tls
from tests.certificates import Authority

ROLES = ("scheduler", "worker", "client")


@pytest.fixture(scope="module")
def authority():
    """Return the stack's CA."""
    return Authority("ours")


@pytest.fixture(scope="module")
def foreign():
    """Return a foreign CA."""
    return Authority("foreign")


@pytest.fixture
def configure(tmp_path, authority):
    """Return Dask's configuration with a certificate, by default a new one of the stack's CA."""

    def configure(trusted=authority, **issued):
        issuer = issued.pop("issuer", authority)
        file = issuer.issue(tmp_path / "own.pem", **issued)
        roles = {role: {"cert": file, "key": file} for role in ROLES}
        comm = {"require-encryption": True, "default-scheme": "tls"}
        return {
            "distributed": {"comm": {**comm, "tls": {"ca-file": trusted.pem, **roles}}},
        }

    return configure


@contextmanager
def using(config):
    """Use a configuration in this process."""
    before = deepcopy(dask.config.config)
    tls.use_certificate(Tls(dask_config=config, foreign_file=""))
    try:
        yield
    finally:
        dask.config.config.clear()
        dask.config.config.update(before)


@pytest.fixture
def own(configure):
    """Use a certificate of the stack's CA in this process."""
    with using(configure()):
        yield


@contextmanager
def server(context):
    """Yield the address of a server that greets whom it admits, as Dask does."""

    def serve():
        for _ in range(8):
            try:
                plain, _ = listener.accept()
            except OSError:
                return
            try:
                with plain if context is None else context.wrap_socket(plain, True) as peer:
                    peer.sendall(b"hello")
                    peer.recv(1)
            except OSError:
                plain.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"tls://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
    thread.join(5)


@contextmanager
def silent_server():
    """Yield an address that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"tls://127.0.0.1:{listener.getsockname()[1]}"


def listening(file, trusted):
    """Return the TLS context of a server that wants certificates of a CA."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cadata=trusted.pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(file)
    return context


class TestOwnCertificate:
    def test_is_admitted(self, own, authority, tmp_path):
        """A server of the same CA greets."""
        context = listening(authority.issue(tmp_path / "server.pem"), authority)
        with server(context) as address:
            assert "" == tls.refusal(address, tls.own_context())

    @pytest.mark.parametrize(
        ("issued", "reason"),
        [
            ({"hours": 0}, "its certificate is expired"),
            (
                {"ahead": 600},
                "its certificate is not valid yet: the clock of the probe's node",
            ),
            ({}, "its certificate is foreign"),
        ],
    )
    def test_the_servers_certificate_is_blamed(
        self, own, authority, foreign, tmp_path, issued, reason
    ):
        """A certificate that is expired or not valid yet, or one of a foreign CA."""
        issuer = authority if issued else foreign
        context = listening(issuer.issue(tmp_path / "server.pem", **issued), authority)
        with server(context) as address:
            assert tls.refusal(address, tls.own_context()).startswith(reason)

    @pytest.mark.parametrize(
        ("issued", "reason"),
        [
            ({"hours": 0}, "is expired"),
            ({"ahead": 600}, "is not valid yet: the clock of the scheduler's node is behind"),
            ({}, "is foreign"),
        ],
    )
    def test_this_programs_certificate_is_blamed(
        self, configure, authority, foreign, tmp_path, issued, reason
    ):
        """The server refuses it."""
        issuer = authority if issued else foreign
        context = listening(authority.issue(tmp_path / "server.pem"), authority)
        with using(configure(issuer=issuer, **issued)), server(context) as address:
            refusal = tls.refusal(address, tls.own_context())
            assert refusal.startswith(f"the certificate of this program {reason}")

    def test_a_server_without_tls_is_named(self, own):
        """It would accept everybody."""
        with server(None) as address:
            assert "it uses plain TCP" == tls.refusal(address, tls.own_context())

    def test_a_silent_scheduler_is_tried_again(self, own, monkeypatch, capsys):
        """It may be about to start, or to end."""
        monkeypatch.setattr(tls, "ANSWER_SECONDS", 0.1)
        monkeypatch.setattr(tls, "OLD_SECONDS", 0.3)
        with silent_server() as address:
            match = f"{address} to admit this stack's programs: no answer within 0.1 s"
            with pytest.raises(UnprovenError, match=match):
                tls.wait_until_admitted(address)
        assert f"{address}: no answer within 0.1 s" in capsys.readouterr().out

    def test_the_reason_fails_the_proof(self, own, monkeypatch):
        """Not a time-out."""
        monkeypatch.setattr(tls, "OLD_SECONDS", 0.2)
        with server(None) as address, pytest.raises(UnprovenError, match="it uses plain TCP"):
            tls.wait_until_admitted(address)


class TestStrangers:
    @pytest.fixture
    def request_of(self, configure, foreign, tmp_path):
        """Return the probe's request."""
        file = foreign.issue(tmp_path / "foreign.pem")
        return Tls(dask_config=configure(), foreign_file=file)

    def test_a_cluster_refuses_them(self, own, request_of, monkeypatch):
        """A real scheduler and a real worker, which are not silent.

        The proof has the end of their certificates.
        """
        monkeypatch.setattr(tls, "SILENT_SECONDS", 1)
        with LocalCluster(
            n_workers=1, processes=False, protocol="tls://", security=Security(),
            dashboard_address=":0",
        ) as cluster:  # fmt: skip
            workers = list(cluster.scheduler.workers)
            proof = tls.prove_tls(cluster.scheduler_address, workers, request_of)
        assert {"scheduler", "workers"} == proof.keys()
        assert 0 == proof["workers"]["days"]
        assert 10 == len(proof["scheduler"]["valid_until"])

    @pytest.mark.parametrize("context", [None, tls.stranger_context()])
    def test_silence_is_no_refusal(self, monkeypatch, context):
        """A busy worker that admits everybody is silent, too."""
        monkeypatch.setattr(tls, "ANSWER_SECONDS", 0.1)
        with silent_server() as address, pytest.raises(TimeoutError):
            tls.refusal(address, context)

    def test_a_silent_worker_is_named(self, own, authority, request_of, tmp_path, monkeypatch):
        """The scheduler, which answers, is not."""
        monkeypatch.setattr(tls, "ANSWER_SECONDS", 0.5)
        monkeypatch.setattr(tls, "SILENT_SECONDS", 0.6)
        good = listening(authority.issue(tmp_path / "server.pem"), authority)
        with (
            server(good) as scheduler,
            silent_server() as worker,
            pytest.raises(WorkerError, match=rf"^no answer from {worker} within 0\.6 s$"),
        ):
            tls.prove_tls(scheduler, [worker], request_of)

    @pytest.mark.parametrize("step", ["refusal", "end_of_certificate"])
    def test_a_slow_worker_is_tried_again(
        self, own, authority, request_of, tmp_path, monkeypatch, step
    ):
        """A task of a user may hold its interpreter for some seconds."""
        function, calls = getattr(tls, step), []

        def slow(*given):
            calls.append(given)
            if len(calls) == 1:
                raise TimeoutError
            return function(*given)

        monkeypatch.setattr(tls, step, slow)
        context = listening(authority.issue(tmp_path / "server.pem"), authority)
        with server(context) as address:
            assert tls.prove_tls(address, [address], request_of)

    def test_an_address_with_another_certificate_is_named(
        self, own, authority, foreign, request_of, tmp_path
    ):
        """With the reason in words."""
        context = listening(foreign.issue(tmp_path / "server.pem"), authority)
        with server(context) as address:
            match = f"expected a certificate at {address}: its certificate is foreign"
            with pytest.raises(WorkerError, match=match):
                tls.prove_tls(address, [address], request_of)

    @pytest.mark.parametrize(
        ("verify", "stranger"),
        [
            (None, "plain TCP"),
            (ssl.CERT_NONE, "TLS without a certificate"),
            ("foreign", "a certificate of a foreign CA"),
        ],
    )
    def test_an_open_door_is_reported(
        self, own, authority, foreign, request_of, tmp_path, verify, stranger
    ):
        """For every kind of stranger."""
        context = None
        if verify is not None:
            context = listening(authority.issue(tmp_path / "server.pem"), authority)
        if verify == ssl.CERT_NONE:
            context.verify_mode = ssl.CERT_NONE
        elif verify == "foreign":
            context.load_verify_locations(cadata=foreign.pem)
        with server(context) as address:
            message = f"{address} admits a program with {stranger}"
            with pytest.raises(UnprovenError, match=message):
                tls.prove_tls(address, [], request_of)


class TestValidity:
    def test_the_worker_whose_certificate_ends_first_counts(
        self, own, configure, authority, tmp_path
    ):
        """The others hide no certificate that is about to end."""
        request = Tls(dask_config={}, foreign_file=Authority("x").issue(tmp_path / "x.pem"))
        with ExitStack() as stack:
            scheduler, *workers = [
                stack.enter_context(
                    server(listening(authority.issue(tmp_path / f"{h}.pem", hours=h), authority))
                )
                for h in (24 * 9, 24 * 3 + 1, 24 * 6 + 1)
            ]
            proof = tls.prove_tls(scheduler, workers, request)
        assert 3 == proof["workers"]["days"]


class TestChangeOfCa:
    @pytest.fixture
    def successor(self):
        """Return the next CA."""
        return Authority("ours 2")

    def test_a_running_scheduler_admits_certificates_of_the_next_ca(
        self, configure, authority, successor, tmp_path
    ):
        """The old CA has signed the new CA, and the chain is in the file."""
        chain = [authority.sign_authority(successor)]
        old = listening(authority.issue(tmp_path / "server.pem"), authority)
        both = Authority("unused")
        both.pem = authority.pem + successor.pem
        file = successor.issue(tmp_path / "client.pem", *chain)
        with using(configure(trusted=both)), server(old) as address:
            context = tls.own_context()
            context.load_cert_chain(file)
            assert "" == tls.refusal(address, context)

    def test_without_the_chain_the_scheduler_refuses_them(
        self, configure, authority, successor, tmp_path
    ):
        """So the chain is what makes the difference."""
        old = listening(authority.issue(tmp_path / "server.pem"), authority)
        file = successor.issue(tmp_path / "client.pem")
        with using(configure()), server(old) as address:
            context = tls.own_context()
            context.load_cert_chain(file)
            assert "foreign" in tls.refusal(address, context)
