"""A kernel in C++ for float32 on processors, compiled where it is first asked for; never used unless it is asked for.

    CACHE/jubako/attention-HASH-CONTENT.so    the library; HASH is of its source, the compiler, its flags and the
                                              processor, CONTENT of itself, for what was cut or changed is made anew

CACHE is $XDG_CACHE_HOME, or ~/.cache. The folder is its user's alone, and a library that is another user's is not
loaded. Before it is used for anything the kernel computes a small case that is compared with torch's result, so a BLAS
that means something else by `sgemm_` is found out.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jubako.attention.layer.blocks import Pass
from jubako.attention.layer.masks import Masks, find_lengths, merge
from jubako.attention.layer.steps import Sizes
from jubako.attention.layer.wanted import Attended, Want
from jubako.attention.layer.whole import run_whole
from jubako.errors import HostError, InputError

__all__ = ["is_kernel_fit", "run_kernel", "use_kernel"]

_SOURCE = Path(__file__).with_name("kernel.cpp")
_FLAGS = ("-O3", "-march=native", "-std=c++17", "-ffp-contract=fast", "-fno-math-errno", "-shared", "-fPIC", "-pthread")
_PATIENCE_S = 120
_BLOCK_BYTES = 1 << 20  # of scores: half of a second-level cache
_MOST_ROWS = 256

_library: ctypes.CDLL | None = None
_is_used = False


class _Arguments(ctypes.Structure):
    """`Attention` of kernel.cpp."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in ("q", "k", "v", "context", "averaged", "mask")),
        ("mask_strides", ctypes.c_int64 * 3),
        ("lengths", ctypes.c_void_p),
        *((name, ctypes.c_int64) for name in ("batch", "heads", "queries", "keys", "size")),
        *((name, ctypes.c_int64) for name in ("is_causal", "rows", "threads")),
        ("gemm", ctypes.c_void_p),
        ("set_threads", ctypes.c_void_p),
    ]


def use_kernel(kind: str) -> str:
    """Says by what passes in float32 on a processor are computed from now on; returns what it was before.

    "torch" is by torch's operations, as it is at first. "compiled" is by the kernel, which takes those passes that want
    nothing or the averaged map besides the output, without dropout; all others are torch's still. Raises HostError
    where the kernel can't be had: no compiler, no BLAS of torch's to be called, or a result that is not torch's.
    """
    global _library, _is_used  # noqa: PLW0603  (what a process computes with is a matter of the process)
    if kind not in ("torch", "compiled"):
        raise InputError(f"{kind!r} is no kernel; there are 'torch' and 'compiled'")
    before = "compiled" if _is_used else "torch"
    if kind == "compiled" and _library is None:
        library = _get_library()
        _prove(library)
        _library = library
    _is_used = kind == "compiled"
    return before


def is_kernel_fit(q: Tensor, masks: Masks, todo: Pass) -> bool:
    """Whether the kernel is in use and can do this pass. It is handed one additive mask: where that would have to be
    made for each head, it would be as large as all weights, which steps don't hold.
    """
    if not _is_used or q.dtype != torch.float32 or q.device.type != "cpu":
        return False
    if todo.dropout > 0.0 or todo.want not in (Want(), Want(averaged=True)):
        return False
    if masks.attn is None or masks.attn.shape[1] == 1:
        return True
    is_as_given = masks.attn.dtype == q.dtype and masks.padding is None
    return is_as_given and not (masks.is_causal and todo.sizes.appended)


def run_kernel(q: Tensor, k: Tensor, v: Tensor, masks: Masks, todo: Pass) -> Attended:
    """What `blocks.run_forward` gives, by the kernel. Heads are contiguous, and their queries scaled."""
    assert _library is not None
    return _call(_library, (q, k, v), masks, todo)


def _call(library: ctypes.CDLL, heads: tuple[Tensor, Tensor, Tensor], masks: Masks, todo: Pass) -> Attended:
    sizes = todo.sizes
    q, k, v = heads
    context = q.new_empty((sizes.batch, sizes.queries, sizes.heads, sizes.head_dim))
    averaged = q.new_empty((sizes.batch, sizes.queries, sizes.keys)) if todo.want.averaged else None
    is_causal = masks.is_causal and not sizes.appended  # appended keys are seen by all, which only a mask can say
    mask = merge(Masks(masks.attn, masks.padding, masks.is_causal and not is_causal), q, sizes)
    mask = None if mask is None else mask.contiguous()
    strides = [0, 0, 0] if mask is None else [mask.stride(i) if mask.shape[i] > 1 else 0 for i in range(3)]
    lengths = find_lengths(masks)
    counted = None if lengths is None else (ctypes.c_int64 * len(lengths))(*lengths)
    gemm, set_threads = _find_blas()
    arguments = _Arguments(
        *(None if x is None else x.data_ptr() for x in (q, k, v, context, averaged, mask)),
        (ctypes.c_int64 * 3)(*strides),
        None if counted is None else ctypes.addressof(counted),
        *sizes[:5],
        int(is_causal),
        max(1, min(_MOST_ROWS, _BLOCK_BYTES // (4 * max(1, sizes.keys)), sizes.queries)),
        torch.get_num_threads(),
        gemm,
        set_threads,
    )
    if library.jubako_attend(ctypes.byref(arguments)):
        raise HostError("the attention kernel got no memory or no thread", hint="use_kernel('torch') does without")
    return Attended(context.transpose(1, 2), averaged=averaged)


def _find_blas() -> tuple[int, int | None]:
    """The addresses of the product of matrices in float32 that torch brought, and of MKL's limit of its threads."""
    torchs: Any = ctypes.CDLL(str(Path(torch.__file__).with_name("lib") / "libtorch_cpu.so"))
    try:
        gemm = ctypes.cast(torchs.sgemm_, ctypes.c_void_p).value
    except AttributeError:
        raise HostError("this build of torch has no sgemm_ that the attention kernel could call") from None
    assert gemm is not None
    limit = getattr(torchs, "MKL_Set_Num_Threads_Local", None)
    return gemm, None if limit is None else ctypes.cast(limit, ctypes.c_void_p).value


def _get_library() -> ctypes.CDLL:
    """The library, loaded; compiled once more if the one that is there can't be."""
    path = _find_compiled()
    try:
        return _load(path)
    except HostError:
        path.unlink(missing_ok=True)
    return _load(_find_compiled())


def _find_compiled() -> Path:
    """The library, compiled now if it isn't there as it was made: one that was cut would end the process."""
    compiler = shutil.which("c++")
    if compiler is None:
        raise HostError("the attention kernel needs a C++ compiler", hint="install g++ or clang, so that there is c++")
    version = _run([compiler, "--version"]).stdout
    told = [_SOURCE.read_text(encoding="utf-8"), version, *_FLAGS, os.uname().machine, *_read_processor()]
    stem = f"attention-{hashlib.sha256(chr(0).join(told).encode()).hexdigest()[:16]}"
    folder = _find_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in folder.glob(f"{stem}-*.so"):
            _require_own(path, os.geteuid())
            if path.name == _name(stem, path.read_bytes()):
                return path
            path.unlink()
        path = _compile(compiler, folder, stem)
        _require_own(path, os.geteuid())
    except OSError as error:
        hint = "XDG_CACHE_HOME says where else it may be"
        raise HostError(f"the attention kernel can't be kept in {folder}: {error}", hint=hint) from error
    return path


def _find_folder() -> Path:
    """Where libraries are kept. A relative $XDG_CACHE_HOME is to be ignored (XDG Base Directory Specification)."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "jubako"
    try:
        return Path.home() / ".cache" / "jubako"
    except RuntimeError as error:
        hint = "XDG_CACHE_HOME says where it may be"
        raise HostError("this user has no home in which the attention kernel could be kept", hint=hint) from error


def _name(stem: str, content: bytes) -> str:
    return f"{stem}-{hashlib.sha256(content).hexdigest()[:32]}.so"


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs the compiler."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError(f"the attention kernel was not compiled: {error}") from error


def _require_own(path: Path, user_id: int) -> None:
    """Raises HostError if the library or its folder is not this user's: who owns it decides what it does."""
    if path.stat().st_uid != user_id or path.parent.stat().st_uid != user_id:
        raise HostError(f"{path} is another user's and is not loaded", hint="XDG_CACHE_HOME says where else it may be")


def _read_processor() -> list[str]:
    """What decides about the instructions that -march=native takes."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []
    return sorted({line for line in lines if line.startswith(("model name", "flags", "Features"))})


def _compile(compiler: str, folder: Path, stem: str) -> Path:
    """Compiles aside, and puts the library in its place once it is on the disk: another process may be at it."""
    with tempfile.TemporaryDirectory(dir=folder) as aside:
        made = Path(aside) / "attention.so"
        done = _run([compiler, *_FLAGS, "-o", str(made), str(_SOURCE)])
        if done.returncode:
            raise HostError(f"the attention kernel was not compiled by {compiler}: {done.stderr.strip()[-500:]}")
        made.chmod(0o600)
        with made.open("rb") as file:
            os.fsync(file.fileno())
            path = folder / _name(stem, file.read())
        return made.rename(path)


def _load(path: Path) -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(str(path))
        library.jubako_attend  # noqa: B018  (looked up when it is named)
    except (OSError, AttributeError) as error:
        raise HostError(f"the attention kernel at {path} can't be loaded: {error}") from error
    library.jubako_attend.argtypes = [ctypes.c_void_p]
    library.jubako_attend.restype = ctypes.c_int
    return library


def _prove(library: ctypes.CDLL) -> None:
    """Raises HostError unless the kernel gives what torch gives in a small case."""
    generator = torch.Generator().manual_seed(0)
    sizes = Sizes(2, 3, 5, 19, 4)
    q = torch.randn(2, 3, 5, 4, generator=generator)
    k, v = torch.randn(2, 2, 3, 19, 4, generator=generator)
    masks = Masks(torch.randn(1, 1, 5, 19, generator=generator), None, is_causal=True)
    todo = Pass(sizes, Want(averaged=True))
    found, expected = _call(library, (q, k, v), masks, todo), run_whole(q, k, v, masks, todo, None)
    for ours, torchs in zip(found[:2], expected[:2], strict=True):
        assert ours is not None
        assert torchs is not None
        error = float((ours - torchs).abs().max())
        if not error < 1e-5:  # NaN is not either
            raise HostError(f"the attention kernel differs from torch by {error:.1e} in its first case: it is not used")
