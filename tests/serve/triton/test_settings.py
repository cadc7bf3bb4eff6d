"""Settings as parameters of a configuration, and back."""

import pytest

from revstep.errors import ArgumentError
from revstep.serve.triton.settings import Settings


def config_of(settings):
    """What Triton makes of the parameters, with one of the Python backend's own."""
    own = {"EXECUTION_ENV_PATH": {"string_value": "/env.tar.gz"}}
    return {"parameters": own | {p["key"]: p["value"] for p in settings.parameters()}}


def test_they_come_back():
    for settings in (
        Settings(),
        Settings(
            bundle="/a b/c.revstep", backend="openvino", precision="bf16", threads=2, slots=8,
            max_queue=3, max_samples=5, max_steps=50, deterministic=True,
        ),
    ):  # fmt: skip
        assert Settings.of(config_of(settings)) == settings


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("revstep.slotz", "3", "did you mean 'revstep.slots'"),
        ("revstep.slots", "many", "revstep.slots must be a whole number; got 'many'"),
        ("revstep.slots", "0", "slots=0 is out of range"),
        ("revstep.deterministic", "yes", "must be true or false; got 'yes'"),
        ("revstep.backend", "onnx", "unknown backend 'onnx'"),
    ],
)
def test_a_wrong_one_is_refused(key, value, message):
    config = config_of(Settings())
    config["parameters"][key] = {"string_value": value}
    with pytest.raises(ArgumentError) as error:
        Settings.of(config)
    assert message in str(error.value)
