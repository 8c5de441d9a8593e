"""Certificates for tests, as the rehearsal makes them."""

from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from lab.rehearsal import certificates

PEER = ["digital_signature", "client_auth", "server_auth"]
CA = {"allowedUses": ["cert_signing"], "validityPeriodHours": 24, "isCaCertificate": True}


class Authority:
    """A CA with a name; `pem` is its certificate."""

    def __init__(self, name):
        self.name = name
        self.key = new_key()
        inputs = {"privateKeyPem": self.key, "subject": {"commonName": name}}
        self.pem = certificates.make("SelfSignedCert", CA | inputs)["certPem"]

    def sign(self, name, key, **inputs):
        """Return a certificate for a key."""
        request = {"privateKeyPem": key, "subject": {"commonName": name}}
        made = certificates.make("CertRequest", request)
        usual = {"allowedUses": PEER, "validityPeriodHours": 24}
        signer = {"caPrivateKeyPem": self.key, "caCertPem": self.pem}
        return certificates.make("LocallySignedCert", usual | made | signer | inputs)["certPem"]

    def sign_authority(self, other):
        """Return another CA's certificate, signed by this CA."""
        return self.sign(other.name, other.key, **CA)

    def issue(self, path: Path, *chain, hours=24, ahead=0):
        """Write a file with a new certificate, its chain and its key; return its path.

        The certificate begins `ahead` seconds from now.
        """
        key = new_key()
        clock = SimpleNamespace(now=lambda zone: datetime.now(zone) + timedelta(seconds=ahead))
        with mock.patch.object(certificates, "datetime", clock):
            pem = self.sign("dask", key, validityPeriodHours=hours)
        path.write_text("".join([pem, *chain, key]))
        return str(path)


def new_key():
    """Return a new key in PEM."""
    return certificates.make("PrivateKey", {})["privateKeyPem"]
