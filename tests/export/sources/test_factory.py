"""Finding a user's factory, and telling what is wrong with it."""

import sys

import pytest
import torch

from revstep.engine.errors import ExportError
from revstep.export import load_factory

SOURCE = """
import torch
from revstep.engine.spec.schedule import VPSchedule
from revstep.engine.spec.denoiser import DenoiserSpec

spec = DenoiserSpec(shape=(2,), schedule=VPSchedule(), prediction="epsilon")
not_a_function = 3

def good():
    return torch.nn.Linear(2, 2), spec

def with_decoder():
    return torch.nn.Linear(2, 2), spec, torch.nn.Identity()

class Deep:
    @staticmethod
    def build():
        return torch.nn.Linear(2, 2), spec

def only_module():
    return torch.nn.Linear(2, 2)

def swapped():
    return spec, torch.nn.Linear(2, 2)

def no_spec():
    return torch.nn.Linear(2, 2), {"shape": (2,)}

def bad_decoder():
    return torch.nn.Linear(2, 2), spec, "vae"

def raises():
    raise KeyError("weights")

def inside_torch():
    return torch.zeros(2).view(3), spec  # line of the user's

def bad_spec():
    return torch.nn.Linear(2, 2), DenoiserSpec(shape=3, schedule=VPSchedule(), prediction="flow")

def takes_one(path):
    return good()
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    (tmp_path / "my_factory.py").write_text(SOURCE)
    (tmp_path / "unfinished_factory.py").write_text("x = 1\ndef good(:\n")
    (tmp_path / "broken_factory.py").write_text("import nothing_of_that_name\n")
    (tmp_path / "older_factory.py").write_text("import math\nmath.nothing_of_that_name\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for name in ("my_factory", "broken_factory"):
        sys.modules.pop(name, None)
    yield tmp_path
    sys.modules.pop("my_factory", None)


def test_a_factory_in_the_current_directory_is_found(project):
    module, spec, decoder = load_factory("my_factory:good")
    assert isinstance(module, torch.nn.Linear)
    assert spec.shape == (2,)
    assert decoder is None


def test_a_decoder_is_optional(project):
    assert isinstance(load_factory("my_factory:with_decoder")[2], torch.nn.Identity)


def test_a_nested_factory_is_found(project):
    assert load_factory("my_factory:Deep.build")[1].shape == (2,)


@pytest.mark.parametrize("name", ["my_factory", "my_factory:", ":good", "my factory:good", "a/b:c"])
def test_a_name_of_another_form_is_the_callers_mistake(project, name):
    with pytest.raises(ValueError, match=r"package.module:function"):
        load_factory(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing_module:good", "importing 'missing_module' failed: ModuleNotFoundError"),
        ("broken_factory:good", "nothing_of_that_name"),
        ("older_factory:good", r"importing 'older_factory' failed: AttributeError.*py:2"),
        ("my_factory:absent", "has no 'absent'"),
        ("my_factory:god", "has no 'god'; did you mean 'good'?"),
        ("my_factory:not_a_function", "is int, not a function"),
        ("my_factory:only_module", r"returned Linear; a factory returns \(module, spec\)"),
        ("my_factory:swapped", "returned DenoiserSpec as the module"),
        ("my_factory:no_spec", "returned dict as the spec"),
        ("my_factory:bad_decoder", "returned str as the decoder"),
        ("my_factory:raises", "my_factory:raises.. failed: KeyError: 'weights'"),
        ("my_factory:takes_one", "failed: TypeError"),
    ],
)
def test_what_is_wrong_is_named(project, name, message):
    with pytest.raises(ExportError, match=message):
        load_factory(name)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("my_factory:raises", 'raise KeyError("weights")'),
        ("my_factory:inside_torch", "torch.zeros(2).view(3)"),
        ("my_factory:bad_spec", "DenoiserSpec(shape=3"),
        ("broken_factory:good", "import nothing_of_that_name"),
        ("unfinished_factory:good", "def good(:"),
    ],
)
def test_a_failure_names_the_users_own_line(project, name, line):
    file = project / f"{name.partition(':')[0]}.py"
    number = next(n for n, text in enumerate(file.read_text().splitlines(), 1) if line in text)
    with pytest.raises(ExportError, match=rf"{file.name}:{number}; run with revstep --debug"):
        load_factory(name)


def test_a_missing_module_has_no_line(project):
    with pytest.raises(ExportError, match="it is looked for in") as caught:
        load_factory("missing_module:good")
    assert "--debug" not in str(caught.value)
