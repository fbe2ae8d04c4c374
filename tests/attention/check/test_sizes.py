"""Random inputs are of more than one size: what takes one axis for another is right where the two are equally long."""

from __future__ import annotations

import pytest
import torch

from jubako.attention import CheckOptions, check
from jubako.attention.observing.random_inputs import other_sizes
from jubako.errors import WorkError

from .mutants import Plain

EMBED, HEADS = 24, 4  # heads of 6 features


def wrong_where(condition: str) -> type[Plain]:
    class Wrong(Plain):
        def score(self, q, k):  # type: ignore[no-untyped-def]
            batch, heads, length, size = q.shape
            sizes = {"B": batch, "H": heads, "L": length, "S": k.shape[-2], "D": size}
            return super().score(q, k) * (1.1 if eval(condition, sizes) else 1.0)

    return Wrong


def make(kind: type[Plain]) -> Plain:
    torch.manual_seed(3)
    layer = kind(EMBED, HEADS).eval()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer


PAIRS = [(one, other) for place, one in enumerate("BHLSD") for other in "BHLSD"[place + 1 :] if one + other != "HD"]


@pytest.mark.parametrize("relation", ["==", "!="])
@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_layer_that_is_wrong_only_where_two_sizes_are_or_are_not_equal_is_caught(
    one: str, other: str, relation: str
) -> None:
    report = check(make(wrong_where(f"{one} {relation} {other}")))
    assert not report
    assert report.layers[0].first_departure.step == "scores"


class MixesUp(Plain):
    """One whose heads come out right only where two axes of what it cuts into heads are equally long."""

    axes = (1, 2)

    def key_heads(self, x):  # type: ignore[no-untyped-def]
        heads = x.view(*x.shape[:2], self.num_heads, self.head_dim)
        shape = heads.permute(0, 2, 1, 3).shape
        return heads.transpose(*self.axes).reshape(shape)


@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1, 3), (0, 3)])
@pytest.mark.parametrize("sizes", [(2, 16), (4, 4), (4, 6)])
def test_layer_that_mixes_up_two_axes_is_caught_whatever_sizes_are_asked_for(
    axes: tuple[int, int], sizes: tuple[int, int]
) -> None:
    kind = type("Kind", (MixesUp,), {"axes": axes})
    batch, length = sizes
    report = check(make(kind), options=CheckOptions(batch=batch, length=length))
    assert report.layers[0].first_departure.step == "key_heads"
    assert check(make(MixesUp), options=CheckOptions(batch=batch, length=length))


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize(
    "options", [{}, {"kdim": 5, "vdim": 3}, {"add_bias_kv": True}, {"num_heads": 1}, {"dropout": 0.2}]
)
@pytest.mark.parametrize("training", [True, False])
def test_right_layers_agree_at_all_sizes_and_each_is_told_in_a_line(
    options: dict[str, object], batch_first: bool, training: bool
) -> None:
    torch.manual_seed(0)
    layer = torch.nn.MultiheadAttention(**{"embed_dim": 24, "num_heads": 4, "batch_first": batch_first} | options)
    report = check(layer.train(training))
    assert report, report.describe()
    sizes = {run.sizes for run in report.layers[0].runs} - {""}
    assert len(sizes) == 4
    lines = [line for line in report.describe().splitlines() if "of calling it with" in line]
    assert {line.partition(" with ")[2].partition(":")[0] for line in lines} == sizes
    assert all(line.endswith(": every step that was observed agrees") for line in lines)


def test_what_departs_at_all_sizes_is_told_in_full_once() -> None:
    class NotScaled(Plain):
        def score(self, q, k):  # type: ignore[no-untyped-def]
            return q @ k.transpose(-1, -2)

    report = check(make(NotScaled))
    text = report.describe()
    assert text.count("first departure: scores departs") == 2  # with weights and without, at the size asked for
    assert text.count("TRAP: wrong scale") == 1
    assert "3 ways of calling it with B=2, L=3, S=5: a step departs, too" in text
    assert all(run.first_departure is not None for run in report.layers[0].runs)
    with pytest.raises(WorkError) as raised:
        report.require()
    assert "B=2, L=3, S=5" not in str(raised.value)


def test_what_departs_at_one_size_only_is_told_in_full() -> None:
    report = check(make(wrong_where("L == S and L == D")))
    text = report.describe()
    assert "need_weights=True, B=2, L=6, S=6\n" in text
    assert "a step departs, too" not in text
    with pytest.raises(WorkError, match="need_weights=True, B=2, L=6, S=6: scores departs"):
        report.require()


def test_sizes_that_would_take_long_are_left_out() -> None:
    layer = torch.nn.MultiheadAttention(24, 4)
    assert list(other_sizes(layer, CheckOptions())) == [(2, 3, 5), (4, 4, 4), (2, 6, 6), (6, 3, 2)]
    assert list(other_sizes(layer, CheckOptions(batch=4, length=4))) == [(2, 3, 5), (2, 6, 6), (6, 3, 2)]
    assert list(other_sizes(layer, CheckOptions(memory_bytes=70_000))) == [(2, 3, 5)]


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        (torch.nn.TransformerEncoderLayer, {"B=2, L=3, S=3", "B=4, L=4, S=4", "B=2, L=6, S=6", "B=6, L=3, S=3"}),
        (torch.nn.TransformerDecoderLayer, {"B=2, L=3, S=5", "B=4, L=4, S=4", "B=2, L=6, S=6", "B=6, L=3, S=2"}),
    ],
)
def test_layers_of_encoders_and_decoders_are_called_at_these_sizes_too(
    kind: type[torch.nn.Module], sizes: set[str]
) -> None:
    torch.manual_seed(0)
    model = kind(EMBED, HEADS, 16, batch_first=True)
    report = check(model)
    assert report, report.describe()
    assert all({run.sizes for run in layer.runs} - {""} == sizes for layer in report.layers)
    model.self_attn = make(wrong_where("B == L"))
    model.self_attn._qkv_same_embed_dim = False  # which torch asks of it, for its fast path
    (wrong,) = [layer for layer in check(model).layers if layer.name == "self_attn"]
    departures = {(run.sizes, run.first_departure.step) for run in wrong.runs if run.first_departure is not None}
    assert departures >= {("B=4, L=4, S=4", "scores"), ("B=4, L=4, S=4", "output")}
    assert {sizes for sizes, _ in departures} == {"B=4, L=4, S=4"}


def test_subclass_with_a_call_of_its_own_is_called_at_these_sizes_too() -> None:
    class Own(torch.nn.MultiheadAttention):
        def forward(self, x):  # type: ignore[no-untyped-def]
            return super().forward(x, x.roll(1, dims=1) if len(x) == x.shape[1] else x, x)[0]

    report = check(Own(EMBED, HEADS, batch_first=True))
    assert {run.name for run in report.layers[0].runs if run.first_departure} == {"as called, B=4, L=4, S=4"}


def test_size_that_a_layer_cannot_be_called_with_is_told_of() -> None:
    class Fixed(torch.nn.TransformerEncoderLayer):
        def forward(self, x, *args, **kwargs):  # type: ignore[no-untyped-def]
            if x.shape[1] != 16:
                raise ValueError("only 16 tokens at once")
            return super().forward(x, *args, **kwargs)

    report = check(Fixed(EMBED, HEADS, 16, batch_first=True))
    assert report, report.describe()
    assert len(report.unchecked) == 4
    assert report.unchecked[0] == ("Fixed with B=2, L=3, S=3: the model raises ValueError: only 16 tokens at once")
