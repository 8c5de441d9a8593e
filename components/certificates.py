"""Certificates by which the programs of the cluster know each other: mutual TLS.

Owns the stack's own CA, the keys, the certificates and the files of each role. Dask accepts every
certificate of its CA and compares no names, so the CA signs nothing else.

A scheduler reads its files once, and a new scheduler loses all work. So CAs have numbers, and the
CA of workers and clients may be one ahead of the scheduler's. The older CA signs the newer CA too,
so that a running scheduler accepts its certificates.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import pulumi
import pulumi_tls as tls
import yaml

from components.dask_config import Config
from components.service import MountedFile, mount_config, mount_secret
from config.settings import TlsSettings

Role = Literal["scheduler", "worker", "client"]
FILE_NAME = "dask_certificate"  # in /run/secrets: the certificate, its chain and its key
AUTHORITIES = "/etc/dask-swarm/authorities.pem"
PRELOAD_SOURCE = Path(__file__).parent.parent / "images" / "certificate_preload.py"
PRELOAD_TARGET = "/etc/dask-swarm/certificate_preload.py"


def dask_config(authorities: str, certificate: str) -> Config:
    """Return Dask's configuration with a certificate, its key and the CAs: paths or PEM texts."""
    # One certificate for all roles: tasks have clients, and notebooks local clusters.
    file = {"cert": certificate, "key": certificate}
    roles = dict.fromkeys(("scheduler", "worker", "client"), file)
    comm = {"default-scheme": "tls", "require-encryption": True}
    return {"distributed": {"comm": {**comm, "tls": {"ca-file": authorities, **roles}}}}


DASK_CONFIG = dask_config(AUTHORITIES, f"/run/secrets/{FILE_NAME}")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """What a certificate is for, how long it is valid, and when `up` renews it; in hours."""

    uses: Sequence[str]
    validity: int
    renewal: int = 0  # before its end
    is_ca: bool = False


_DAY = 24
_LONG = 3650 * _DAY
_PEER_USES = ("digital_signature", "client_auth", "server_auth")  # workers connect and listen
_CA = Kind(uses=("cert_signing", "crl_signing"), validity=_LONG, is_ca=True)
# Renewed with its CA only: a new scheduler loses all work.
_SCHEDULER = Kind(uses=_PEER_USES, validity=_LONG)
_WORK = Kind(uses=_PEER_USES, validity=365 * _DAY, renewal=90 * _DAY)


@dataclass(frozen=True, kw_only=True)
class Identity:
    """The files of a role and the Dask configuration that names them; all empty without TLS."""

    secrets: tuple[MountedFile, ...] = ()
    configs: tuple[MountedFile, ...] = ()
    dask_config: Config = field(default_factory=dict)

    @property
    def preload_args(self) -> list[str]:
        """Arguments of `dask scheduler` and `dask worker`."""
        return ["--preload", PRELOAD_TARGET] if self.secrets else []


@dataclass(frozen=True, kw_only=True)
class Authority:
    """A CA: its number, its key and its certificate in PEM."""

    number: int
    key: pulumi.Output[str]
    certificate: pulumi.Output[str]


class Certificates(pulumi.ComponentResource):
    """The CAs, and the files of each role.

    `client_config` is Dask's configuration for a client elsewhere, in YAML. The proof shows that
    the cluster refuses the certificate `foreign`. With `holds_workers` the workers' certificate is
    renewed after its end only, because another certificate replaces the workers.
    """

    identities: Mapping[Role, Identity]
    foreign: MountedFile
    client_config: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        settings: TlsSettings,
        opts: pulumi.ResourceOptions | None = None,
        *,
        holds_workers: bool = False,
    ) -> None:
        super().__init__("dask:swarm:Certificates", name, None, opts)
        self._name, self._child = name, pulumi.ResourceOptions(parent=self)
        old = self._declare_authority(settings.scheduler_ca)
        new, known, chain = old, [old], []
        if settings.ca != settings.scheduler_ca:
            new = self._declare_authority(settings.ca)
            known, chain = [old, new], [self._cross_sign(new, old)]
        scheduler = self._declare_leaf("scheduler", _SCHEDULER, old, [])
        kind = replace(_WORK, renewal=0) if holds_workers else _WORK
        worker = self._declare_leaf("worker", kind, new, chain)
        client = self._declare_leaf("client", _WORK, new, chain)
        known_pem = pulumi.Output.concat(*(authority.certificate for authority in known))
        trusts = self._mount("authorities", AUTHORITIES, known_pem)
        scheduler_trusts = self._mount("scheduler-authorities", AUTHORITIES, old.certificate)
        preload = self._mount("preload", PRELOAD_TARGET, PRELOAD_SOURCE.read_text("utf-8"))
        self.identities = {
            "scheduler": self._identity("scheduler", scheduler, scheduler_trusts, preload),
            "worker": self._identity("worker", worker, trusts, preload),
            "client": self._identity("client", client, trusts),
        }
        self.foreign = self._declare_foreign()
        self.client_config = pulumi.Output.all(known_pem, client).apply(
            lambda both: yaml.safe_dump(dask_config(*both))
        )
        self.register_outputs({})

    def _declare_authority(self, number: int) -> Authority:
        name = f"{self._name}-ca-{number}"
        key = self._declare_key(name)
        certificate = self._self_sign(name, _ca_name(number), key, _CA)
        return Authority(number=number, key=key, certificate=certificate)

    def _declare_foreign(self) -> MountedFile:
        name = f"{self._name}-foreign"
        key = self._declare_key(name)
        text = pulumi.Output.concat(self._self_sign(name, "stranger", key, _SCHEDULER), key)
        return mount_secret(name, FILE_NAME, text, self._child)

    def _cross_sign(self, new: Authority, old: Authority) -> pulumi.Output[str]:
        name = f"{self._name}-ca-{new.number}-by-{old.number}"
        return self._sign(name, _ca_name(new.number), new.key, _CA, old)

    def _declare_leaf(
        self, role: Role, kind: Kind, authority: Authority, chain: Sequence[pulumi.Output[str]]
    ) -> pulumi.Output[str]:
        """Return a role's certificate with its chain and its key."""
        name = f"{self._name}-{role}-{authority.number}"
        key = self._declare_key(name)
        certificate = self._sign(name, f"dask {role}", key, kind, authority)
        return pulumi.Output.concat(certificate, *chain, key)

    def _identity(self, role: Role, pem: pulumi.Output[str], *configs: MountedFile) -> Identity:
        secret = mount_secret(f"{self._name}-{role}", FILE_NAME, pem, self._child)
        return Identity(secrets=(secret,), configs=configs, dask_config=DASK_CONFIG)

    def _mount(self, name: str, file_name: str, text: pulumi.Input[str]) -> MountedFile:
        return mount_config(f"{self._name}-{name}", file_name, text, self._child)

    def _declare_key(self, name: str) -> pulumi.Output[str]:
        key = tls.PrivateKey(
            f"{name}-key", algorithm="ECDSA", ecdsa_curve="P256", opts=self._child
        )
        return key.private_key_pem

    def _self_sign(
        self, name: str, common_name: str, key: pulumi.Output[str], kind: Kind
    ) -> pulumi.Output[str]:
        subject = tls.SelfSignedCertSubjectArgs(common_name=common_name)
        certificate = tls.SelfSignedCert(
            name, private_key_pem=key, subject=subject, **_inputs(kind), opts=self._child
        )
        return certificate.cert_pem

    def _sign(
        self,
        name: str,
        common_name: str,
        key: pulumi.Output[str],
        kind: Kind,
        authority: Authority,
    ) -> pulumi.Output[str]:
        """Return a certificate for a key, signed by a CA."""
        subject = tls.CertRequestSubjectArgs(common_name=common_name)
        request = tls.CertRequest(
            f"{name}-request", private_key_pem=key, subject=subject, opts=self._child
        )
        certificate = tls.LocallySignedCert(
            name,
            cert_request_pem=request.cert_request_pem,
            ca_private_key_pem=authority.key,
            ca_cert_pem=authority.certificate,
            **_inputs(kind),
            opts=self._child,
        )
        return certificate.cert_pem


def declare_certificates(
    name: str, settings: TlsSettings, opts: pulumi.ResourceOptions, *, holds_workers: bool = False
) -> Certificates | None:
    """Declare the certificates; without TLS warn that there are none."""
    if settings.on:
        return Certificates(name, settings, opts, holds_workers=holds_workers)
    pulumi.log.warn(
        "tls is false: every program on the cluster's network can read all data and run any code. "
        "To encrypt the cluster: pulumi config set tls true"
    )
    return None


def identity_of(certificates: Certificates | None, role: Role) -> Identity:
    """Return the files of a role, which are empty without TLS."""
    return certificates.identities[role] if certificates else Identity()


def _ca_name(number: int) -> str:
    # Different for each CA: OpenSSL looks the CA of a certificate up by name.
    return f"dask-swarm CA {number}"


def _inputs(kind: Kind) -> dict[str, Any]:
    return {
        "allowed_uses": kind.uses,
        "validity_period_hours": kind.validity,
        "early_renewal_hours": kind.renewal,
        **({"is_ca_certificate": True} if kind.is_ca else {}),
    }
