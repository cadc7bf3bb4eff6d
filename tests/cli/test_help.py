import pytest

import revstep

COMMANDS = ("export", "compile", "info", "inspect", "sample", "bench", "deploy", "doctor", "demo")


def test_help_names_every_command(cli):
    result = cli("--help")
    assert result.exit_code == 0
    for command in COMMANDS:
        assert command in result.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert f"Example: revstep {command}" in result.stdout


def test_help_lists_what_the_code_allows(cli):
    pytest.importorskip("torch")
    from revstep.engine.open.bundle import DEVICES
    from revstep.export import OPSETS

    assert f"{OPSETS[0]}<=x<={OPSETS[-1]}" in cli("export", "--help").stdout
    for command in (("sample",), ("bench", "run")):
        text = " ".join(cli(*command, "--help").stdout.replace("│", " ").split())
        assert f"{', '.join(DEVICES)}." in text
    assert "--threads 1" in text


def test_version(cli):
    assert cli("--version").stdout.strip() == f"revstep {revstep.__version__}"


def test_an_unknown_command_or_option_is_the_callers_mistake(cli):
    assert cli("resample").exit_code == 2
    assert cli("info", "--colour").exit_code == 2


def test_help_imports_no_backend(process):
    code = process("--help", PYTHONPROFILEIMPORTTIME="1")
    assert code.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in code.stderr.splitlines()}
    assert "numpy" in imported  # the list is one of imports
    assert not imported & {"torch", "onnx", "onnxruntime", "diffusers", "PIL", "matplotlib"}
