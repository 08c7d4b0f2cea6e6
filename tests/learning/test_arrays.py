"""Named arrays keep their values, and refuse what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes
from hypothesis.extra.numpy import arrays as numpy_arrays
from torch import nn

from learning import arrays


def _net() -> nn.Module:
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_loading_what_was_read_changes_nothing():
    net = _net()
    before = arrays.digest(arrays.trainable(net))
    arrays.load(net, arrays.trainable(net))
    assert arrays.digest(arrays.trainable(net)) == before


def test_only_trainable_parameters_are_named():
    net = _net()
    net[0].requires_grad_(False)
    assert list(arrays.trainable(net)) == ["1.weight", "1.bias"]
    assert len(arrays.state(net)) == 4


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: a.pop("0.bias"), "lack"),
        (lambda a: a.update({"patient": np.zeros(1, np.float32)}), "foreign"),
        (lambda a: a.update({"0.bias": np.zeros(1, np.float32)}), "shape"),
        (lambda a: a.update({"0.bias": np.full(4, np.nan, np.float32)}), "finite"),
    ],
)
def test_arrays_that_do_not_fit_are_refused_by_name(spoil, words):
    net = _net()
    given_arrays = arrays.trainable(net)
    spoil(given_arrays)
    with pytest.raises(ValueError, match=words):
        arrays.load(net, given_arrays)


@given(st.dictionaries(st.text("abc.", min_size=1, max_size=5), numpy_arrays(np.float32, array_shapes(max_dims=3))))
def test_writing_and_reading_gives_the_same_digest(tmp_path_factory, found):
    path = tmp_path_factory.mktemp("arrays") / "a.safetensors"
    arrays.write(path, found)
    assert arrays.digest(arrays.read(path)) == arrays.digest(found)


def test_the_digest_does_not_depend_on_the_order_of_names():
    a, b = np.ones(2, np.float32), np.zeros(3, np.float32)
    assert arrays.digest({"a": a, "b": b}) == arrays.digest({"b": b, "a": a})
    assert arrays.digest({"a": a, "b": b}) != arrays.digest({"b": a, "a": b})


def test_a_file_that_is_no_safetensors_is_named(tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"\x80\x04 a pickle, perhaps")
    with pytest.raises(ValueError, match=r"weights\.safetensors"):
        arrays.read(path)
