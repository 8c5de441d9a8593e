"""The credentials file and the variables, as the S3 clients in the containers read them."""

import configparser
import string

import certifi
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.object_store import credentials_file, object_store_variables
from config import cross_checks
from config.problems import ConfigError
from config.settings import parse_settings
from tests.hostile import HOSTILE

SECRET_KEY = "s3SecretKey"
KEYS = {"s3AccessKey": "AKIAEXAMPLE", SECRET_KEY: "wJalrXUt/K7+bPxRfi="}
# The characters of a credential (`parsing.optional_text`).
CREDENTIALS = st.text(string.digits + string.ascii_letters + string.punctuation, min_size=1)
PEM = certifi.contents()
# `settings` has no state.
same_fixture = hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def settings(defaults):
    """Return a function from changes of the defaults to the settings of the object store."""
    return lambda **config: parse_settings(defaults | config, {SECRET_KEY}, {}).object_store


def read(text):
    """Read a credentials file as botocore does: without interpolation."""
    parser = configparser.RawConfigParser()
    parser.read_string(text)
    return parser


def test_one_file_has_everything_that_a_client_needs(settings):
    """Keys, region, endpoint, checksums and the addressing style, in the default profile."""
    store_settings = settings(
        **KEYS, s3Endpoint="https://s3.example.org:9000", s3Region="eu-central-1"
    )
    parser = read(credentials_file(store_settings))
    assert ["default"] == parser.sections()
    assert {
        "aws_access_key_id": "AKIAEXAMPLE",
        "aws_secret_access_key": "wJalrXUt/K7+bPxRfi=",
        "region": "eu-central-1",
        "endpoint_url": "https://s3.example.org:9000",
        "request_checksum_calculation": "when_required",
        "response_checksum_validation": "when_required",
        "s3": "\naddressing_style=path",
    } == dict(parser["default"])


def test_unset_values_are_left_to_the_client(settings):
    """Clients would use an empty region or endpoint; they know Amazon's."""
    store_settings = settings(**KEYS, s3PathStyle="false")
    section = read(credentials_file(store_settings))["default"]
    assert {"region", "endpoint_url"}.isdisjoint(section)
    assert "\naddressing_style=virtual" == section["s3"]
    assert {"AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CA_BUNDLE", "S3_BUCKET"}.isdisjoint(
        object_store_variables(store_settings)
    )


@same_fixture
@given(access_key=CREDENTIALS, secret_key=CREDENTIALS)
def test_any_key_is_read_back(settings, access_key, secret_key):
    """Any characters of a key are read back unchanged, and no other value changes."""
    store_settings = settings(s3AccessKey=access_key, s3SecretKey=secret_key)
    parser = read(credentials_file(store_settings))
    assert ["default"] == parser.sections()
    assert access_key == parser["default"]["aws_access_key_id"]
    assert secret_key == parser["default"]["aws_secret_access_key"]
    assert 5 == len(parser["default"])


@same_fixture
@given(access_key=CREDENTIALS)
def test_no_key_begins_a_comment(settings, access_key):
    """For pyarrow ` #` and ` ;` begin a comment; the key would be missing."""
    text = credentials_file(settings(s3AccessKey=access_key, s3SecretKey="#x"))
    assert " " not in text.replace("    addressing_style", "")


@pytest.mark.parametrize("character", ["\n", " ", "\t", "\0", "é", "\u2028"])
def test_a_key_is_one_line_of_printable_ascii(settings, character):
    """Other characters could end its line, or its header in a request."""
    with pytest.raises(ConfigError, match="printable ASCII"):
        settings(s3AccessKey=f"AK{character}IA", s3SecretKey="x")


def test_variables_name_the_rest_for_pyarrow_and_python(settings):
    """pyarrow reads endpoint and region only there, and botocore the certificates."""
    store_settings = settings(**KEYS, s3Endpoint="https://s3.local", s3Region="x", s3Bucket="dask")
    variables = object_store_variables(store_settings)
    assert "/run/secrets/s3_credentials" == variables["AWS_SHARED_CREDENTIALS_FILE"]
    assert "https://s3.local" == variables["AWS_ENDPOINT_URL"]
    assert ("x", "x") == (variables["AWS_REGION"], variables["AWS_DEFAULT_REGION"])
    assert "dask" == variables["S3_BUCKET"]
    with_ca = object_store_variables(settings(**KEYS, s3CaBundle=PEM))
    assert "/etc/dask-swarm/s3-ca.pem" == with_ca["AWS_CA_BUNDLE"]


def test_no_variable_holds_a_key(settings):
    """Variables reach every process that work starts, and some tracebacks."""
    text = str(object_store_variables(settings(**KEYS)))
    assert not any(value in text for value in KEYS.values())


def test_a_user_cannot_set_the_variables_of_the_store(settings):
    """All of them are refused: a variable that is unset now may be set later."""
    variables = object_store_variables(settings(**KEYS, s3Bucket="dask", s3Region="x"))
    assert set(variables) <= set(cross_checks.OBJECT_STORE_VARIABLES)
    for name in cross_checks.OBJECT_STORE_VARIABLES:
        with pytest.raises(ConfigError, match=f"environment: {name} is set"):
            settings(**KEYS, environment=f'{{"{name}": "x"}}')
        settings(environment=f'{{"{name}": "x"}}')


@pytest.mark.parametrize("key", ["s3Endpoint", "s3Region", "s3Bucket", "s3CaBundle"])
def test_settings_of_the_store_need_keys(settings, key):
    """Without keys they would have no effect."""
    values = {"s3Endpoint": "https://s3.local", "s3CaBundle": PEM}
    with pytest.raises(ConfigError, match=f"{key}: set without keys for the S3 server"):
        settings(**{key: values.get(key, "dask")})


@pytest.mark.parametrize("key", KEYS)
def test_one_key_needs_the_other(settings, key):
    """With one key only, a client would be anonymous."""
    with pytest.raises(ConfigError, match="both or none"):
        settings(**{key: "x"})


LINES = {
    "s3AccessKey": "aws_access_key_id",
    "s3SecretKey": "aws_secret_access_key",
    "s3Region": "region",
    "s3Endpoint": "endpoint_url",
}


@pytest.mark.parametrize("key", [*LINES, "s3Bucket"])
def test_a_hostile_value_is_its_own_line_or_refused(settings, key):
    """No value begins a section, a comment or another line, or is interpolated."""
    plain = {"s3Region": "here", "s3Endpoint": "https://h", "s3Bucket": "dask"} | KEYS
    expected = read(credentials_file(settings(**plain)))["default"]
    problems = set()
    for text in filter(None, HOSTILE):
        try:
            store = settings(**plain | {key: text})
        except ConfigError as error:
            problems.update(problem.key for problem in error.problems)
            continue
        parser = read(credentials_file(store))
        assert ["default"] == parser.sections()
        line = {LINES[key]: text} if key in LINES else {}
        assert {**expected, **line} == dict(parser["default"])
        assert key != "s3Bucket" or text == object_store_variables(store)["S3_BUCKET"]
    assert {key} == problems
