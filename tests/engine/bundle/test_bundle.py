"""Reading a bundle: what is inside, and what is refused."""

import json
import pickle

import numpy as np
import pytest
from damage import edit_manifest, flip, rehash

from revstep.engine.bundle.reader import Bundle
from revstep.engine.errors import BundleError
from revstep.engine.spec.denoiser import DenoiserSpec

pytest.importorskip("onnxscript")


@pytest.fixture
def bundle(tabular_bundle, copy_of):
    return copy_of(tabular_bundle)


def manifest_of(path):
    return json.loads((path / "manifest.json").read_text())


def test_a_bundle_reports_its_spec_graphs_and_reference(image_bundle):
    from toys import IMAGE

    bundle = Bundle.open(image_bundle)
    assert bundle.spec == IMAGE
    assert bundle.precisions == ("fp32", "fp16")
    assert bundle.graph("fp16").name == "denoiser.fp16.onnx"
    assert bundle.decoder() == image_bundle / "decoder.onnx"
    assert bundle.compiled == ()
    parity = bundle.parity()
    assert parity["x"].shape == (8, 3, 8, 8)
    assert parity["out"].shape == (8, 6, 8, 8)
    assert parity["cond.label"].dtype == np.int64
    assert parity["ddim20.final"].shape[1:] == (3, 8, 8)


def test_a_bundles_repr_leaves_its_manifest_out(policy_bundle):
    text = repr(Bundle.open(policy_bundle))
    assert str(policy_bundle) in text
    assert "sha256" not in text


def test_the_spec_survives_the_manifest(policy_bundle):
    from toys import POLICY

    assert DenoiserSpec.from_dict(manifest_of(policy_bundle)["spec"]) == POLICY


def test_a_bundle_without_decoder_has_none(policy_bundle):
    assert Bundle.open(policy_bundle).decoder() is None


def test_a_missing_precision_names_the_command_that_adds_it(tabular_bundle):
    with pytest.raises(BundleError, match=r"no fp16 graph.*tabular -o .*fp32,fp16 --overwrite"):
        Bundle.open(tabular_bundle).graph("fp16")


@pytest.mark.parametrize("name", ["denoiser.fp32.onnx", "parity.npz"])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_a_flipped_bit_is_found(bundle, name, place):
    size = (bundle / name).stat().st_size
    flip(bundle / name, int(place * (size - 1)))
    with pytest.raises(BundleError, match=rf"{name}.*sha256.*export it again"):
        Bundle.open(bundle)


def test_no_flipped_bit_of_the_manifest_changes_its_meaning(bundle):
    file = bundle / "manifest.json"
    sound, before = file.read_bytes(), manifest_of(bundle)
    refused = 0
    for at in range(0, len(sound), 7):
        flip(file, at, bit=1 << (at % 8))
        try:
            opened = Bundle.open(bundle)
        except BundleError:
            refused += 1
        else:
            assert opened.manifest == before  # white space
        file.write_bytes(sound)
    assert refused > 0.5 * len(sound) / 7


def test_without_verify_the_content_is_not_hashed(bundle):
    flip(bundle / "denoiser.fp32.onnx", 1000)
    Bundle.open(bundle, verify=False)


@pytest.mark.parametrize("name", ["denoiser.fp32.onnx", "parity.npz"])
@pytest.mark.parametrize("verify", [True, False])
def test_a_cut_file_is_found(bundle, name, verify):
    data = (bundle / name).read_bytes()
    (bundle / name).write_bytes(data[:-1])
    with pytest.raises(BundleError, match=rf"{name} has {len(data) - 1} bytes.*cut short"):
        Bundle.open(bundle, verify=verify)


@pytest.mark.parametrize("keep", [0, 1, 300, -2])
def test_a_cut_manifest_is_found(bundle, keep):
    file = bundle / "manifest.json"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["denoiser.fp32.onnx", "parity.npz", "manifest.json"])
def test_a_missing_file_is_found(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(BundleError, match=name.replace(".", r"\.")):
        Bundle.open(bundle)


def test_what_is_no_bundle_is_named(tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        Bundle.open(tmp_path / "none.revstep")
    with pytest.raises(BundleError, match=r"has no manifest\.json"):
        Bundle.open(tmp_path)
    file = tmp_path / "file.revstep"
    file.write_text("x")
    with pytest.raises(BundleError, match="is a file"):
        Bundle.open(file)


@pytest.mark.parametrize(
    "text", ["", "[]", "3", "{", '{"format": NaN}', "[" * 100_000, '{"a": "\\ud800"}', "\x00"]
)
def test_a_manifest_that_is_not_a_bundles_is_refused(bundle, text):
    (bundle / "manifest.json").write_text(text)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        Bundle.open(bundle)


def test_bytes_that_are_no_text_are_refused(bundle):
    (bundle / "manifest.json").write_bytes(b"\xff\xfe\x00{")
    with pytest.raises(BundleError, match="can't be read as JSON"):
        Bundle.open(bundle)


def test_an_edit_without_a_new_digest_is_refused(bundle):
    manifest = manifest_of(bundle)
    manifest["provenance"]["opset"] = 21
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(BundleError, match="damaged or edited"):
        Bundle.open(bundle)


DECODER = {"shape": [6], "scale": 1.0, "shift": 0.0, "value_range": [-1.0, 1.0]}


def spec_field(manifest):
    manifest["spec"]["colour"] = 1


def condition_field(manifest):
    manifest["spec"]["time"]["colour"] = 1


def schedule_field(manifest):
    manifest["spec"]["schedule"]["colour"] = 1


def engine_field(manifest):
    manifest["engines"].append({"key": "k"})


def file_field(manifest):
    manifest["files"]["parity.npz"]["mode"] = 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(colour=1), "unknown field 'colour'.*allowed"),
        (lambda m: m.update(version=2), "version is 2.*reads version 1"),
        (lambda m: m.update(version="1"), "version is '1'"),
        (lambda m: m.update(version=True), "version is True"),
        (lambda m: m.update(format="zip"), "format is 'zip'"),
        (lambda m: m.pop("graphs"), "lacks the field 'graphs'"),
        (
            lambda m: m.update(engines={}),
            "manifest's engines must be a list",
        ),
        (lambda m: m.update(graphs={}), "lists no graph"),
        (lambda m: m.update(graphs={"fp8": "denoiser.fp32.onnx"}), "unknown precision 'fp8'"),
        (
            lambda m: m.update(graphs={"fp32": "other.onnx"}),
            r"graphs has for fp32 'other.onnx', which is not in",
        ),
        (spec_field, "colour"),
        (condition_field, "colour"),
        (schedule_field, "colour"),
        (lambda m: m["spec"].update(shape="six"), "'spec'"),
        (lambda m: m["spec"].update(schedule=None), "'spec'"),
        (lambda m: m["spec"].update(decoder=DECODER), "no decoder.onnx"),
        (engine_field, "an entry of 'engines'"),
        (file_field, "exactly 'sha256' and 'bytes'"),
        (lambda m: m["files"].pop("parity.npz"), r"'parity.npz' is not in 'files'"),
    ],
)
def test_a_malformed_manifest_is_refused(bundle, change, message):
    edit_manifest(bundle, change)
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle)


@pytest.mark.parametrize(
    "name",
    ["../secret", "/etc/passwd", "a/../../secret", "./parity.npz", "a//b", "C:x", "..\\x", "", "."],
)
def test_a_path_that_is_not_inside_is_refused(bundle, name):
    (bundle.parent / "secret").write_text("s")
    edit_manifest(bundle, lambda m: m["files"].update({name: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(BundleError, match="not a plain relative path"):
        Bundle.open(bundle)


@pytest.mark.parametrize("name", ["parity.npz", "manifest.json"])
def test_a_link_out_of_the_bundle_is_refused(bundle, name):
    outside = bundle.parent / "outside"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(bundle)


def test_a_linked_directory_out_of_the_bundle_is_refused(bundle):
    outside = bundle.parent / "outside"
    outside.mkdir()
    (outside / "x.plan").write_bytes(b"x")
    (bundle / "engines").symlink_to(outside)
    edit_manifest(
        bundle, lambda m: m["files"].update({"engines/x.plan": {"sha256": "0", "bytes": 1}})
    )
    with pytest.raises(BundleError, match="outside the bundle"):
        Bundle.open(bundle)


def test_a_link_that_loops_is_refused(bundle):
    (bundle / "parity.npz").unlink()
    (bundle / "parity.npz").symlink_to("parity.npz")
    with pytest.raises(BundleError, match=r"parity\.npz"):
        Bundle.open(bundle)


def test_a_bundle_reached_by_a_link_opens(tabular_bundle, tmp_path):
    (tmp_path / "current").symlink_to(tabular_bundle)
    assert Bundle.open(tmp_path / "current").precisions == ("fp32",)


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("a pickle was run",))


def parity_arrays(bundle):
    with np.load(bundle / "parity.npz") as archive:
        return dict(archive)


def test_a_pickle_in_the_reference_is_refused_and_not_run(bundle):
    arrays = parity_arrays(bundle)
    trap = np.empty(1, dtype=object)
    trap[0] = Trap()
    np.savez(bundle / "parity.npz", **{**arrays, "x": trap})
    rehash(bundle, "parity.npz")
    with pytest.raises(BundleError, match="never pickles"):
        Bundle.open(bundle).parity()


def test_a_bare_pickle_as_the_reference_is_refused_and_not_run(bundle):
    (bundle / "parity.npz").write_bytes(pickle.dumps(Trap()))
    rehash(bundle, "parity.npz")
    with pytest.raises(BundleError, match="never pickles"):
        Bundle.open(bundle).parity()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("t"), "expected ddim20.final"),
        (lambda a: a.update(more=np.zeros(1)), "holds .*more"),
        (lambda a: a.update(t=a["t"].astype(np.float64)), "t is float64"),
        (lambda a: a.update(t=a["t"][:-1]), r"t is float32 \(7,\), expected float32 \(8,\)"),
        (lambda a: a.update(out=a["out"] * np.nan), "out holds NaN"),
        (lambda a: a.update({"ddim20.seed": np.int64(3)}), "expected one uint64"),
        (lambda a: a.update(x=np.float32(3.0)), "x is float32"),
    ],
)
def test_a_reference_that_does_not_fit_the_spec_is_refused(bundle, change, message):
    arrays = parity_arrays(bundle)
    change(arrays)
    np.savez(bundle / "parity.npz", **arrays)
    rehash(bundle, "parity.npz")
    with pytest.raises(BundleError, match=message):
        Bundle.open(bundle).parity()
