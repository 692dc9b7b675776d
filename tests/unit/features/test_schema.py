"""A schema names the layout and survives JSON."""

import pytest

from router.errors import ArtifactError, InvalidInputError
from router.features.schema import FeatureBlock, FeatureSchema

TEXT = FeatureBlock(name="text", encoder="a", sha256="00", dim=3)
IMAGE = FeatureBlock(name="image", encoder="b", sha256="11", dim=2)


def test_slices_tile_the_vector():
    """Blocks follow each other without gap or overlap."""
    schema = FeatureSchema((TEXT, IMAGE))
    assert schema.slices == {"text": slice(0, 3), "image": slice(3, 5)}
    assert schema.num_features == 5


def test_json_round_trip_keeps_the_hash():
    """A schema read back is the same schema."""
    schema = FeatureSchema((TEXT, IMAGE))
    again = FeatureSchema.from_json(schema.to_json())
    assert again == schema
    assert again.hash == schema.hash


def test_the_hash_tells_order_and_weights_apart():
    """Any change of layout or encoder changes the hash."""
    other = FeatureBlock(name="text", encoder="a", sha256="01", dim=3)
    hashes = {FeatureSchema(b).hash for b in [(TEXT, IMAGE), (IMAGE, TEXT), (other, IMAGE)]}
    assert len(hashes) == 3


def test_unsound_schemas_are_refused():
    """Empty and repeated blocks are errors."""
    with pytest.raises(InvalidInputError, match="dim must be 1"):
        FeatureBlock(name="x", encoder="a", sha256="00", dim=0)
    with pytest.raises(InvalidInputError, match="unique"):
        FeatureSchema((TEXT, TEXT))


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"blocks": [{"name": "x"}]}'])
def test_other_json_is_refused(text):
    """Only what to_json wrote is read."""
    with pytest.raises(ArtifactError):
        FeatureSchema.from_json(text)
