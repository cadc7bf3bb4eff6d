"""A manifest's fields are held to their types and ranges when it is read, each by name."""

import copy
import json
import re
import shutil

import pytest
from damage import edit_manifest
from hypothesis import given, settings
from hypothesis import strategies as st

import revstep
from revstep.commands.info import _rows
from revstep.engine.bundle.choice import CpuChoice
from revstep.engine.bundle.entry import CompiledEntry
from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BackendError, BundleError, RevstepError
from revstep.engine.spec.denoiser import Condition, Decoder, DenoiserSpec, TimeInput
from revstep.engine.spec.grids import KarrasGrid, ShiftedGrid, TimeGrid
from revstep.engine.spec.schedule import FlowSchedule, VESchedule, VPSchedule

pytest.importorskip("onnxscript")

ENTRY = CompiledEntry(
    key="k", target="tensorrt", precision="fp32", runtime="tensorrt", version="11.0",
    device="NVIDIA L4 (sm_89)", batch=(1, 4), file=None, parity="not checked", tuned=2,
)  # fmt: skip

CHOICE = CpuChoice(
    processor="AMD EPYC avx2", threads=2, rewrites=("mish",), seconds=0.5,
    candidates=({"runtime": "onnxruntime", "status": "chosen"},),
).to_dict()  # fmt: skip


def put(*path):
    """A change of the manifest: the value at the path's end but one is set to the last."""

    def change(manifest):
        *way, name, value = path
        for key in way:
            manifest = manifest[key]
        manifest[name] = value

    return change


def drop(*path):
    def change(manifest):
        *way, name = path
        for key in way:
            manifest = manifest[key]
        del manifest[name]

    return change


def grid(value):
    return put("spec", "spacing", value)


def entry(**fields):
    return lambda m: m["engines"].append({**ENTRY.to_dict(), **fields})


def choice(**fields):
    return entry(target="cpu", tuned=None, choice={**CHOICE, **fields})


KARRAS = KarrasGrid().to_dict()
WRONG = {
    "bool as object": (put("spec", "schedule", "zero_terminal_snr", {}),
                       "the vp schedule's zero_terminal_snr must be true or false; got an empty"),
    "bool as number": (put("spec", "clip", 1), "the spec's clip must be true or false; got int 1"),
    "number as text": (put("spec", "schedule", "beta_start", "0.1"),
                       "the vp schedule's beta_start must be a number; got str '0.1'"),
    "number as bool": (put("spec", "schedule", "beta_end", True),
                       "the vp schedule's beta_end must be a number; got true"),
    "number beyond float64": (put("spec", "sigma_data", 10**400), "sigma_data must be a number"),
    "whole number as fraction": (put("spec", "schedule", "steps", 100.0),
                                 "steps must be a whole number; got float 100.0"),
    "table as text": (put("spec", "schedule", "trained_betas", "abc"),
                      "trained_betas must be a list whose items are each a number or null"),
    "table of texts": (put("spec", "schedule", "trained_betas", ["0.1"]), "trained_betas must be"),
    "table of another length": (
        lambda m: m["spec"]["schedule"].update(betas="trained", trained_betas=[0.1, 0.2]),
        "trained_betas has 2 values for 100 steps"),
    "kind as list": (put("spec", "schedule", "kind", []), r"unknown schedule \[\]; allowed: vp"),
    "kind misspelt": (put("spec", "schedule", "kind", "vpp"), "did you mean 'vp'"),
    "schedule's field missing": (drop("spec", "schedule", "betas"), "the vp schedule lacks betas"),
    "schedule as list": (put("spec", "schedule", [1]), "schedule must be an object; got a list of"),
    "spec's field missing": (drop("spec", "clip"), "the spec lacks clip"),
    "time's field missing": (drop("spec", "time", "kind"), "the time input lacks kind"),
    "time's kind": (put("spec", "time", "kind", "Index"), "did you mean 'index'"),
    "condition's field missing": (drop("spec", "conditions", 0, "dtype"), "lacks dtype"),
    "conditions as object": (put("spec", "conditions", {}), "the spec's conditions must be a list"),
    "condition's shape": (put("spec", "conditions", 0, "shape", "4"), "condition's shape must be"),
    "shape of fractions": (put("spec", "shape", [8.0, 2]), "the spec's shape must be a list"),
    "shape of nothing": (put("spec", "shape", [0, 2]), "sample shape must be positive"),
    "shape beyond memory": (put("spec", "shape", [10**15, 2]), "sample shape .* too many elements"),
    "range of three": (put("spec", "value_range", [0, 1, 2]), "value_range must be a list of 2"),
    "range that falls": (put("spec", "value_range", [1, -1]), "lo < hi"),
    "batch of none": (put("spec", "batch", [0, 4]), "batch must be"),
    "offset below 0": (put("spec", "spacing_offset", -1), "grid_offset=-1 is out of range"),
    "offset beyond the steps": (put("spec", "spacing_offset", 100), "0 to 99"),
    "grid misspelt": (grid("karass"), "did you mean 'karras'"),
    "grid's kind": (grid({**KARRAS, "kind": 7}), "unknown kind of grid 7"),
    "grid's field missing": (grid({"kind": "karras", "rho": 7}), "grid lacks sigma_min, sigma_max"),
    "grid's field": (grid({**KARRAS, "rho": None}), "karras grid's rho must be a number; got null"),
    "grid's range": (grid({**KARRAS, "rho": -1.0}), "rho=-1.0 is out of range"),
    "grid in a grid": (grid({"kind": "shifted", "shift": 3, "spacing": {"kind": "karras"},
                             "terminal": None}), "the karras grid lacks"),
    "grid's points": (grid({"kind": "given", "times": ["9"], "sigmas": None, "stop": False}),
                      "the given grid's times must be a list"),
    "decoder": (put("spec", "decoder", {"shape": [4]}), "the decoder lacks scale, shift"),
    "tools": (put("provenance", "tools", []), "provenance's tools must be an object"),
    "parameters": (put("provenance", "parameters", "9"), "provenance's parameters must be a whole"),
    "figures": (put("parity", "figures", [1]), "parity's figures must be an object"),
    "bounds": (put("parity", "bounds", {"fp32": {"forward": "a"}}), "parity's bounds must be"),
    "a graph's name": (put("graphs", "fp32", ["x"]), "graphs must be an object"),
    "a graph's precision": (put("graphs", "fp23", "denoiser.fp32.onnx"), "did you mean 'fp32'"),
    "a file's size": (put("files", "parity.npz", "bytes", -1), "parity.npz.*bytes must be a size"),
    "a file's sum": (put("files", "parity.npz", "sha256", "0"), "parity.npz.*64 hexadecimal"),
    "a file": (put("files", "parity.npz", []), "files must be an object"),
    "an entry": (put("engines", [3]), "engines must be a list whose items are each an object"),
    "an entry's batch": (entry(batch=[4, 1]), "engines.* has batch 4 to 1"),
    "an entry's rows": (entry(batch=[1, True]), "'engines''s batch must be a list of 2"),
    "an entry's tuned": (entry(tuned=9), "has tuned 9; it lies in 1 to 4"),
    "an entry's precision": (entry(precision="fp61"), "unknown precision 'fp61'; did you mean"),
    "an entry's file": (entry(file="engines/x.plan"), "which is not in 'files'"),
    "a choice without its target": (entry(choice=CHOICE), "the target 'tensorrt' and a choice"),
    "a cpu without its choice": (entry(target="cpu", tuned=None), "target 'cpu' and no choice"),
    "a choice as list": (entry(target="cpu", choice=[1]), "choice must be an object or null"),
    "a choice's field missing": (entry(target="cpu", choice={}), "choice lacks processor, threads"),
    "a choice's field unknown": (choice(thread=2), "unknown field of an entry of 'engines''s choi"),
    "a choice's threads": (choice(threads=0), "has 0 threads; there is at least 1"),
    "a choice's seconds": (choice(seconds=0.0), "has 0 seconds; a call takes more than 0"),
    "a choice's rewrites": (choice(rewrites="mish"), "choice's rewrites must be a list"),
    "a choice's candidates": (choice(candidates=["a"]), "choice's candidates must be a list"),
    "an entry's part unknown": (entry(part="encoder.no"), "is of 'encoder.no', which the spec"),
    "an entry's file as list": (entry(file=[]), "'engines''s file must be a text or null"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_refused_by_name(case, policy_bundle, copy_of):
    change, message = WRONG[case]
    bundle = copy_of(policy_bundle)
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=rf"manifest\.json: .*{message}"):
        Bundle.open(bundle)


def test_a_number_that_is_infinite_is_refused(policy_bundle, copy_of):
    bundle = copy_of(policy_bundle)
    text = (bundle / "manifest.json").read_text()
    (bundle / "manifest.json").write_text(text.replace('"sigma_data": 0.5', '"sigma_data": 1e999'))
    with pytest.raises(BundleError, match="1e999 is no finite number"):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (put("spec", "shape", [9, 2]), r"'actions' is \(8, 2\) per row; the spec says \(9, 2\)"),
        (put("spec", "shape", [2]), "'actions' has 3 axes; the spec says 2"),
        (put("spec", "conditions", 0, "shape", [5]), r"'observation' is \(4,\) per row"),
        (put("spec", "conditions", 0, "dtype", "int64"), "'observation' is tensor.float."),
        (put("spec", "conditions", 0, "name", "seen"), "names actions, k, seen"),
        (put("spec", "learned_variance", True), r"output is \(8, 2\) per row.*says \(16, 2\)"),
    ],
)
def test_a_spec_that_contradicts_the_graph_is_refused_at_load(
    change, message, policy_bundle, copy_of
):
    bundle = copy_of(policy_bundle)
    edit_manifest(bundle, change)
    with pytest.raises(BackendError, match=rf"denoiser\.fp32\.onnx.*{message}.*export the bundle"):
        revstep.load(bundle, device="cpu")


def test_a_decoder_that_contradicts_its_graph_is_refused_at_load(image_bundle, copy_of):
    bundle = copy_of(image_bundle)
    edit_manifest(bundle, put("spec", "decoder", "shape", [3, 8, 8]))
    with pytest.raises(BackendError, match=r"decoder\.onnx: the output is \(3, 16, 16\) per row"):
        revstep.load(bundle, device="cpu")


SPECS = (
    DenoiserSpec(shape=(4,), schedule=VPSchedule(), prediction="v_prediction"),
    DenoiserSpec(shape=(4,), schedule=VPSchedule.from_betas([0.1, 0.2]), prediction="epsilon"),
    DenoiserSpec(shape=(4, 2), schedule=VESchedule.from_sigmas([0.1, 1, 5]), prediction="edm"),
    DenoiserSpec.edm((3, 8, 8), value_range=(-1, 1), clip=True),
    DenoiserSpec(
        shape=(4, 8, 8), schedule=FlowSchedule(), prediction="flow",
        time=TimeInput(name="t", kind="unit", fractions=True),
        conditions=(Condition(name="y", dtype="int64", classes=3, null=2), Condition(name="z")),
        grid=ShiftedGrid(3.0, grid=TimeGrid(sigmas=(1.0, 0.5, 0.0))),
        decoder=Decoder(shape=(3, 64, 64), scale=2),
    ),
)  # fmt: skip


EARLIER_GRIDS = (
    {"kind": "trailing"},
    {"kind": "leading", "offset": None, "drop_last": False},
    {"kind": "linspace", "first": None, "last": 1.5, "drop_last": True},
    {"kind": "karras", "sigma_min": None, "sigma_max": 5, "rho": 7.0},
    {"kind": "exponential", "sigma_min": 0.1, "sigma_max": None},
    {"kind": "beta", "sigma_min": None, "sigma_max": None, "alpha": 0.6, "beta": 1,
     "over": "index"},
    {"kind": "logsnr_uniform"},
    {"kind": "given", "times": None, "sigmas": [1, 0.5, 0.0], "stop": True},
    {"kind": "shifted", "shift": 3, "spacing": "trailing", "terminal": None},
)  # fmt: skip
EARLIER = {
    "shape": [4, 8, 8],
    "schedule": {"kind": "flow", "steps": 1000},
    "prediction": "flow",
    "name": "sample",
    "time": {"name": "t", "kind": "unit", "fractions": True},
    "conditions": [{"name": "y", "shape": [], "dtype": "int64", "null": 2, "classes": 3}],
    "learned_variance": False,
    "training_step": 1.0,
    "sigma_data": 0.5,
    "value_range": [-1, 1.0],
    "clip": True,
    "spacing": "trailing",
    "spacing_offset": 0,
    "final": "clean",
    "decoder": {"shape": [3, 64, 64], "scale": 1, "shift": 0.0, "value_range": [-1.0, 1.0]},
    "batch": [1, 64],
}
EARLIER_SCHEDULES = (
    {"kind": "vp", "steps": 2, "betas": "trained", "beta_start": 1e-4, "beta_end": 0.02,
     "zero_terminal_snr": True, "trained_betas": [0.1, 0.2]},
    {"kind": "ve", "steps": 10, "sigma_min": 0.1, "sigma_max": 5, "levels": "karras", "rho": 7,
     "sigmas": None},
)  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        *({"spacing": grid} for grid in EARLIER_GRIDS),
        *({"schedule": schedule, "prediction": "epsilon"} for schedule in EARLIER_SCHEDULES),
    ],
)
def test_what_earlier_bundles_hold_loads(change):
    """Word for word: a field that is added since is named in spec_checks.LATER."""
    values = EARLIER | change
    read = DenoiserSpec.from_dict(json.loads(json.dumps(values)))
    again = json.loads(json.dumps(read.to_dict()))
    for name, value in values.items():
        if isinstance(value, dict):
            assert value.items() <= again[name].items()
        elif name != "conditions":
            assert again[name] == value


@pytest.mark.parametrize("spec", SPECS)
def test_every_field_that_is_written_is_needed_to_read(spec):
    """But those that the first bundles had not, which are named."""
    written = json.loads(json.dumps(spec.to_dict()))
    assert DenoiserSpec.from_dict(written) == spec
    for name in written:
        less = {k: v for k, v in written.items() if k != name}
        with pytest.raises(ValueError, match=rf"the spec lacks {name}"):
            DenoiserSpec.from_dict(less)
    for name in set(written["schedule"]) - {"kind", "levels", "rho", "sigmas"}:
        less = {k: v for k, v in written["schedule"].items() if k != name}
        with pytest.raises((ValueError, TypeError), match=rf"schedule lacks {name}"):
            DenoiserSpec.from_dict({**written, "schedule": less})


def places(value, path=()):
    """Every path in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        for key, part in value.items() if isinstance(value, dict) else enumerate(value):
            yield from places(part, (*path, key))


LEAVES = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["", "x", "vp", "float32", "karras", "index", "parity.npz", "0", "é\0"])
)  # fmt: skip
JSON = st.recursive(
    LEAVES, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(max_size=3), part),
    max_leaves=4,
)  # fmt: skip


def mutate(manifest, draw):
    """One change of the manifest; the last names on the way to it."""
    path = draw(st.sampled_from([p for p in places(manifest) if p and p[0] != "digest"]))
    *way, key = path
    part = manifest
    for name in way:
        part = part[name]
    how = draw(st.sampled_from(["drop", "replace", "replace", "rename", "swap"]))
    if how == "swap":
        part[key], other = copy.deepcopy(manifest["spec"]), key
    elif how == "replace" or isinstance(part, list):
        part[key], other = draw(JSON), key
    else:
        value, other = part.pop(key), draw(st.text(max_size=4))
        if how == "rename":
            part[other] = value
    return [str(name) for name in (*way[-2:], key, other)]


def refusal(action, kinds):
    """(what the action gives, the words of its refusal or None)."""
    try:
        return action(), None
    except kinds as error:
        return None, str(error)


def named(names, text):
    """Whether the text holds one of the names, but for the marks of its quoting."""
    plain = re.sub(r"\W", "", text)
    return any(re.sub(r"\W", "", name) in plain for name in names)


def opened_whole(bundle):
    opened = Bundle.open(bundle, verify=False)
    opened.parity()
    return opened


def check(bundle, draw):
    """A mutated manifest opens and is read as it stands, or is refused by a named field."""
    names = []
    edit_manifest(bundle, lambda m: names.extend(mutate(m, draw)))
    opened, said = refusal(lambda: opened_whole(bundle), BundleError)
    if said is not None:
        assert named(names, said), (names, said)
        return
    assert _rows(opened)  # what info prints
    written = json.loads((bundle / "manifest.json").read_text())
    assert opened.manifest == written
    again = json.loads(json.dumps(opened.spec.to_dict()))
    assert DenoiserSpec.from_dict(again) == opened.spec
    for name, value in written["spec"].items():
        assert again[name] == value or name in ("schedule", "spacing"), name
    _, said = refusal(lambda: revstep.load(bundle, device="cpu", threads=1), RevstepError)
    assert said is None or named(names, said), (names, said)


@pytest.fixture(scope="module")
def fresh_bundle(policy_bundle, tmp_path_factory):
    """A function that gives a copy of the bundle, its manifest as it was."""
    copy = shutil.copytree(policy_bundle, tmp_path_factory.mktemp("mutated") / "copy.revstep")

    def fresh():
        (copy / "manifest.json").write_bytes((policy_bundle / "manifest.json").read_bytes())
        return copy

    return fresh


QUICK = settings(max_examples=60, derandomize=True, deadline=None)


@QUICK
@given(data=st.data())
def test_a_mutated_manifest_loads_or_is_refused_by_name(data, fresh_bundle):
    check(fresh_bundle(), data.draw)


@pytest.mark.slow
@settings(QUICK, max_examples=2000)
@given(data=st.data())
def test_many_mutated_manifests_load_or_are_refused_by_name(data, fresh_bundle):
    check(fresh_bundle(), data.draw)


def test_a_choice_comes_back_as_it_was_written(policy_bundle, copy_of):
    bundle = copy_of(policy_bundle)
    edit_manifest(bundle, choice())
    written = json.loads((bundle / "manifest.json").read_text())["engines"][-1]
    read = Bundle.open(bundle).compiled[-1]
    assert read.choice.rewrites == ("mish",)
    assert read.to_dict() == written


def test_an_entry_without_a_choice_is_written_without_the_field():
    assert "choice" not in ENTRY.to_dict()
