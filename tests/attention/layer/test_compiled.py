"""The compiled kernel: what it takes, that threads change nothing, and what is said where it can't be had."""

from __future__ import annotations

import ctypes
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch

from jubako.attention import MultiheadAttention, Want, use_kernel
from jubako.attention.layer import compiled
from jubako.attention.layer.blocks import Pass, run_forward
from jubako.attention.layer.masks import Masks
from jubako.attention.layer.steps import Sizes
from jubako.errors import HostError, InputError

from .by_hand import assert_near

MAP = Want(averaged=True)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "jubako"


def make_compiler(folder: Path, monkeypatch: pytest.MonkeyPatch, body: str) -> None:
    """A program called c++ that is found before any other."""
    program = folder / "bin" / "c++"
    program.parent.mkdir()
    program.write_text(f"#!{shutil.which('bash')}\n{body}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("compiled_kernel")
@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize(("length", "keys", "size"), [(1, 1, 1), (300, 700, 8), (513, 33, 3), (70, 5000, 4)])
def test_kernel_computes_what_the_steps_compute(length: int, keys: int, size: int, is_causal: bool) -> None:
    sizes = Sizes(2, 3, length, keys, size)
    torch.manual_seed(length)
    q = torch.randn(2, 3, length, size) * 3
    k, v = torch.randn(2, 2, 3, keys, size)
    padding = torch.arange(keys)[None] >= torch.tensor([[keys], [keys // 2]])
    for masks in (Masks(None, None, is_causal), Masks(torch.randn(2, 3, length, keys), padding, is_causal)):
        found = compiled.run_kernel(q, k, v, masks, Pass(sizes, MAP))
        expected = run_forward(q, k, v, masks, Pass(sizes, MAP))
        assert_near(found.output, expected.output, 30.0)
        assert_near(found.averaged, expected.averaged, 30.0)


@pytest.mark.usefixtures("compiled_kernel")
def test_powers_are_right_over_the_whole_range() -> None:
    """One key of the two has a score of 0, the other one that falls from 0 to where powers vanish."""
    scores = torch.linspace(0.0, -110.0, 20001)
    q = scores[None, None, :, None]
    k = torch.tensor([1.0, 0.0])[None, None, :, None]
    found = compiled.run_kernel(q, k, k, Masks(None, None, is_causal=False), Pass(Sizes(1, 1, 20001, 2, 1), MAP))
    exact = torch.softmax(torch.stack([scores, torch.zeros_like(scores)], -1).double(), -1)
    error = (found.averaged[0].double() - exact).abs() / exact.clamp(min=1.2e-38)
    assert error[exact[:, 0] > 2e-38].max() < 4e-7
    assert (found.averaged[0, exact[:, 0] < 1e-38, 0] == 0).all()


@pytest.mark.usefixtures("compiled_kernel")
def test_threads_change_no_bit() -> None:
    torch.manual_seed(0)
    sizes = Sizes(2, 4, 500, 500, 8)
    q, k, v = torch.randn(3, 2, 4, 500, 8)
    results = []
    for count in (1, 2, 5):
        torch.set_num_threads(count)
        results.append(compiled.run_kernel(q, k, v, Masks(None, None, is_causal=True), Pass(sizes, MAP)))
    torch.set_num_threads(1)
    for other in results[1:]:
        assert torch.equal(other.output, results[0].output)
        assert torch.equal(other.averaged, results[0].averaged)


@pytest.mark.usefixtures("compiled_kernel")
def test_kernel_is_used_when_it_is_asked_for_and_for_what_it_can() -> None:
    q, none = torch.randn(1, 1, 2, 2), Masks(None, None, is_causal=False)
    todo = Pass(Sizes(1, 1, 2, 2, 2), MAP)
    assert not compiled.is_kernel_fit(q, none, todo)
    assert use_kernel("compiled") == "torch"
    try:
        assert compiled.is_kernel_fit(q, none, todo)
        assert compiled.is_kernel_fit(q, none, todo._replace(want=Want()))
        for other in (Want(per_head=True), Want(averaged=True, row_entropy=True), Want(top_keys=1)):
            assert not compiled.is_kernel_fit(q, none, todo._replace(want=other))
        assert not compiled.is_kernel_fit(q, none, todo._replace(dropout=0.1))
        assert not compiled.is_kernel_fit(q.double(), none, todo)
        assert not compiled.is_kernel_fit(q.bfloat16(), none, todo)
        assert not compiled.is_kernel_fit(q.to("meta"), none, todo)
        layer, x = MultiheadAttention(8, 2, batch_first=True).eval(), torch.randn(2, 30, 8)
        by_kernel = layer(x, x, x)
    finally:
        assert use_kernel("torch") == "compiled"
    by_torch = layer(x, x, x)
    assert_near(by_kernel[0], by_torch[0])
    assert not torch.equal(by_kernel[1], by_torch[1])  # rounded elsewhere: it was another computation


@pytest.mark.usefixtures("compiled_kernel")
def test_mask_that_would_be_made_for_all_heads_is_left_to_the_steps() -> None:
    q, attn, padding = torch.randn(2, 3, 4, 8), torch.zeros(2, 3, 4, 5), torch.zeros(2, 5, dtype=torch.bool)
    todo = Pass(Sizes(2, 3, 4, 5, 8), MAP)
    use_kernel("compiled")
    try:
        assert compiled.is_kernel_fit(q, Masks(attn, None, is_causal=True), todo)
        assert compiled.is_kernel_fit(q, Masks(attn[:, :1].bool(), padding, is_causal=True), todo)
        assert not compiled.is_kernel_fit(q, Masks(attn.bool(), None, is_causal=False), todo)
        assert not compiled.is_kernel_fit(q, Masks(attn, padding, is_causal=False), todo)
        appended = todo._replace(sizes=Sizes(2, 3, 4, 5, 8, appended=1))
        assert not compiled.is_kernel_fit(q, Masks(attn, None, is_causal=True), appended)
        assert compiled.is_kernel_fit(q, Masks(attn, None, is_causal=False), appended)
    finally:
        use_kernel("torch")


def test_unknown_kernel_is_refused() -> None:
    with pytest.raises(InputError, match="'triton' is no kernel; there are 'torch' and 'compiled'"):
        use_kernel("triton")


def test_library_is_compiled_once_and_its_users_alone(cache: Path) -> None:
    path = compiled._find_compiled()
    assert path.parent == cache
    assert [entry.name for entry in cache.iterdir()] == [path.name]
    assert stat.S_IMODE(cache.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    made = path.stat().st_mtime_ns
    assert compiled._find_compiled() == path
    assert path.stat().st_mtime_ns == made
    compiled._prove(compiled._load(path))


@pytest.mark.parametrize("kept", [0, 4096, -1])
def test_library_that_was_cut_or_changed_is_compiled_anew(cache: Path, kept: int) -> None:
    path = compiled._find_compiled()
    content = path.read_bytes()
    path.write_bytes(content[:kept])
    again = compiled._find_compiled()
    assert list(cache.iterdir()) == [again]
    assert again.stat().st_size == len(content)
    compiled._prove(compiled._load(again))


@pytest.mark.usefixtures("cache")
def test_library_that_cannot_be_loaded_is_compiled_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The compiler gives text at first, and a library the next time."""
    body = f"""[ "$1" = --version ] && exit 0
[ -e {tmp_path}/first ] && exec {shutil.which("c++")} "$@"
while [ "$1" != -o ]; do shift; done
echo text > "$2"; echo > {tmp_path}/first
"""
    make_compiler(tmp_path, monkeypatch, body)
    compiled._prove(compiled._get_library())


@pytest.mark.usefixtures("cache")
def test_library_that_can_never_be_loaded_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = """[ "$1" = --version ] && exit 0
while [ "$1" != -o ]; do shift; done
echo text > "$2"; echo >> $0.calls
"""
    make_compiler(tmp_path, monkeypatch, body)
    with pytest.raises(HostError, match="can't be loaded"):
        compiled._get_library()
    assert (tmp_path / "bin" / "c++.calls").read_text() == "\n\n"


def test_cache_that_is_no_folder_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "below", Path("/proc/nowhere")):
        monkeypatch.setenv("XDG_CACHE_HOME", str(place))
        with pytest.raises(HostError, match="the attention kernel can't be kept in ") as caught:
            compiled._find_compiled()
        assert "XDG_CACHE_HOME" in caught.value.hint


def test_relative_cache_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "here")
    assert compiled._find_folder() == tmp_path / ".cache" / "jubako"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert compiled._find_folder() == tmp_path / ".cache" / "jubako"


def test_user_without_a_home_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os, "getuid", lambda: 999_999_999)  # whom the system doesn't know
    with pytest.raises(HostError, match="this user has no home in which the attention kernel could be kept") as caught:
        compiled._find_folder()
    assert caught.value.hint == "XDG_CACHE_HOME says where it may be"


@pytest.mark.usefixtures("cache")
def test_compiler_that_cannot_be_executed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_compiler(tmp_path, monkeypatch, "")
    (tmp_path / "bin" / "c++").write_bytes(b"\x7fELF")
    with pytest.raises(HostError, match=r"the attention kernel was not compiled: .*Exec format error"):
        compiled._find_compiled()


class Failing(ctypes.CDLL):
    """A library whose pass says that it got no memory."""

    def __init__(self) -> None:
        self.__dict__["jubako_attend"] = lambda arguments: 1


def test_kernel_that_fails_is_said() -> None:
    q = torch.randn(1, 1, 2, 2)
    with pytest.raises(HostError, match="got no memory or no thread"):
        compiled._call(Failing(), (q, q, q), Masks(None, None, is_causal=False), Pass(Sizes(1, 1, 2, 2, 2), MAP))


def test_no_compiler_is_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match=r"needs a C\+\+ compiler") as caught:
        compiled._find_compiled()
    assert "g++" in caught.value.hint
    assert not cache.exists()


def test_compiler_that_fails_is_quoted_and_leaves_nothing(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_compiler(tmp_path, monkeypatch, "echo 'kernel.cpp:1: no such thing' >&2; exit 1")
    with pytest.raises(HostError, match=r"not compiled by .*/bin/c\+\+: kernel\.cpp:1: no such thing"):
        compiled._find_compiled()
    assert list(cache.iterdir()) == []


@pytest.mark.usefixtures("cache")
def test_kernel_that_computes_something_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stub.cpp").write_text('extern "C" int jubako_attend(const void *) { return 0; }')
    body = f"""[ "$1" = --version ] && exit 0
while [ "$1" != -o ]; do shift; done
{shutil.which("c++")} -shared -fPIC {tmp_path}/stub.cpp -o "$2"
"""
    make_compiler(tmp_path, monkeypatch, body)
    with pytest.raises(HostError, match=r"differs from torch by .* in its first case: it is not used"):
        compiled._prove(compiled._load(compiled._find_compiled()))


def test_file_that_is_no_library_is_said(tmp_path: Path) -> None:
    (tmp_path / "kernel.so").write_text("not a library")
    with pytest.raises(HostError, match=r"kernel\.so can't be loaded"):
        compiled._load(tmp_path / "kernel.so")


def test_library_of_another_user_is_not_loaded(tmp_path: Path) -> None:
    path = tmp_path / "attention.so"
    path.touch()
    compiled._require_own(path, os.geteuid())
    with pytest.raises(HostError, match="is another user's and is not loaded"):
        compiled._require_own(path, os.geteuid() + 1)
