"""The extractor lays blocks out as its schema says and remembers what it has seen."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.features.cache import VectorCache
from router.features.extract import FeatureExtractor


@pytest.fixture(scope="module")
def extractor(encoder_folder):
    """Return one extractor with real encoders."""
    return FeatureExtractor.load(encoder_folder)


def test_the_default_schema_is_pinned(extractor):
    """The layout and its hash are the same on every machine; a change here ages every router."""
    assert [(block.name, block.dim) for block in extractor.schema.blocks] == [
        ("text", 384),
        ("question", 29),
        ("image", 1280),
        ("text_density", 3),
        ("image_statistics", 26),
        ("image_set", 4),
    ]
    assert extractor.schema.hash.startswith("8c1c512e31b59f0c")


def test_blocks_lie_where_the_schema_says(extractor, pictures):
    """Each slice holds what its encoder alone returns."""
    features_F = extractor.extract("Which is red?", [pictures["shapes"]])
    assert features_F.shape == (extractor.schema.num_features,)
    assert features_F.dtype == np.float32
    slices = extractor.schema.slices
    for name, encoder in extractor._text.items():
        assert (features_F[slices[name]] == encoder.encode("Which is red?")).all()
    for name, encoder in extractor._picture.items():
        assert (features_F[slices[name]] == encoder.encode(pictures["shapes"])).all()


def test_text_only_queries_have_no_picture_features(extractor):
    """Picture blocks are zero and the set block says so."""
    features_F = extractor.extract("What is the capital of France?", [])
    slices = extractor.schema.slices
    for name in ("image", "text_density", "image_statistics", "image_set"):
        assert (features_F[slices[name]] == 0).all()
    assert features_F[slices["text"]].any()


def test_several_pictures_are_averaged_in_any_order(extractor, pictures):
    """Picture blocks are means in which order does not matter; the count is its own feature."""
    slices = extractor.schema.slices
    page, shapes = pictures["page"], pictures["shapes"]
    both_F = extractor.extract("", [page, shapes])
    assert np.allclose(both_F, extractor.extract("", [shapes, page]), atol=1e-5)
    mean_F = (extractor.extract("", [page]) + extractor.extract("", [shapes])) / 2
    for name in ("image", "text_density", "image_statistics"):
        assert np.allclose(both_F[slices[name]], mean_F[slices[name]], atol=1e-5)
    assert both_F[slices["image_set"]][1] == pytest.approx(np.log(3))


def test_repeated_content_is_not_computed_again(encoder_folder, pictures):
    """The second query with the same picture misses only its text."""
    extractor = FeatureExtractor.load(encoder_folder, cache_size=2)
    first_F = extractor.extract("a", [pictures["page"]])
    extractor.extract("b", [pictures["page"]])
    counts = {name: (cache.num_hits, cache.num_misses) for name, cache in extractor.caches.items()}
    assert counts["text"] == (0, 2)
    assert counts["image"] == (1, 1)
    assert (extractor.extract("a", [pictures["page"]]) == first_F).all()


def test_one_caller_cannot_alter_what_another_gets(extractor, pictures):
    """A returned vector is the caller's own."""
    first_F = extractor.extract("mine", [pictures["page"]])
    kept_F = first_F.copy()
    first_F[:] = 7
    assert (extractor.extract("mine", [pictures["page"]]) == kept_F).all()


def test_threads_share_an_extractor(extractor, pictures):
    """Many threads at once get what one gets."""
    queries = [(f"question {n}", [list(pictures.values())[n % 3]]) for n in range(12)]
    alone = [extractor.extract(*query) for query in queries]
    fresh = FeatureExtractor(
        text=extractor._text, picture=extractor._picture, picture_set=extractor._picture_set
    )
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda query: fresh.extract(*query), queries))
    assert np.array_equal(alone, together)


def test_encoders_beside_each_other_give_the_same(encoder_folder, pictures):
    """Who calls the encoders changes no number."""
    both = list(pictures.values())[:2]
    alone, beside = (FeatureExtractor.load(encoder_folder) for _ in range(2))
    with ThreadPoolExecutor(2) as pool:
        features_F = beside.extract("what is it?", both, run=pool.map)
    assert np.array_equal(features_F, alone.extract("what is it?", both))


def test_odd_text_is_safe(extractor):
    """Lone surrogates, control characters and nothing at all give finite features."""
    for text in ("", " \n\t", "\ud800", "\x00\x07", "\U0001f600" * 50):
        assert np.isfinite(extractor.extract(text, [])).all()


def test_the_size_of_the_original_counts(extractor, pictures):
    """Offline data keeps thumbnails; restoring the original size changes the size features."""
    small = pictures["page"]
    large = replace(small, width=1280, height=960, sha256="other")
    difference = extractor.extract("", [large]) - extractor.extract("", [small])
    changed = np.flatnonzero(np.abs(difference) > 1e-6)
    start = extractor.schema.slices["image_set"].start
    assert changed.tolist() == [start + 2, start + 3]


def test_the_cache_forgets_the_least_recently_used():
    """Capacity is a hard bound and a hit renews; what is found is what was computed."""
    cache, numbers = VectorCache(2, 1), {"a": 1.0, "b": 2.0, "c": 3.0}
    for key in ("a", "b", "a", "c", "a", "b"):
        found_E = cache.get_or_compute(key, lambda n=numbers[key]: np.full(1, n, np.float32))
        assert found_E.tolist() == [numbers[key]]
    assert (cache.num_hits, cache.num_misses) == (2, 4)
    nothing = VectorCache(0, 1)
    for _ in range(2):
        assert nothing.get_or_compute("a", lambda: np.ones(1, np.float32)).tolist() == [1.0]
    assert nothing.num_misses == 2


@given(st.lists(st.sampled_from("abcdef"), max_size=40), st.integers(0, 4))
def test_the_cache_never_mixes_keys_up(keys, capacity):
    """Whatever the order, each key has its own vector."""
    cache = VectorCache(capacity, 2)
    for key in keys:
        found_E = cache.get_or_compute(key, lambda k=key: np.full(2, ord(k), np.float32))
        assert found_E.tolist() == [ord(key)] * 2
        found_E[:] = 0  # the caller's own
