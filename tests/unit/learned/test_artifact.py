"""Artifacts: the same scores to the bit after a round trip, and no altered file is served."""

import dataclasses
import hashlib
import json
import pickle

import numpy as np
import pytest
import safetensors.numpy

from router.artifact import (
    DATA_FILES,
    FLOOR,
    KINDS,
    MANIFEST,
    PROFILES,
    PROJECTION,
    QUERIES,
    load_artifact,
    save_artifact,
)
from router.errors import ArtifactError
from router.kinds import Kinds


@pytest.fixture
def folder(tmp_path, fitted):
    """Return the folder of a saved artifact."""
    save_artifact(tmp_path / "router-1", fitted[0])
    return tmp_path / "router-1"


def edit_manifest(folder, edit):
    """Change the manifest in place."""
    manifest = json.loads((folder / MANIFEST).read_text())
    edit(manifest)
    (folder / MANIFEST).write_text(json.dumps(manifest))


def replace_file(folder, name, content):
    """Replace a file and list its true size and hash."""
    (folder / name).write_bytes(content)
    listed = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    edit_manifest(folder, lambda manifest: manifest["files"].update({name: listed}))


def test_a_round_trip_keeps_every_bit(folder, world, fitted):
    """Scores, profiles, reference, floor and summary come back equal."""
    artifact, _ = fitted
    again = load_artifact(folder, expected_schema_hash=world.schema.hash)
    test, _ = world.make(5, seed=3)
    arguments = {
        "num_chars": 50,
        "num_images": 1,
        "candidates": world.candidates,
        "profiles": artifact.profiles,
    }
    for features_F in test.features_NF:
        one = artifact.router().scorer.score(features_F, **arguments)
        other = again.router().scorer.score(features_F, **arguments)
        assert all(np.array_equal(getattr(one, n), getattr(other, n)) for n in one.__slots__)
    assert again.profiles == artifact.profiles
    assert again.reference == artifact.reference
    assert np.array_equal(again.router().floor.risk_SL, artifact.floor.risk_SL)
    assert again.floor.num_queries == artifact.floor.num_queries == 600
    assert again.training_summary == json.loads(json.dumps(artifact.training_summary))


def test_saving_is_whole_or_not_at_all(tmp_path, fitted):
    """A summary that is not JSON leaves nothing behind, and nothing is overwritten."""
    bad = dataclasses.replace(fitted[0], training_summary={"loss": float("nan")})
    with pytest.raises(ArtifactError, match="JSON"):
        save_artifact(tmp_path / "router", bad)
    assert list(tmp_path.iterdir()) == []
    first = save_artifact(tmp_path / "router", fitted[0])
    assert first == hashlib.sha256((tmp_path / "router" / MANIFEST).read_bytes()).hexdigest()
    with pytest.raises(ArtifactError, match="exists"):
        save_artifact(tmp_path / "router", fitted[0])


@pytest.mark.parametrize("name", [*DATA_FILES, MANIFEST])
def test_a_missing_file_is_named(folder, name):
    """Each file is needed."""
    (folder / name).unlink()
    with pytest.raises(ArtifactError, match=f"{name} is missing"):
        load_artifact(folder)


@pytest.mark.parametrize("name", DATA_FILES)
def test_one_altered_byte_is_found(folder, name):
    """Neither a changed nor an added byte passes."""
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=f"{name} differs"):
        load_artifact(folder)
    (folder / name).write_bytes(bytes(content) + b" ")
    with pytest.raises(ArtifactError, match=f"{name} has"):
        load_artifact(folder)


def test_unlisted_files_and_links_are_refused(folder, tmp_path):
    """A pickle beside the files, or a link in place of one, stops the load."""
    (folder / "model.pkl").write_bytes(pickle.dumps({}))
    with pytest.raises(ArtifactError, match=r"model.pkl does not belong"):
        load_artifact(folder)
    (folder / "model.pkl").unlink()
    (folder / QUERIES).rename(tmp_path / "elsewhere")
    (folder / QUERIES).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="not a regular file"):
        load_artifact(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.update(format_version=1), "format 1, not 2"),
        (lambda m: m.update(extra=1), "other keys"),
        (lambda m: m["files"].update({"../../etc/passwd": {}}), "lists other files"),
        (lambda m: m["files"].update({QUERIES: "x"}), "without its bytes"),
        (lambda m: m.update(version="../up"), "no plain name"),
        (lambda m: m.update(version=3), "names no version"),
        (lambda m: m.update(reference=[]), "no table"),
        (lambda m: m["reference"].update(other=1), "cannot be used"),
        (lambda m: m["reference"].update(cost_usd=0), "cannot be used"),
        (lambda m: m.update(feature_schema_hash="0" * 64), "own hash"),
        (lambda m: m["feature_schema"].update(blocks=[]), "own hash"),
    ],
)
def test_an_edited_manifest_is_refused(folder, edit, message):
    """Format, names, sizes and paths are checked before anything is built."""
    edit_manifest(folder, edit)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder)


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a": NaN}', b"\xff", b" " * (2 << 20)])
def test_a_manifest_that_is_no_table_is_refused(folder, content):
    """Not JSON, not a table, not a number, too large."""
    (folder / MANIFEST).write_bytes(content)
    with pytest.raises(ArtifactError, match=MANIFEST):
        load_artifact(folder)


def test_foreign_features_are_refused_with_the_remedy(folder):
    """A router trained on other features is never served."""
    with pytest.raises(ArtifactError, match="retrain on the served features"):
        load_artifact(folder, expected_schema_hash="f" * 64)


def test_relisted_contents_are_still_checked(folder, tmp_path):
    """True hashes do not excuse pickles or infinite weights."""
    arrays = safetensors.numpy.load((folder / QUERIES).read_bytes())
    replace_file(folder, QUERIES, pickle.dumps({"weights": 1}))
    with pytest.raises(ArtifactError, match="not a safetensors file"):
        load_artifact(folder)
    arrays["difficulty_R"] = np.full_like(arrays["difficulty_R"], np.inf)
    replace_file(folder, QUERIES, safetensors.numpy.save(arrays))
    with pytest.raises(ArtifactError, match="not finite"):
        load_artifact(folder)
    with pytest.raises(ArtifactError, match="no folder"):
        load_artifact(tmp_path / "absent")


def edit_arrays(folder, name, edit):
    """Change the arrays of a file and list it anew."""
    arrays = safetensors.numpy.load((folder / name).read_bytes())
    edit(arrays)
    arrays = {key: np.ascontiguousarray(array) for key, array in arrays.items()}
    replace_file(folder, name, safetensors.numpy.save(arrays))


def edit_profiles(folder, **changes):
    """Change every profile and list the file anew."""
    records = json.loads((folder / PROFILES).read_text())
    for record in records.values():
        record.update(changes)
    replace_file(folder, PROFILES, json.dumps(records).encode())


def narrow_points(arrays):
    """Take one projected feature from the anchors."""
    arrays.update(points_AD=arrays["points_AD"][:, 1:], is_text_D=arrays["is_text_D"][1:])


def one_function_less(arrays):
    """Take one function from the basis and from all that is a sum over it."""
    last = ("basis_AR", "centre_R", "difficulty_R", "energy_KR")
    arrays.update({name: arrays[name][..., :-1] for name in last})


@pytest.mark.parametrize(
    ("name", "edit", "message"),
    [
        (QUERIES, narrow_points, f"{QUERIES} has not the 24 components"),
        (QUERIES, lambda a: a.update(energy_KR=a["energy_KR"][1:]), f"{QUERIES} does not know"),
        (QUERIES, one_function_less, f"{PROFILES} describes .* by another basis"),
        (QUERIES, lambda a: a.update(difficulty_R=a["difficulty_R"][1:]), "query model cannot"),
        (QUERIES, lambda a: a.pop("centre_R"), "anchors cannot be used"),
        (FLOOR, lambda a: a.pop("risk_SL"), "floor lacks"),
        (FLOOR, lambda a: a.update(risk_SL=a["risk_SL"][1:]), "floor's table has shape"),
        (KINDS, lambda a: a.update(centres_KD=a["centres_KD"][1:]), "estimate it again"),
        (PROJECTION, lambda a: a.pop("gain"), "projection lacks"),
    ],
)
def test_parts_that_do_not_fit_each_other_are_refused(folder, name, edit, message):
    """Each file may be sound by itself and yet not belong to the others."""
    edit_arrays(folder, name, edit)
    with pytest.raises(ArtifactError, match=message):
        load_artifact(folder)


def test_kinds_of_other_components_are_refused(folder):
    """Even where the profiles name them, they must lie in the projected space."""
    edit_arrays(folder, KINDS, lambda a: a.update(centres_KD=a["centres_KD"][:, 1:]))
    kinds = Kinds.from_arrays(safetensors.numpy.load((folder / KINDS).read_bytes()))
    edit_profiles(folder, kinds_hash=kinds.hash)
    with pytest.raises(ArtifactError, match=f"{KINDS} has not the 24 components"):
        load_artifact(folder)


def test_profiles_that_cannot_be_read_are_refused(folder):
    """An odd width, a figure out of bounds and a list in place of a table are named."""
    edit_profiles(folder, token_R=[0.0, 0.0])
    with pytest.raises(ArtifactError, match="by another basis"):
        load_artifact(folder)
    edit_profiles(folder, quality=2.0)
    with pytest.raises(ArtifactError, match="estimate it again"):
        load_artifact(folder)
    replace_file(folder, PROFILES, b'{"aster": []}')
    with pytest.raises(ArtifactError, match="no table for 'aster'"):
        load_artifact(folder)


def test_a_profile_of_other_kinds_is_refused(fitted):
    """An artifact holds profiles under their own names and its own kinds."""
    artifact, _ = fitted
    foreign = dataclasses.replace(artifact.profiles["aster"], kinds_hash="other")
    with pytest.raises(ArtifactError, match="estimate it again"):
        dataclasses.replace(artifact, profiles={"aster": foreign})
