"""What a check leaves behind on a model and in torch, however it ends: nothing."""

from __future__ import annotations

import pytest
import torch

from jubako.attention import capture, check

X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))


class Attention(torch.nn.Module):
    """One of somebody's own, by the names of its parts; a look at what it was made from raises."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.q_proj, self.k_proj, self.v_proj, self.o_proj = (torch.nn.Linear(8, 8) for _ in range(4))
        self.num_heads, self.head_dim, self.error = 2, 4, error

    @property
    def config(self) -> object:
        raise self.error

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        return self.o_proj(self.v_proj(hidden_states))


class Model(torch.nn.Module):
    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self.first, self.second = torch.nn.MultiheadAttention(8, 2, batch_first=True), Attention(error)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x, x, x)[0])


def count_hooks(model: torch.nn.Module) -> int:
    return sum(len(each._forward_hooks) + len(each._forward_pre_hooks) for each in model.modules())


# --- a watch that can't begin ----------------------------------------------------------------------------------------


def test_module_that_raises_when_looked_at_is_not_checked_and_the_rest_is() -> None:
    model = Model(RuntimeError("not set up yet")).eval()
    report = check(model, X)
    assert "second: looking at it raises RuntimeError: not set up yet" in report.unchecked
    assert [layer.name for layer in report.layers] == ["first"]
    with capture(model) as captured:
        model(X)
    assert "second: looking at it raises RuntimeError: not set up yet" in captured.report().unchecked
    assert count_hooks(model) == 0


def test_interrupt_while_hooks_are_put_on_takes_them_off_again() -> None:
    model = Model(KeyboardInterrupt()).eval()
    with pytest.raises(KeyboardInterrupt), capture(model):
        pytest.fail("the capture has begun")
    assert count_hooks(model) == 0


# --- training, and the fast path of torch's layer --------------------------------------------------------------------


class Interrupted(torch.nn.Linear):
    """What an interrupt meets while its mode is turned."""

    def train(self, mode: bool = True) -> Interrupted:
        super().train(mode)
        if not mode:
            raise KeyboardInterrupt
        return self


class Turned(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention, self.last = torch.nn.MultiheadAttention(8, 2, batch_first=True), Interrupted(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.attention(x, x, x)[0])


def test_interrupt_while_modes_are_turned_turns_them_back() -> None:
    model = Turned()
    with pytest.raises(KeyboardInterrupt):
        check(model, X)
    assert all(module.training for module in model.modules())


def test_interrupt_while_a_hook_makes_weights_turns_modes_back() -> None:
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    layer.out_proj = Interrupted(8, 8)
    layer.register_forward_pre_hook(lambda *_: None)  # it might make the weights, so it is called before all else
    with pytest.raises(KeyboardInterrupt):
        check(layer, X, X, X)
    assert all(module.training for module in layer.modules())
