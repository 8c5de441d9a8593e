"""The Caddyfile: the fragments in `caddy/` with the values of one stack.

Owns which values are allowed. The fragments hold the text, as a person would write it; a value
must be one plain word, even if the settings have checked it already.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import bcrypt

SOURCES = Path(__file__).parent
BCRYPT_ROUNDS = 12
AUTHELIA_COOKIE = "authelia_session"
# Of each site that Caddy sends a key: its file in /run/secrets, for the site and a managed Caddy.
KEY_FILES = {"notebook": "front_key", "prefect": "prefect_key"}

_NO_KEYS: Mapping[str, str] = {}
_PLACEHOLDER = re.compile(r"\{\$([A-Z_]+)\}")
# No blanks, quotes, braces, backslashes or comments: nothing that ends a word or opens a block.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/@?=&%+,$[\]-]+", re.ASCII)
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, kw_only=True)
class CaddyfileValues:
    """The values of one stack; a field's name in capitals is its placeholder.

    `cluster` is the cluster's name. `names` has the DNS name of each site (notebook, dashboard,
    prefect), whose placeholder is `NOTEBOOK_NAME` and so on. Values that the `login` (authelia,
    basic, basic-cookie or none) or the `certificates` (acme or internal) do not use may be empty.
    `keys` has for each site with a key how Caddy gets it: from a file, in the text or not at all
    (file, text or none).
    """

    cluster: str
    names: Mapping[str, str]
    login: str
    certificates: str
    keys: Mapping[str, str]
    authelia_address: str = ""
    authelia_uri: str = ""
    authelia_cookie: str = AUTHELIA_COOKIE
    basic_user: str = ""
    acme_email: str = ""
    acme_directory: str = ""


def fill(template: str, values: Mapping[str, str]) -> str:
    """Replace each placeholder; raises `ValueError` if its value is missing or not plain."""

    def value_of(placeholder: re.Match[str]) -> str:
        name = placeholder[1]
        value = values.get(name, "")
        # Caddy acts on `import` at the beginning of any line.
        if not _PLAIN.fullmatch(value) or value == "import":
            raise ValueError(f"{name}: {value!r} is not allowed in a Caddyfile")
        return value

    return _PLACEHOLDER.sub(value_of, template)


def fragments(
    values: CaddyfileValues, basic_hash: str = "", known_keys: Mapping[str, str] = _NO_KEYS
) -> dict[str, str]:
    """Return the fragments that any Caddy needs, by their names in `caddy/Caddyfile`."""
    return {
        **sites(values),
        "login.caddy": login(values, basic_hash),
        "key.caddy": keys(values, known_keys),
    }


def sites(values: CaddyfileValues) -> dict[str, str]:
    """Return the fragments without secrets: `site.caddy`, which all sites share, and the sites."""
    return {
        f"{site}.caddy": _render(f"{site}.caddy", _placeholders(values))
        for site in ("site", *values.names)
    }


def login(values: CaddyfileValues, basic_hash: str = "") -> str:
    """Return the login's fragment; that of a basic login holds the password's hash.

    A new password ends all sessions: their cookie contains a hash of the hash.
    """
    session = hashlib.sha256(basic_hash.encode()).hexdigest()[:32]
    known = {"BASIC_HASH": basic_hash, "BASIC_SESSION": session}
    return _render(f"login-{values.login}.caddy", _placeholders(values) | known)


def keys(values: CaddyfileValues, known_keys: Mapping[str, str] = _NO_KEYS) -> str:
    """Return the fragment that opens the sites; only text variants hold the `known_keys`."""
    snippets = []
    for site, variant in values.keys.items():
        key = {"SITE": site, "KEY": known_keys.get(site, ""), "KEY_FILE": KEY_FILES[site]}
        snippets.append(_render(f"key-{variant}.caddy", _placeholders(values) | key))
    return "\n".join(snippets)


def boot() -> str:
    """Return the config that a managed Caddy starts with, the same for all sites."""
    return _render("boot.caddy", {})


def reloader() -> str:
    """Return the script that loads the Caddyfile into a managed Caddy."""
    return (SOURCES / "reloader.sh").read_text(encoding="utf-8")


def options(values: CaddyfileValues) -> dict[str, str]:
    """Return the Caddyfile of a managed Caddy, with its global options."""
    certificates = f"certificates-{values.certificates}.caddy"
    return {
        "Caddyfile": _render("Caddyfile", {}),
        "certificates.caddy": _render(certificates, _placeholders(values)),
    }


def join(files: Mapping[str, str]) -> str:
    """Return the fragments as the one file that an existing Caddy imports, the snippets first."""
    snippets = ("site.caddy", "login.caddy", "key.caddy")
    order = (*snippets, *(name for name in files if name not in snippets))
    return "\n".join(files[name] for name in order)


def _placeholders(values: CaddyfileValues) -> dict[str, str]:
    fields = asdict(values)
    del fields["keys"]
    names = {f"{site}_name": name for site, name in fields.pop("names").items()}
    return {name.upper(): value for name, value in (fields | names).items()}


def _render(source: str, placeholders: Mapping[str, str]) -> str:
    return fill((SOURCES / source).read_text(encoding="utf-8"), placeholders)


def bcrypt_hash(password: str, salt: str) -> str:
    """Return the password's hash for Caddy; `salt` is 32 hexadecimal digits.

    The same for the same password and salt, so that no run changes it.
    """
    setting = f"$2b${BCRYPT_ROUNDS}${_bcrypt_base64(bytes.fromhex(salt))}"
    return bcrypt.hashpw(password.encode(), setting.encode()).decode()


def _bcrypt_base64(salt: bytes) -> str:
    # 16 bytes are 128 bits: 21 characters of 6 bits and one with 2 bits and 4 of padding.
    bits = int.from_bytes(salt) << 4
    return "".join(_BCRYPT_ALPHABET[bits >> shift & 63] for shift in range(126, -1, -6))
