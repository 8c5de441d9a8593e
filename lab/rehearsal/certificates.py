"""What the provider `tls` makes, made by the library `cryptography`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

Inputs = dict[str, Any]

_RENEWAL, _END = "earlyRenewalHours", "validityEndTime"
_PURPOSES = {
    "client_auth": ExtendedKeyUsageOID.CLIENT_AUTH,
    "server_auth": ExtendedKeyUsageOID.SERVER_AUTH,
}


def make(kind: str, inputs: Inputs) -> dict[str, str]:
    """Return the outputs of a resource of the provider; `kind` is the last part of its type."""
    match kind:
        case "PrivateKey":
            return {"privateKeyPem": _pem_of_key(ec.generate_private_key(ec.SECP256R1()))}
        case "CertRequest":
            return {"certRequestPem": _pem(_request(inputs))}
        case "SelfSignedCert":
            key = _key(inputs["privateKeyPem"])
            certificate = _builder(_name(inputs), _name(inputs), key.public_key(), inputs)
            return _outputs(certificate.sign(key, hashes.SHA256()))
        case "LocallySignedCert":
            return _outputs(_signed(inputs))
    raise ValueError(f"the rehearsal does not know tls {kind}")


def is_due(inputs: Inputs, outputs: Mapping[str, str]) -> bool:
    """Return whether a resource is a certificate that has to be renewed."""
    if _END not in outputs:
        return False
    end = datetime.fromisoformat(outputs[_END])
    return datetime.now(UTC) > end - timedelta(hours=inputs.get(_RENEWAL, 0))


def without_renewal(inputs: Inputs) -> Inputs:
    """Return a resource's inputs without the one whose change keeps a certificate."""
    return {name: value for name, value in inputs.items() if name != _RENEWAL}


def _outputs(certificate: x509.Certificate) -> dict[str, str]:
    return {"certPem": _pem(certificate), _END: certificate.not_valid_after_utc.isoformat()}


def _request(inputs: Inputs) -> x509.CertificateSigningRequest:
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(inputs))
    return builder.sign(_key(inputs["privateKeyPem"]), hashes.SHA256())


def _signed(inputs: Inputs) -> x509.Certificate:
    request = x509.load_pem_x509_csr(inputs["certRequestPem"].encode())
    authority = x509.load_pem_x509_certificate(inputs["caCertPem"].encode())
    key = request.public_key()
    identifier = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier.value)
    builder = _builder(request.subject, authority.subject, key, inputs)
    builder = builder.add_extension(issuer, critical=False)
    return builder.sign(_key(inputs["caPrivateKeyPem"]), hashes.SHA256())


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: CertificatePublicKeyTypes,
    inputs: Inputs,
) -> x509.CertificateBuilder:
    now, uses = datetime.now(UTC), inputs["allowedUses"]
    is_ca = inputs.get("isCaCertificate", False)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + timedelta(hours=inputs["validityPeriodHours"]))
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(_key_usage(uses), critical=True)
    )
    if is_ca:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key), False)
    if purposes := [_PURPOSES[use] for use in uses if use in _PURPOSES]:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return builder


def _key_usage(uses: list[str]) -> x509.KeyUsage:
    others = ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
    return x509.KeyUsage(
        digital_signature="digital_signature" in uses,
        key_cert_sign="cert_signing" in uses,
        crl_sign="crl_signing" in uses,
        encipher_only=False,
        decipher_only=False,
        **dict.fromkeys(others, False),
    )


def _name(inputs: Inputs) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, inputs["subject"]["commonName"])])


def _key(pem: str) -> Any:  # noqa: ANN401  the library's type is a union of all kinds
    return serialization.load_pem_private_key(pem.encode(), password=None)


def _pem(made: x509.Certificate | x509.CertificateSigningRequest) -> str:
    return made.public_bytes(serialization.Encoding.PEM).decode()


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> str:
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL
    return key.private_bytes(pem, form, serialization.NoEncryption()).decode()
