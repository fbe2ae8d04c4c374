"""Attention written out in plain operations of torch, right as it stands, with a place to go wrong at each step.

`Plain` has the parameters and the call of torch.nn.MultiheadAttention. Each mutant is a subclass that overrides one
place; MUTANTS says of each at which step that shows. They are what a person gets wrong who writes attention by hand.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

__all__ = ["MUTANTS", "Mutant", "Plain"]


class Plain(nn.Module):
    """Multi-head self-attention, batch first."""

    def __init__(self, embed_dim: int, num_heads: int, dropout: float = 0.0, add_bias_kv: bool = False) -> None:
        super().__init__()
        self.embed_dim, self.num_heads, self.dropout = embed_dim, num_heads, dropout
        self.head_dim = embed_dim // num_heads
        self.batch_first = True
        self.in_proj_weight = nn.Parameter(torch.empty(3 * embed_dim, embed_dim))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * embed_dim))
        self.out_proj = nn.Linear(embed_dim, embed_dim)
        self.bias_k = nn.Parameter(torch.empty(1, 1, embed_dim)) if add_bias_kv else None
        self.bias_v = nn.Parameter(torch.empty(1, 1, embed_dim)) if add_bias_kv else None

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        q, k, v = (self.project(x, number) for number, x in enumerate((query, key, value)))
        if self.bias_k is not None and self.bias_v is not None:
            k, v = self.append(k, self.bias_k), self.append(v, self.bias_v)
        scores = self.score(self.query_heads(q), self.key_heads(k))
        weights = self.softmax(self.mask(scores, attn_mask, key_padding_mask, is_causal=is_causal))
        if self.training and self.dropout:
            weights = self.drop(weights)
        context = self.attend(weights, self.value_heads(v))
        output = self.finish(self.concatenate(context))
        if not need_weights:
            return output, None
        return output, self.average(weights) if average_attn_weights else self.returned(weights)

    def project(self, x: Tensor, number: int) -> Tensor:
        weight, bias = self.in_proj_weight.chunk(3)[number], self.in_proj_bias.chunk(3)[number]
        return nn.functional.linear(x, weight, bias)

    def append(self, rows: Tensor, row: Tensor) -> Tensor:
        return torch.cat([rows, row.expand(rows.shape[0], 1, -1)], dim=1)

    def heads(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def query_heads(self, x: Tensor) -> Tensor:
        return self.heads(x)

    def key_heads(self, x: Tensor) -> Tensor:
        return self.heads(x)

    def value_heads(self, x: Tensor) -> Tensor:
        return self.heads(x)

    def score(self, q: Tensor, k: Tensor) -> Tensor:
        return q @ k.transpose(-1, -2) / math.sqrt(self.head_dim)

    def mask(self, scores: Tensor, mask: Tensor | None, padding: Tensor | None, *, is_causal: bool) -> Tensor:
        extra = scores.shape[-1] - scores.shape[-2] if self.bias_k is not None else 0
        if is_causal:
            length = scores.shape[-2]
            causal = torch.ones(length, length, dtype=torch.bool).triu(1)
            scores = scores.masked_fill(nn.functional.pad(causal, (0, extra)), -math.inf)
        if mask is not None:
            scores = scores.masked_fill(nn.functional.pad(mask, (0, extra)), -math.inf)
        if padding is not None:
            scores = scores.masked_fill(nn.functional.pad(padding, (0, extra))[:, None, None], -math.inf)
        return scores

    def softmax(self, scores: Tensor) -> Tensor:
        return scores.softmax(dim=-1)

    def drop(self, weights: Tensor) -> Tensor:
        return nn.functional.dropout(weights, self.dropout)

    def attend(self, weights: Tensor, v: Tensor) -> Tensor:
        return weights @ v

    def concatenate(self, context: Tensor) -> Tensor:
        return context.transpose(1, 2).reshape(context.shape[0], -1, self.embed_dim)

    def finish(self, x: Tensor) -> Tensor:
        return self.out_proj(x)

    def average(self, weights: Tensor) -> Tensor:
        return weights.mean(dim=1)

    def returned(self, weights: Tensor) -> Tensor:
        return weights


class Mutant(NamedTuple):
    """A wrong attention, the step at which it has to be caught, and how it has to be called to show."""

    kind: type[Plain]
    step: str
    call: str = "plain"  # or "causal", "mask", "padding", "bias", "large", "training"


MUTANTS: dict[str, Mutant] = {}


def mutant(step: str, call: str = "plain"):  # type: ignore[no-untyped-def]
    def register(kind: type[Plain]) -> type[Plain]:
        MUTANTS[kind.__name__] = Mutant(kind, step, call)
        return kind

    return register


# --- projections -----------------------------------------------------------------------------------------------------


@mutant("query_projection")
class QueryAndKeyWeightsSwapped(Plain):
    def project(self, x, number):
        return super().project(x, {0: 1, 1: 0, 2: 2}[number])


@mutant("key_projection")
class KeyUsesValueWeights(Plain):
    def project(self, x, number):
        return super().project(x, 2 if number == 1 else number)


@mutant("value_projection")
class ValueUsesKeyWeights(Plain):
    def project(self, x, number):
        return super().project(x, 1 if number == 2 else number)


@mutant("query_projection")
class BiasForgotten(Plain):
    def project(self, x, number):
        return x @ self.in_proj_weight.chunk(3)[number].T


@mutant("value_projection")
class ValueBiasForgotten(Plain):
    def project(self, x, number):
        weight = self.in_proj_weight.chunk(3)[number]
        return x @ weight.T if number == 2 else super().project(x, number)


@mutant("query_projection")
class WeightsNotTransposed(Plain):
    def project(self, x, number):
        return x @ self.in_proj_weight.chunk(3)[number] + self.in_proj_bias.chunk(3)[number]


@mutant("key_projection")
class TwoRowsOfKeyWeightsSwapped(Plain):
    def project(self, x, number):
        if number != 1:
            return super().project(x, number)
        order = torch.arange(self.embed_dim)
        order[[0, 1]] = order[[1, 0]]
        return nn.functional.linear(x, self.in_proj_weight.chunk(3)[1][order], self.in_proj_bias.chunk(3)[1][order])


@mutant("value_projection")
class ValueProjectedInHalfPrecision(Plain):
    def project(self, x, number):
        if number != 2:
            return super().project(x, number)
        weight, bias = self.in_proj_weight.chunk(3)[2], self.in_proj_bias.chunk(3)[2]
        return nn.functional.linear(x.half(), weight.half(), bias.half()).to(x.dtype)


@mutant("query_projection")
class InputOneStepLate(Plain):
    def project(self, x, number):
        return super().project(x.roll(1, dims=1) if number == 0 else x, number)


# --- heads -----------------------------------------------------------------------------------------------------------


@mutant("query_heads")
class HeadsInterleaved(Plain):
    def heads(self, x):
        return x.view(*x.shape[:2], self.head_dim, self.num_heads).permute(0, 3, 1, 2)


@mutant("key_heads")
class KeyHeadsInReverse(Plain):
    def key_heads(self, x):
        return self.heads(x).flip(1)


@mutant("value_heads")
class ValueHeadsRolled(Plain):
    def value_heads(self, x):
        return self.heads(x).roll(1, dims=1)


@mutant("query_heads")
class HeadsByViewWithoutTranspose(Plain):
    def query_heads(self, x):
        return x.reshape(x.shape[0], self.num_heads, x.shape[1], self.head_dim)


@mutant("key_heads", "bias")
class AddedKeyForgotten(Plain):
    def append(self, rows, row):
        return super().append(rows, row if row is self.bias_v else torch.zeros_like(row))


@mutant("value_heads", "bias")
class AddedRowsComeFirst(Plain):
    def append(self, rows, row):
        return super().append(rows, row) if row is self.bias_k else super().append(rows, row).roll(1, dims=1)


@mutant("key_heads")
class KeysOfTheCallBefore(Plain):
    """A cache that is not emptied: the first call is right."""

    def key_heads(self, x):
        heads = self.heads(x)
        stale = getattr(self, "cache", None)
        self.cache = heads.clone() if stale is None else stale
        return self.cache


@mutant("value_heads")
class LastValueMissing(Plain):
    def value_heads(self, x):
        heads = self.heads(x).clone()
        heads[:, :, -1] = 0
        return heads


@mutant("value_heads")
class ValuesOnePercentOff(Plain):
    def value_heads(self, x):
        return self.heads(x) * 1.01


@mutant("scores")
class KeysOnePercentOff(Plain):
    def key_heads(self, x):
        return self.heads(x) * 1.01


# --- scores ----------------------------------------------------------------------------------------------------------


@mutant("scores")
class NotScaled(Plain):
    def score(self, q, k):
        return q @ k.transpose(-1, -2)


@mutant("scores")
class ScaledByHeadSize(Plain):
    def score(self, q, k):
        return q @ k.transpose(-1, -2) / self.head_dim


@mutant("scores")
class ScaledByEmbeddingSize(Plain):
    def score(self, q, k):
        return q @ k.transpose(-1, -2) / math.sqrt(self.embed_dim)


@mutant("scores")
class QueryScaledTwice(Plain):
    def score(self, q, k):
        return super().score(q * self.head_dim**-0.5, k)


@mutant("scores")
class ScoresAddedUpInHalfPrecision(Plain):
    def score(self, q, k):
        return (q.half() @ k.half().transpose(-1, -2)).to(q.dtype) / math.sqrt(self.head_dim)


@mutant("masked_scores")
class ScoresClipped(Plain):
    def score(self, q, k):
        return super().score(q, k).clamp(-1, 1)


@mutant("query_heads")
class CosineInsteadOfProduct(Plain):
    def score(self, q, k):
        return super().score(q / q.norm(dim=-1, keepdim=True), k / k.norm(dim=-1, keepdim=True))


# --- masks -----------------------------------------------------------------------------------------------------------


@mutant("masked_scores", "mask")
class MaskTheOtherWayRound(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        return super().mask(scores, None if mask is None else ~mask, padding, is_causal=is_causal)


@mutant("masked_scores", "mask")
class MaskIgnored(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        return super().mask(scores, None, padding, is_causal=is_causal)


@mutant("masked_scores", "padding")
class PaddingIgnored(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        return super().mask(scores, mask, None, is_causal=is_causal)


@mutant("masked_scores", "padding")
class PaddingMasksRows(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        scores = super().mask(scores, mask, None, is_causal=is_causal)
        return scores.masked_fill(padding[:, None, :, None], -math.inf)


@mutant("masked_scores", "causal")
class CausalDropped(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        return super().mask(scores, mask, padding, is_causal=False)


@mutant("masked_scores", "causal")
class CausalOneKeyTooFar(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        length = scores.shape[-1]
        return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).triu(2), -math.inf)


@mutant("masked_scores", "causal")
class CausalTheWrongWay(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        length = scores.shape[-1]
        return scores.masked_fill(torch.ones(length, length, dtype=torch.bool).tril(-1), -math.inf)


@mutant("masked_scores", "mask")
class MaskIsTooWeak(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        return scores.masked_fill(mask, -5.0)


@mutant("masked_scores", "mask")
class MaskAfterSoftmax(Plain):
    def mask(self, scores, mask, padding, *, is_causal):
        self.later = mask
        return scores

    def softmax(self, scores):
        return scores.softmax(-1).masked_fill(self.later, 0.0)


# --- weights ---------------------------------------------------------------------------------------------------------


@mutant("weights")
class SoftmaxOverQueries(Plain):
    def softmax(self, scores):
        return scores.softmax(dim=-2)


@mutant("weights")
class SoftmaxOverHeads(Plain):
    def softmax(self, scores):
        return scores.softmax(dim=1)


@mutant("weights")
class SigmoidInstead(Plain):
    def softmax(self, scores):
        return scores.sigmoid()


@mutant("weights", "large")
class LargestNotTakenOff(Plain):
    def softmax(self, scores):
        powers = scores.exp()
        return powers / powers.sum(dim=-1, keepdim=True)


@mutant("weights")
class WeightsOnePercentOff(Plain):
    def softmax(self, scores):
        return scores.softmax(dim=-1) * 1.01


@mutant("weights")
class OneWeightOnePercentOff(Plain):
    def softmax(self, scores):
        weights = scores.softmax(dim=-1).clone()
        weights[0, 1, 2, 3] *= 1.01
        return weights


@mutant("weights")
class SoftmaxPlusOne(Plain):
    def softmax(self, scores):
        powers = (scores - scores.amax(-1, keepdim=True)).exp()
        return powers / (1 + powers.sum(dim=-1, keepdim=True))


@mutant("weights")
class SmallWeightsCut(Plain):
    def softmax(self, scores):
        weights = scores.softmax(dim=-1)
        return weights.where(weights > weights.amax(-1, keepdim=True) / 50, torch.zeros_like(weights))


@mutant("weights")
class SoftmaxInHalfPrecision(Plain):
    def softmax(self, scores):
        return scores.bfloat16().softmax(dim=-1).to(scores.dtype)


@mutant("scores")
class BaseTwo(Plain):
    def softmax(self, scores):
        return (scores * math.log(2)).softmax(dim=-1)


@mutant("weights", "training")
class DropoutNotScaledUp(Plain):
    def drop(self, weights):
        return nn.functional.dropout(weights, self.dropout) * (1 - self.dropout)


@mutant("weights", "training")
class DropoutLeavesOutAll(Plain):
    def drop(self, weights):
        return weights * 0


@mutant("weights", "training")
class DropoutForgotten(Plain):
    def drop(self, weights):
        return weights


@mutant("weights", "training")
class DropoutOfAnotherRate(Plain):
    def drop(self, weights):
        return nn.functional.dropout(weights, 0.9) * 0.1 / (1 - self.dropout)


@mutant("concatenated", "training")
class ContextThreeTimesInTraining(Plain):
    def attend(self, weights, v):
        return weights @ v * (3.0 if self.training else 1.0)


@mutant("output", "training")
class OutputSevenTimesInTraining(Plain):
    def finish(self, x):
        return self.out_proj(x) * (7.0 if self.training else 1.0)


# --- context, concatenation, output ----------------------------------------------------------------------------------


@mutant("concatenated")
class OneHeadZeroed(Plain):
    def attend(self, weights, v):
        context = (weights @ v).clone()
        context[:, 1] = 0
        return context


@mutant("context")
class WeightsTransposedForContext(Plain):
    def attend(self, weights, v):
        return weights.transpose(-1, -2) @ v


@mutant("context")
class ContextAddedUpInHalfPrecision(Plain):
    def attend(self, weights, v):
        return (weights.half() @ v.half()).to(v.dtype)


@mutant("concatenated")
class ConcatenatedWithoutTranspose(Plain):
    def concatenate(self, context):
        return context.reshape(context.shape[0], -1, self.embed_dim)


@mutant("concatenated")
class FeaturesInterleaved(Plain):
    def concatenate(self, context):
        return context.permute(0, 2, 3, 1).reshape(context.shape[0], -1, self.embed_dim)


@mutant("output")
class OutputBiasForgotten(Plain):
    def finish(self, x):
        return x @ self.out_proj.weight.T


@mutant("output")
class OutputBiasTwice(Plain):
    def finish(self, x):
        return self.out_proj(x) + self.out_proj.bias


@mutant("output")
class OutputOnePercentOff(Plain):
    def finish(self, x):
        return self.out_proj(x) * 1.01


@mutant("output")
class OneOutputOnePercentOff(Plain):
    def finish(self, x):
        output = self.out_proj(x).clone()
        output[1, 2, 3] *= 1.01
        return output


@mutant("output")
class InputAddedToOutput(Plain):
    def finish(self, x):
        return self.out_proj(x) + x


@mutant("output")
class OutputWeightsTransposed(Plain):
    def finish(self, x):
        return x @ self.out_proj.weight + self.out_proj.bias


# --- what is given back ----------------------------------------------------------------------------------------------


@mutant("averaged_weights")
class SumInsteadOfMean(Plain):
    def average(self, weights):
        return weights.sum(dim=1)


@mutant("averaged_weights")
class MapTransposed(Plain):
    def average(self, weights):
        return weights.mean(dim=1).transpose(-1, -2)


@mutant("averaged_weights")
class OnlyTheFirstHead(Plain):
    def average(self, weights):
        return weights[:, 0]


@mutant("weights")
class ReturnedHeadsInReverse(Plain):
    def returned(self, weights):
        return weights.flip(1)


@mutant("averaged_weights")
class LargestInsteadOfMean(Plain):
    def average(self, weights):
        return weights.amax(dim=1)
