"""What a check leaves behind on a model and in torch, however it ends: nothing."""

from __future__ import annotations

import copy
import gc
import io
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread, current_thread
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode, _get_current_dispatch_mode, is_in_torch_dispatch_mode
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaModel

from jubako.attention import capture, check
from jubako.attention.observing.hooks import Hook

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


def test_threads_that_check_one_layer_leave_it_in_training_and_the_fast_path_on() -> None:
    layer = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    second_is_in, first_is_done = Event(), Event()
    calls: list[str] = []
    second = Thread(target=check, args=(layer, X, X, X))

    def meet(*_: object) -> None:
        calls.append(current_thread().name)
        if current_thread() is second:
            if calls.count(second.name) == 2:  # by now it would have turned all there is
                second_is_in.set()
                first_is_done.wait()
        elif not second.ident and not torch.backends.mha.get_fastpath_enabled():
            second.start()
            second_is_in.wait(0.3)  # it comes in only if it does not wait for its turn

    handle = layer.register_forward_pre_hook(meet)
    check(layer, X, X, X)
    first_is_done.set()
    second.join()
    handle.remove()
    assert calls.count(second.name) >= 2
    assert calls == sorted(calls, key=[calls[0], second.name].index)
    assert all(module.training for module in layer.modules())
    assert torch.backends.mha.get_fastpath_enabled()


def test_model_that_calls_its_layers_in_threads_is_checked() -> None:
    class Threaded(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = torch.nn.ModuleList(torch.nn.MultiheadAttention(8, 2, batch_first=True) for _ in range(3))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with ThreadPoolExecutor(3) as pool, torch.no_grad():
                return sum(pool.map(lambda layer: layer(x.detach(), x.detach(), x.detach())[0], self.layers))

    report = check(Threaded(), X)
    assert report
    assert sorted(layer.name for layer in report.layers) == ["layers.0", "layers.1", "layers.2"]


# --- modes of torch's ------------------------------------------------------------------------------------------------


def llama(depth: int = 2) -> LlamaModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 24, "intermediate_size": 32, "num_attention_heads": 3}
    return LlamaModel(LlamaConfig(vocab_size=50, num_hidden_layers=depth, **sizes)).eval()


IDS = torch.arange(18).reshape(2, 9)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_interrupts_that_are_caught_in_a_capture_leave_no_modes_and_the_next_call_is_checked() -> None:
    model = llama()
    with capture(model) as captured:
        for _ in range(3):
            handle = model.layers[1].self_attn.o_proj.register_forward_pre_hook(interrupt)
            with pytest.raises(KeyboardInterrupt):
                model(IDS)
            handle.remove()
        model(IDS)
        assert _get_current_dispatch_mode() is None
    report = captured.report()
    assert report and not report.unchecked
    assert [layer.name for layer in report.layers] == [
        *["layers.0.self_attn"] * 3,  # which had ended when the interrupts came
        *["layers.0.self_attn", "layers.1.self_attn"],
    ]


def test_attention_after_an_interrupt_outside_of_the_model_is_none_of_its_own() -> None:
    model = llama()
    handle = model.layers[1].self_attn.o_proj.register_forward_pre_hook(interrupt)
    with capture(model) as captured:
        with pytest.raises(KeyboardInterrupt):
            model(IDS)
        handle.remove()
        torch.nn.functional.scaled_dot_product_attention(X, X, X)
    assert _get_current_dispatch_mode() is None
    assert not captured.report().unchecked


class Caught(torch.nn.Module):
    """Calls what is interrupted, and goes on."""

    def __init__(self, inside: torch.nn.Module) -> None:
        super().__init__()
        self.inside, self.after = inside, torch.nn.MultiheadAttention(24, 2, batch_first=True)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        with pytest.raises(KeyboardInterrupt):
            self.inside(ids)
        x = torch.ones(2, 9, 24)
        scores = torch.bmm(x, x.transpose(1, 2)).softmax(-1)
        return self.after(torch.bmm(scores, x), x, x)[0]


def test_model_that_catches_an_interrupt_is_watched_to_its_end() -> None:
    model = Caught(llama()).eval()
    model.inside.layers[1].self_attn.o_proj.register_forward_pre_hook(interrupt)
    with capture(model) as captured:
        model(IDS)
        assert _get_current_dispatch_mode() is None
    report = captured.report()
    assert [layer.name for layer in report.layers] == ["inside.layers.0.self_attn", "after"]
    assert any(sentence.startswith("Caught: attention is computed in it") for sentence in report.unchecked)


def test_interrupt_leaves_the_modes_of_others_on() -> None:
    model = llama()
    with capture(model), FlopCounterMode(display=False) as counting:
        handle = model.layers[1].self_attn.o_proj.register_forward_pre_hook(interrupt)
        with pytest.raises(KeyboardInterrupt):
            model(IDS)
        handle.remove()
        model(IDS)
        assert type(_get_current_dispatch_mode()).__name__ == "_FlopCounterMode"
        before = counting.get_total_flops()
        X @ X.mT
        assert counting.get_total_flops() > before
    assert _get_current_dispatch_mode() is None


class Counting(TorchDispatchMode):
    """How many operations there were."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += 1
        return func(*args, **(kwargs or {}))


def test_captures_within_each_other_see_the_model_alone_and_end_in_any_order() -> None:
    model = llama(1)
    with Counting() as alone:
        model(IDS)
    with capture(model) as outer, capture(model) as inner, Counting() as counting:
        model(IDS)
    assert _get_current_dispatch_mode() is None and not is_in_torch_dispatch_mode()
    assert counting.count == alone.count  # and none of what either check calls
    assert [len(each.report().layers) for each in (outer, inner)] == [1, 1]
    assert outer.report() and inner.report() and not outer.report().unchecked


# --- copies ----------------------------------------------------------------------------------------------------------


def copy_by_pickle(model: torch.nn.Module) -> torch.nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize("make_copy", [copy.deepcopy, copy_by_pickle])
def test_copy_that_is_made_within_a_capture_is_not_watched(make_copy: Callable[..., torch.nn.Module]) -> None:
    model = llama()
    with capture(model) as captured:
        model(IDS)
        copied = make_copy(model)
        with Counting() as counting:
            copied(IDS)
    with Counting() as alone:
        model(IDS)
    assert counting.count == alone.count
    assert len(captured.report().layers) == 2
    assert all(type(hook) is Hook for each in copied.modules() for hook in each._forward_hooks.values())
    assert torch.equal(copied(IDS).last_hidden_state, model(IDS).last_hidden_state)


def test_copy_keeps_neither_the_watch_nor_the_model_alive() -> None:
    model = llama(1)
    with capture(model):
        copied = copy.deepcopy(model)
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert copied(IDS).last_hidden_state.shape == (2, 9, 24)


def test_copy_of_a_compiled_model_is_not_watched() -> None:
    model = llama(1)
    model.layers[0].self_attn.o_proj.compile(backend="eager")
    with capture(model) as captured:
        copied = copy.deepcopy(model)
        copied(IDS)
        assert captured.report().layers == []
        model(IDS)
    assert len(captured.report().layers) == 1
