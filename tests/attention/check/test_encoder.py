"""Whole encoder layers: both paths against the same in double precision, whatever the model takes and gives."""

from __future__ import annotations

import pytest
import torch

from jubako.attention import check


class Departing(torch.nn.TransformerEncoderLayer):
    """One whose fast path gives more by a factor."""

    factor = 1.3

    def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        output = super().forward(*args, **kwargs)
        return output * self.factor if torch.backends.mha.get_fastpath_enabled() else output


class Model(torch.nn.Module):
    """A stack of two, with a result of some form."""

    def __init__(self, form: str, kind: type[torch.nn.TransformerEncoderLayer]) -> None:
        super().__init__()
        self.encoder = torch.nn.TransformerEncoder(kind(16, 4, 32, batch_first=True), 2)
        self.form = form

    def forward(self, x, hidden=None, by_name=True):  # type: ignore[no-untyped-def]
        y = self.encoder(x, src_key_padding_mask=hidden) if by_name else self.encoder(x, None, hidden)
        return {"tensor": y, "tuple": (y, x), "dict": {"y": y}, "none": None, "scalar": y.mean()}[self.form]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("depth", [1, 3])
def test_right_encoder_agrees_with_its_fast_path(dtype: torch.dtype, depth: int) -> None:
    for seed in range(4):
        torch.manual_seed(seed)
        layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=seed % 2 == 1)
        encoder = torch.nn.TransformerEncoder(layer, depth, enable_nested_tensor=False).to(dtype)
        report = check(encoder, 3 * torch.randn(2, 7, 16).to(dtype))
        assert report, report.describe()
        assert report.layers[-1].name == "whole layers"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
def test_encoder_whose_fast_path_gives_a_third_more_is_caught(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    report = check(Departing(16, 4, 32, batch_first=True).to(dtype), torch.randn(2, 5, 16).to(dtype))
    assert not report
    assert [trap.name for trap in report.layers[-1].traps] == ["paths_disagree"]


@pytest.mark.parametrize("form", ["tensor", "tuple", "dict", "none", "scalar"])
@pytest.mark.parametrize("kind", [torch.nn.TransformerEncoderLayer, Departing])
def test_model_may_give_anything(form: str, kind: type[torch.nn.TransformerEncoderLayer]) -> None:
    torch.manual_seed(1)
    report = check(Model(form, kind), torch.randn(2, 5, 16))
    assert "whole layers of encoder" in [layer.name for layer in report.layers]
    assert bool(report) == (kind is not Departing), report.describe()


@pytest.mark.parametrize("by_name", [True, False])
def test_padding_is_known_however_it_is_given(by_name: bool) -> None:
    torch.manual_seed(2)
    padding = torch.arange(5).expand(2, 5) >= torch.tensor([[5], [3]])
    report = check(Model("tensor", torch.nn.TransformerEncoderLayer), torch.randn(2, 5, 16), padding, by_name=by_name)
    assert report, report.describe()
    assert [layer.name for layer in report.layers][-1] == "whole layers of encoder"


def test_encoder_that_raises_where_its_fast_path_is_allowed_is_broken() -> None:
    class Raising(torch.nn.TransformerEncoderLayer):
        def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            if torch.backends.mha.get_fastpath_enabled():
                raise RuntimeError("not so fast")
            return super().forward(*args, **kwargs)

    report = check(Raising(16, 4, 32, batch_first=True), torch.randn(2, 5, 16))
    assert not report
    assert report.layers[-1].broken == (
        "with torch's fast path allowed it raises RuntimeError: not so fast; and without it does not"
    )
