"""The text of problems on a terminal."""

from config.problems import ConfigError, Problem, set_command

MEMORY = Problem(
    key="workerMemory",
    found="'1GB' is not valid",
    expected="a number directly followed by KiB, MiB, GiB or TiB",
    fix="pulumi config set workerMemory 1GiB",
)


def test_what_is_expected_and_the_fix_have_their_own_lines():
    """A user can copy the command."""
    assert """The configuration is not valid (1 problem). Nothing was changed.
  - workerMemory: '1GB' is not valid
      expected: a number directly followed by KiB, MiB, GiB or TiB
      fix: pulumi config set workerMemory 1GiB""" == str(
        ConfigError("The configuration is not valid", [MEMORY])
    )


def test_a_fix_names_its_key_even_if_the_value_contains_it():
    """The repository of an image may be called image."""
    assert "pulumi config set image h/image:1" == set_command("image", "h/image:1")
    assert "pulumi config set --secret k" == set_command("k", "--secret k")


def test_the_headline_counts_the_problems():
    """A long list may not fit the terminal."""
    headline, *_ = str(ConfigError("The Swarm does not fit", [MEMORY, MEMORY])).splitlines()
    assert "The Swarm does not fit (2 problems). Nothing was changed." == headline


def test_the_example_of_a_command_may_hold_its_options():
    """Then it names the key itself."""
    assert "pulumi config set workers 2" == set_command("workers", "2")
    assert "pulumi config set --secret s3SecretKey" == set_command(
        "s3SecretKey", "--secret s3SecretKey"
    )
