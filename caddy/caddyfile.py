"""Caddy's text: the files of `caddy/` with the values of one stack in their places.

Owns what may stand in which place. The text itself is in the files, as a person would write it;
a value that could be anything but one plain word of it is refused here, whoever checked it before.
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

_PLACE = re.compile(r"\{\$([A-Z_]+)\}")
# No blanks, quotes, braces, backslashes or comments: nothing that ends a word or begins a block.
_PLAIN = re.compile(r"[A-Za-z0-9._~:/@?=&%+,$-]+", re.ASCII)
_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@dataclass(frozen=True, kw_only=True)
class FrontText:
    """The values of one stack; a field in capitals is the place that it fills.

    What the chosen `login` (authelia, basic, basic-cookie or none) does not use may be empty, and
    so may what ACME needs where `certificates` is internal. `key` is how Caddy knows the front key
    of the notebook: by a file of its own, by its text or not at all (file, text or none). Without
    `prefect_name` there is no such site.
    """

    notebook_name: str
    dashboard_name: str
    login: str
    certificates: str
    key: str
    authelia_address: str = ""
    authelia_uri: str = ""
    authelia_cookie: str = AUTHELIA_COOKIE
    basic_user: str = ""
    acme_email: str = ""
    acme_directory: str = ""
    prefect_name: str = ""


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put each value in its place; raises `ValueError` for one that is missing or not plain."""

    def value_of(place: re.Match[str]) -> str:
        value = values.get(place[1], "")
        # `import` is a word that Caddy acts on wherever a line begins with it.
        if not _PLAIN.fullmatch(value) or value == "import" or "{$" in value:
            raise ValueError(f"{place[1]}: {value!r} cannot stand in Caddy's text")
        return value

    return _PLACE.sub(value_of, template)


def fragments(text: FrontText, basic_hash: str = "", front_key: str = "") -> dict[str, str]:
    """Return what any Caddy needs to serve the sites, by the names in `caddy/Caddyfile`."""
    return {
        **sites(text),
        "login.caddy": login(text, basic_hash),
        "key.caddy": key(text, front_key),
    }


def sites(text: FrontText) -> dict[str, str]:
    """Return the fragments that hold no secret."""
    files = ["site.caddy", "notebook.caddy", "dashboard.caddy"]
    files += ["prefect.caddy"] if text.prefect_name else []
    return {name: _filled(name, _values(text)) for name in files}


def login(text: FrontText, basic_hash: str = "") -> str:
    """Return the one fragment that knows a password's hash, where there is one.

    Its sessions end with the hash: a part of their cookie is made of it.
    """
    session = hashlib.sha256(basic_hash.encode()).hexdigest()[:32]
    known = {"BASIC_HASH": basic_hash, "BASIC_SESSION": session}
    return _filled(f"login-{text.login}.caddy", _values(text) | known)


def key(text: FrontText, front_key: str = "") -> str:
    """Return the fragment that opens the notebook; only its text variant holds the key itself."""
    return _filled(f"key-{text.key}.caddy", {"FRONT_KEY": front_key})


def boot() -> str:
    """Return what the stack's own Caddy starts with, the same for every front."""
    return _filled("boot.caddy", {})


def reloader() -> str:
    """Return the script that hands the stack's own Caddy the rest."""
    return (SOURCES / "reloader.sh").read_text(encoding="utf-8")


def options(text: FrontText) -> dict[str, str]:
    """Return what the stack's own Caddy needs besides, the source of its certificates included."""
    return {
        "Caddyfile": _filled("Caddyfile", {}),
        "certificates.caddy": _filled(f"certificates-{text.certificates}.caddy", _values(text)),
    }


def joined(files: Mapping[str, str]) -> str:
    """Return the fragments as the one file that an existing Caddy imports."""
    order = ("site.caddy", "login.caddy", "key.caddy", "notebook.caddy", "dashboard.caddy")
    return "\n".join(files[name] for name in (*order, "prefect.caddy") if name in files)


def _values(text: FrontText) -> dict[str, str]:
    return {name.upper(): value for name, value in asdict(text).items()}


def _filled(source: str, values: Mapping[str, str]) -> str:
    return fill((SOURCES / source).read_text(encoding="utf-8"), values)


def bcrypt_hash(password: str, salt: str) -> str:
    """Return the hash that Caddy compares with; `salt` is 32 hexadecimal digits.

    The same for the same password and salt, so that nothing changes from one run to the next.
    """
    setting = f"$2b${BCRYPT_ROUNDS}${_bcrypt_base64(bytes.fromhex(salt))}"
    return bcrypt.hashpw(password.encode(), setting.encode()).decode()


def _bcrypt_base64(salt: bytes) -> str:
    # 16 bytes are 128 bits: 21 characters of 6 bits and one with 2 bits and 4 of padding.
    bits = int.from_bytes(salt) << 4
    return "".join(_BCRYPT_ALPHABET[bits >> shift & 63] for shift in range(126, -1, -6))
