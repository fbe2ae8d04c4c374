"""The reference against torch's own layer in double precision, against loops that follow the paper, and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jubako.attention.description import Masks, Rotary, Settings, Weights, rotary_of
from jubako.attention.reference import attend, rotate
from jubako.errors import HostError, InputError

from .conftest import settings_of, weights_of

CLOSE = 1e-12


def make(seed: int, **options: object) -> torch.nn.MultiheadAttention:
    torch.manual_seed(seed)
    module = torch.nn.MultiheadAttention(dtype=torch.float64, **options).eval()
    for parameter in module.parameters():  # biases too, which start as zeros
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def agree(module: torch.nn.MultiheadAttention, inputs: tuple[torch.Tensor, ...], masks: Masks, **others: bool) -> None:
    """Torch's slow path, whose semantics are the documented ones, and the reference give the same."""
    tensors = {
        "attn_mask": masks.attention,
        "key_padding_mask": masks.padding,
    }
    given_masks = {name: None if mask is None else torch.from_numpy(np.array(mask)) for name, mask in tensors.items()}
    output, averaged = module(*inputs, **given_masks)  # with gradients wanted, torch takes its slow path
    _, weights = module(*inputs, **given_masks, average_attn_weights=False)
    steps = attend(*(each.numpy() for each in inputs), weights_of(module), settings_of(module, **others), masks)
    is_batched = inputs[0].ndim == 3
    our_output, our_averaged = steps.result(settings_of(module), is_batched=is_batched)
    np.testing.assert_allclose(our_output, output.detach().numpy(), rtol=0, atol=CLOSE)
    np.testing.assert_allclose(our_averaged, averaged.detach().numpy(), rtol=0, atol=CLOSE)
    per_head = steps.weights if is_batched else steps.weights[0]
    np.testing.assert_allclose(per_head, weights.detach().numpy(), rtol=0, atol=CLOSE)


@pytest.mark.parametrize(
    ("bias", "added", "zero", "first"),
    list(itertools.product((True, False), (True, False), (True, False), (True, False))),
)
@pytest.mark.parametrize("dims", [{}, {"kdim": 5}, {"kdim": 7, "vdim": 3}])
def test_reference_agrees_with_torch_for_every_option(
    bias: bool, added: bool, zero: bool, first: bool, dims: dict[str, int]
) -> None:
    module = make(
        1, embed_dim=8, num_heads=2, bias=bias, add_bias_kv=added, add_zero_attn=zero, batch_first=first, **dims
    )
    shapes = [(3, 4, 8), (3, 6, module.kdim), (3, 6, module.vdim)]
    inputs = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    if not first:
        inputs = [each.transpose(0, 1).contiguous() for each in inputs]
    padding = np.zeros((3, 6), bool)
    padding[1, 4:] = True
    mask = np.triu(np.ones((4, 6), bool), 2)
    agree(module, tuple(inputs), Masks(attention=mask, padding=padding))


@pytest.mark.parametrize("form", ["bool", "float", "bool per head", "float per head", "four axes"])
def test_reference_takes_masks_as_torch_does(form: str, random: np.random.Generator) -> None:
    module = make(2, embed_dim=6, num_heads=3, batch_first=True)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    shape = (6, 5, 5) if "per head" in form else (2, 3, 5, 5) if form == "four axes" else (5, 5)
    forbidden = random.random(shape) < 0.4
    forbidden[..., 0] = False  # something is left for every row
    mask = random.normal(size=shape) if "float" in form else forbidden
    if form == "four axes":  # which torch's layer does not take, but its function does
        agree(module, (x, x, x), Masks(attention=mask.reshape(6, 5, 5)))
        merged = attend(x.numpy(), x.numpy(), x.numpy(), weights_of(module), settings_of(module), Masks(mask))
        flat = attend(
            x.numpy(), x.numpy(), x.numpy(), weights_of(module), settings_of(module), Masks(mask.reshape(6, 5, 5))
        )
        assert np.array_equal(merged.output, flat.output)
    else:
        agree(module, (x, x, x), Masks(attention=mask))


def test_reference_adds_both_masks_and_the_causal_one() -> None:
    module = make(3, embed_dim=6, num_heads=2, batch_first=True)
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    causal = np.triu(np.ones((5, 5), bool), 1)
    padding = np.array([[0.0, 0, 0, -1.5, -np.inf], [0.0, 0.5, 0, 0, 0]])
    by_flag = attend(*[x.numpy()] * 3, weights_of(module), settings_of(module, is_causal=True), Masks(padding=padding))
    added = np.where(causal, -np.inf, 0.0)
    agree(module, (x, x, x), Masks(attention=added, padding=padding))
    by_mask = attend(*[x.numpy()] * 3, weights_of(module), settings_of(module), Masks(added, padding))
    assert np.array_equal(by_flag.output, by_mask.output)
    assert (by_flag.weights[:, :, causal] == 0).all()


def test_reference_takes_inputs_without_a_batch() -> None:
    module = make(4, embed_dim=6, num_heads=2)
    x, y = torch.randn(5, 6, dtype=torch.float64), torch.randn(3, 6, dtype=torch.float64)
    agree(module, (x, y, y), Masks(padding=np.array([False, True, False])))


@settings(max_examples=60)
@given(
    heads=st.integers(1, 4),
    size=st.integers(1, 4),
    batch=st.integers(1, 3),
    length=st.integers(1, 5),
    keys=st.integers(1, 5),
    seed=st.integers(0, 10**6),
)
def test_reference_agrees_with_loops_that_follow_the_paper(
    heads: int, size: int, batch: int, length: int, keys: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    shared = int(random.choice([n for n in range(1, heads + 1) if heads % n == 0]))  # heads of keys
    features = 5
    weights = Weights(
        query=random.normal(size=(heads * size, features)),
        key=random.normal(size=(shared * size, features)),
        value=random.normal(size=(shared * size, features)),
        output=random.normal(size=(features, heads * size)),
        output_bias=random.normal(size=features),
    )
    query = random.normal(size=(batch, length, features))
    key, value = random.normal(size=(2, batch, keys, features))
    scale = float(random.uniform(0.1, 2))
    steps = attend(query, key, value, weights, Settings(heads, key_heads=shared, scale=scale))
    for b, i in itertools.product(range(batch), range(length)):
        row: list[float] = []
        for h in range(heads):
            own = slice(h * size, (h + 1) * size)
            group = h * shared // heads
            theirs = slice(group * size, (group + 1) * size)
            q = [float(np.dot(weights.query[own][d], query[b, i])) for d in range(size)]
            powers = []
            for j in range(keys):
                k = [float(np.dot(weights.key[theirs][d], key[b, j])) for d in range(size)]
                powers.append(math.exp(scale * sum(x * y for x, y in zip(q, k, strict=True))))
            for d in range(size):
                v = [float(np.dot(weights.value[theirs][d], value[b, j])) for j in range(keys)]
                row.append(sum(p * x for p, x in zip(powers, v, strict=True)) / sum(powers))
            np.testing.assert_allclose(steps.weights[b, h, i], np.array(powers) / sum(powers), rtol=1e-9)
        expected = [float(np.dot(weights.output[e], row)) + weights.output_bias[e] for e in range(features)]
        np.testing.assert_allclose(steps.output[b, i], expected, rtol=1e-9, atol=1e-9)


def test_row_that_sees_no_key_has_weights_and_context_of_zero() -> None:
    module = make(5, embed_dim=4, num_heads=2, batch_first=True)
    x = np.ones((2, 3, 4))
    padding = np.array([[False, False, True], [True, True, True]])
    steps = attend(x, x, x, weights_of(module), settings_of(module), Masks(padding=padding))
    assert (steps.weights[1] == 0).all()
    assert np.array_equal(steps.output[1], np.broadcast_to(module.out_proj.bias.detach().numpy(), (3, 4)))
    assert np.allclose(steps.weights[0].sum(-1), 1)


def test_softmax_of_large_scores_neither_overflows_nor_loses_the_largest() -> None:
    weights = Weights(query=np.eye(2) * 1e3, key=np.eye(2) * 1e3, value=np.eye(2))
    x = np.array([[[1.0, 0], [0, 1]]])
    steps = attend(x, x, x, weights, Settings(1))
    assert steps.scores.max() > 7e5
    assert np.array_equal(steps.weights[0, 0], np.eye(2))


@pytest.mark.parametrize("pairing", ["halves", "interleaved"])
def test_rotary_turns_pairs_of_features_by_their_position(pairing: str) -> None:
    rotary = rotary_of(np.arange(7), 4, pairing=pairing)
    heads = np.random.default_rng(1).normal(size=(1, 2, 7, 6))  # two features of each head are left as they are
    turned = rotate(heads, rotary)
    assert np.array_equal(turned[..., 4:], heads[..., 4:])
    for pair, angle in enumerate((1.0, 10000**-0.5)):
        first, second = (pair, pair + 2) if pairing == "halves" else (2 * pair, 2 * pair + 1)
        numbers = heads[..., first] + 1j * heads[..., second]
        expected = numbers * np.exp(1j * angle * np.arange(7))
        np.testing.assert_allclose(turned[..., first] + 1j * turned[..., second], expected, atol=1e-14)


def test_rotary_scores_depend_on_distances_only() -> None:
    random = np.random.default_rng(2)
    weights = Weights(*random.normal(size=(3, 8, 8)))
    x = np.tile(random.normal(size=8), (1, 6, 1))  # the same at every position
    steps = attend(x, x, x, weights, Settings(2, rotary=rotary_of(np.arange(6), 4)))
    for distance in range(6):
        diagonal = np.diagonal(steps.scores, distance, axis1=2, axis2=3)
        np.testing.assert_allclose(diagonal, diagonal[..., :1] * np.ones(6 - distance), atol=1e-12)


@pytest.mark.parametrize("sizes", [(0, 3, 3), (2, 0, 3), (2, 3, 0), (0, 0, 0)])
def test_empty_batch_query_or_key_gives_empty_steps(sizes: tuple[int, int, int]) -> None:
    batch, length, keys = sizes
    module = make(6, embed_dim=4, num_heads=2, batch_first=True)
    steps = attend(
        np.ones((batch, length, 4)), np.ones((batch, keys, 4)), np.ones((batch, keys, 4)), weights_of(module),
        settings_of(module),
    )  # fmt: skip
    assert steps.output.shape == (batch, length, 4)
    assert steps.weights.shape == (batch, 2, length, keys)
    assert steps.averaged_weights.shape == (batch, length, keys)


BAD = [
    (((2, 3, 4), (2, 3, 5), (2, 3, 4)), {}, r"key is \(B=2, L=3, E=5\), and the key's weights take E=4"),
    (((2, 3, 4), (2, 3, 4), (2, 2, 4)), {}, r"key \(B=2, S=3, E=4\) and value \(B=2, S=2, E=4\) differ in S: 3 and 2"),
    (((2, 3, 4), (1, 3, 4), (1, 3, 4)), {}, r"query \(B=2, L=3, E=4\) and key \(B=1, S=3, E=4\) differ in B: 2 and 1"),
    (((2, 3, 4), (3, 4), (3, 4)), {}, r"must all be \(B, L, E\), or all \(L, E\) .*query \(2, 3, 4\), key \(3, 4\)"),
    (((4,), (4,), (4,)), {}, "must all be"),
    (((2, 3, 4),) * 3, {"attention": np.zeros((3, 4))}, r"is \(3, 4\), and must be \(L=3, S=3\), \(B\*H=4, L=3, S=3\)"),
    (((2, 3, 4),) * 3, {"padding": np.zeros((3, 2), bool)}, r"padding mask is \(3, 2\), and must be \(B=2, S=3\)"),
    (((2, 3, 4),) * 3, {"attention": np.zeros((3, 3), int)}, "mask is of type int64: booleans forbid where True"),
    (((2, 3, 4),) * 3, {"attention": np.full((3, 3), np.nan)}, "holds NaN or inf"),
]


@pytest.mark.parametrize(("shapes", "masks", "sentence"), BAD)
def test_what_does_not_fit_is_refused_with_both_shapes(
    shapes: tuple[tuple[int, ...], ...], masks: dict[str, np.ndarray], sentence: str
) -> None:
    module = make(7, embed_dim=4, num_heads=2, batch_first=True)
    with pytest.raises(InputError, match=sentence):
        attend(*map(np.ones, shapes), weights_of(module), settings_of(module), Masks(**masks))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_input_that_is_not_finite_is_refused_with_its_place(bad: float) -> None:
    module = make(8, embed_dim=4, num_heads=2, batch_first=True)
    x = np.ones((2, 3, 4))
    x[1, 2, 3] = bad
    with pytest.raises(InputError, match=f"query holds {bad}, first at batch 1, row 2, feature 3"):
        attend(x, x, x, weights_of(module), settings_of(module))


def test_weights_that_do_not_fit_the_heads_are_refused() -> None:
    weights = Weights(*np.ones((3, 6, 6)))
    x = np.ones((1, 2, 6))
    with pytest.raises(InputError, match="6 features, which 4 heads do not divide"):
        attend(x, x, x, weights, Settings(4))
    with pytest.raises(InputError, match="3 heads of queries cannot share 2"):
        attend(x, x, x, weights, Settings(3, key_heads=2))
    with pytest.raises(InputError, match="Hk=1 heads of D=2 are 2"):
        attend(x, x, x, weights, Settings(3, key_heads=1))
    with pytest.raises(InputError, match=r"output bias has shape \(2,\), and \(6,\) fits"):
        attend(x, x, x, Weights(*np.ones((4, 6, 6)), output_bias=np.ones(2)), Settings(3))


def test_call_that_would_not_fit_memory_is_refused_before_anything_is_allocated() -> None:
    weights = Weights(*np.ones((3, 4, 4)))
    x = np.broadcast_to(np.float64(1), (1, 2_000_000, 4))
    with pytest.raises(HostError, match=r"B=1, H=2, L=2000000, S=2000000 takes \d+\.\d GiB, and \d+\.\d GiB are free"):
        attend(x, x, x, weights, Settings(2))


def test_rotary_positions_of_another_length_are_refused() -> None:
    weights = Weights(*np.ones((3, 4, 4)))
    x = np.ones((1, 3, 4))
    with pytest.raises(InputError, match=r"rotary positions are \(L=5, R=2\), and the heads are \(L=3, D=2\)"):
        attend(x, x, x, weights, Settings(2, rotary=rotary_of(np.arange(5), 2)))
    with pytest.raises(InputError, match="pairs of features, and 3 is odd"):
        rotary_of(np.arange(5), 3)


def test_rotary_of_each_batch_is_its_own() -> None:
    rotary = Rotary(np.ones((2, 3, 1)), np.zeros((2, 3, 1)))
    heads = np.random.default_rng(3).normal(size=(2, 1, 3, 2))
    assert np.array_equal(rotate(heads, rotary), heads)


W = np.ones((8, 8))
BAD = [
    (Weights(np.ones(8), W, W), {}, r"the query weights have shape \(8,\), and must have two axes"),
    (Weights(np.ones((0, 0)), W, W), {}, r"the query weights have shape \(0, 0\)"),
    (Weights(W, W, W, output=np.ones((8, 8, 1))), {}, r"the output weights have shape \(8, 8, 1\)"),
    (Weights(W.tolist(), W, W), {}, "the query weights are of type list, and must be a NumPy array"),
    (Weights(W, W.astype(complex), W), {}, "the key weights are of type complex128"),
    (Weights(W, W, W, output_bias=np.ones(3)), {}, "there is an output bias, and no output weights"),
    (Weights(W, W, W, added_key=np.ones(8)), {}, "there is an added key and no added value"),
    (Weights(W, W, W, added_value=np.ones(8)), {}, "there is an added value and no added key"),
    (Weights(W, W, W), {"scale": math.nan}, "the scale is nan, and must be a finite number"),
    (Weights(W, W, W), {"scale": math.inf}, "the scale is inf"),
    (Weights(W, W, W), {"rotary": rotary_of(np.zeros((3, 5)), 4)}, "positions are of B=3, and the heads of B=2"),
]


@pytest.mark.parametrize(("weights", "others", "sentence"), BAD, ids=[sentence[:40] for _, _, sentence in BAD])
def test_description_that_cannot_be_of_a_layer_is_refused(
    weights: Weights, others: dict[str, object], sentence: str
) -> None:
    x = np.ones((2, 5, 8))
    with pytest.raises(InputError, match=sentence):
        attend(x, x, x, weights, Settings(heads=2, **others))
