"""Step 3, scores: the LatentRouter network (arXiv 2605.11301), predicting quality and spread.

A query becomes capsules, a candidate becomes a token, and two rounds of latent communication
let candidates read the query and compare themselves. Sizes depend on the features and the
number of kinds, never on the pool: any number of candidates, in any order, without retraining.

Axis legend: B = queries, M = candidates, D = query vector, P = capability vector, T = query
tokens, C = capsules, H = hidden width, A = attention heads, R = pair width, K = kinds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from router.errors import InvalidInputError

if TYPE_CHECKING:
    from torch import Tensor

MIN_STD = 1e-4
"""Added to the softplus of the outcome head (paper)."""

LOGIT_EPS = 0.02
"""Profile qualities are kept this far from 0 and 1, where the logit has no end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """Sizes of a `LatentRouter`; the defaults are the paper's small configuration."""

    query_width: int
    """D, features of a query vector; 1 to 16384."""

    capability_width: int
    """P, width of a capability vector; 1 to 4096."""

    num_kinds: int = 0
    """K: the last K query columns are memberships, the first K capability columns the quality of
    each kind, and their product is where the outcome head starts. 0 starts it from nothing;
    at most D and P."""

    num_slopes: int = 0
    """The first columns of a query vector are the projected features, and as many capability
    columns after the kinds' two sets are the slopes on them; their product joins the start.
    The token does not read them. At most D and P."""

    hidden: int = 48
    """H, width of every token; a multiple of ``num_heads``, 4 to 1024."""

    num_tokens: int = 4
    """T, tokens a query is cut into; 1 to 64."""

    num_capsules: int = 7
    """C, learned questions put to a query; 1 to 64."""

    num_heads: int = 4
    """A, attention heads; 1 to 64."""

    num_rounds: int = 2
    """Rounds of latent communication; 1 to 8."""

    pair_width: int = 16
    """R, hidden width of the pair bias; memory grows with B * M² * R. 1 to 256."""

    dropout: float = 0.1
    """Chance of silencing a unit while training; 0 to 0.9."""

    correction_bound: float = 0.05
    """Most the correction may move a mean; 0 to 0.5."""

    feedback_temperature: float = 0.25
    """Softness with which capsules prefer promising candidates; 0.01 to 100."""

    def __post_init__(self) -> None:
        """Refuse sizes outside their bounds."""
        for name, (low, high) in _BOUNDS.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidInputError(
                    f"{name} must be {low} to {high}, got {getattr(self, name)}", name
                )
        if self.hidden % self.num_heads:
            raise InvalidInputError(
                f"hidden must be a multiple of num_heads ({self.num_heads}), got {self.hidden}",
                "hidden",
            )
        if self.num_kinds > min(self.query_width, self.capability_width):
            raise InvalidInputError(
                f"num_kinds must be at most query_width and capability_width, "
                f"got {self.num_kinds}",
                "num_kinds",
            )


_BOUNDS: dict[str, tuple[float, float]] = {
    "query_width": (1, 16384),
    "capability_width": (1, 4096),
    "num_kinds": (0, 1024),
    "num_slopes": (0, 16384),
    "hidden": (4, 1024),
    "num_tokens": (1, 64),
    "num_capsules": (1, 64),
    "num_heads": (1, 64),
    "num_rounds": (1, 8),
    "pair_width": (1, 256),
    "dropout": (0.0, 0.9),
    "correction_bound": (0.0, 0.5),
    "feedback_temperature": (0.01, 100.0),
}


class Prediction(NamedTuple):
    """What the network says of each candidate; finite wherever the inputs are."""

    mean_BM: Tensor
    """Expected quality after the bounded correction, 0 to 1."""

    std_BM: Tensor
    """Predicted spread of the outcome about its mean, above 0."""

    mu_BM: Tensor
    """Expected quality before the correction, 0 to 1."""

    correction_BM: Tensor
    """The correction, within plus or minus ``correction_bound``."""


def masked_softmax(logits: Tensor, available: Tensor) -> Tensor:
    """Softmax over the last axis that gives unavailable entries exactly nothing.

    Where nothing is available every weight is 0 instead of NaN.
    """
    logits = logits.masked_fill(~available, float("-inf"))
    peak = logits.amax(dim=-1, keepdim=True).detach()
    peak = peak.masked_fill(peak == float("-inf"), 0.0)
    weight = (logits - peak).exp()
    return weight / weight.sum(dim=-1, keepdim=True).clamp_min(1e-30)


def _mlp(width_in: int, width: int, width_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width_in, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width_out)
    )


class PairBias(nn.Module):
    """Attention bias of candidate i towards j from [m_i; m_j; m_i - m_j; m_i * m_j].

    The (B, M, M, 4H) input is never built. Cut its first layer's weight into W1..W4, then
    W x = (W1 + W3) m_i + (W2 - W3) m_j + W4 (m_i * m_j): a term of i, a term of j, and R
    bilinear forms m_i' diag(w) m_j. The largest tensor is (B, M, M, R).
    """

    def __init__(self, hidden: int, pair_width: int, num_heads: int) -> None:
        """Build the two terms, the bilinear weight and the second layer."""
        super().__init__()
        self.own = nn.Linear(hidden, pair_width)
        self.other = nn.Linear(hidden, pair_width, bias=False)
        self.product_RH = nn.Parameter(torch.randn(pair_width, hidden) / hidden)
        self.out = nn.Linear(pair_width, num_heads)

    def forward(self, token_BMH: Tensor) -> Tensor:
        """Return the bias, shape (B, A, M, M)."""
        scaled_BMRH = token_BMH.unsqueeze(2) * self.product_RH
        product_BMRM = scaled_BMRH @ token_BMH.transpose(1, 2).unsqueeze(1)
        pair_BMMR = (
            product_BMRM.transpose(2, 3)
            + self.own(token_BMH).unsqueeze(2)
            + self.other(token_BMH).unsqueeze(1)
        )
        bias_BAMM: Tensor = self.out(functional.gelu(pair_BMMR)).permute(0, 3, 1, 2)
        return bias_BAMM


class Attention(nn.Module):
    """Multi-head attention that takes a bias and a mask of sources."""

    def __init__(self, hidden: int, num_heads: int) -> None:
        """Build the four projections."""
        super().__init__()
        self.num_heads = num_heads
        self.query = nn.Linear(hidden, hidden)
        self.key_value = nn.Linear(hidden, 2 * hidden)
        self.out = nn.Linear(hidden, hidden)

    def forward(
        self,
        reader_BXH: Tensor,
        source_BYH: Tensor,
        *,
        bias: Tensor | None = None,
        available_BY: Tensor | None = None,
    ) -> Tensor:
        """Return what each reader takes from the sources, shape (B, X, H).

        Args:
            reader_BXH: Who reads.
            source_BYH: What is read.
            bias: Added to the logits; broadcasts to (B, A, X, Y).
            available_BY: True where a source may be read; all when absent.
        """
        heads = (self.num_heads, -1)
        query_BAXE = self.query(reader_BXH).unflatten(-1, heads).transpose(1, 2)
        key_BYH, value_BYH = self.key_value(source_BYH).chunk(2, dim=-1)
        key_BAYE = key_BYH.unflatten(-1, heads).transpose(1, 2)
        value_BAYE = value_BYH.unflatten(-1, heads).transpose(1, 2)
        logits_BAXY = query_BAXE @ key_BAYE.transpose(2, 3) * query_BAXE.shape[-1] ** -0.5
        if bias is not None:
            logits_BAXY = logits_BAXY + bias
        if available_BY is None:
            weight_BAXY = logits_BAXY.softmax(dim=-1)
        else:
            weight_BAXY = masked_softmax(logits_BAXY, available_BY[:, None, None, :])
            # Zero times NaN is NaN: what a masked source holds is removed, not only unweighted.
            value_BAYE = value_BAYE.masked_fill(~available_BY[:, None, :, None], 0.0)
        taken_BXH: Tensor = self.out((weight_BAXY @ value_BAYE).transpose(1, 2).flatten(2))
        return taken_BXH


class CommunicationRound(nn.Module):
    """One round: candidates read capsules, compare themselves, and answer the capsules."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build the three steps at the configured sizes."""
        super().__init__()
        h = config.hidden
        self.temperature = config.feedback_temperature
        self.ask, self.capsule_key, self.capsule_value = (nn.Linear(h, h) for _ in range(3))
        self.update = _mlp(3 * h, 4 * h, h, config.dropout)
        self.pair_bias = PairBias(h, config.pair_width, config.num_heads)
        self.compare = Attention(h, config.num_heads)
        self.forward_step = _mlp(h, 4 * h, h, config.dropout)
        self.promise = nn.Linear(h, 1)
        self.feedback = Attention(h, 1)
        self.norms = nn.ModuleList(nn.LayerNorm(h) for _ in range(4))

    def forward(
        self, token_BMH: Tensor, capsule_BCH: Tensor, available_BM: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the next tokens and capsules; masked candidates read but are never read."""
        logits_BMC = self.ask(token_BMH) @ self.capsule_key(capsule_BCH).transpose(1, 2)
        weight_BMC = (logits_BMC * token_BMH.shape[-1] ** -0.5).softmax(dim=-1)
        context_BMH = weight_BMC @ self.capsule_value(capsule_BCH)
        read = torch.cat([token_BMH, context_BMH, token_BMH * context_BMH], dim=-1)
        token_BMH = self.norms[0](token_BMH + self.update(read))
        compared_BMH = self.compare(
            token_BMH, token_BMH, bias=self.pair_bias(token_BMH), available_BY=available_BM
        )
        token_BMH = self.norms[1](token_BMH + compared_BMH)
        token_BMH = self.norms[2](token_BMH + self.forward_step(token_BMH))
        # Weighing attention by softmax(promise / temperature) and renormalising is adding
        # promise / temperature to its logits.
        promise_BM = self.promise(token_BMH).squeeze(-1) / self.temperature
        answer_BCH = self.feedback(
            capsule_BCH, token_BMH, bias=promise_BM[:, None, None, :], available_BY=available_BM
        )
        return token_BMH, self.norms[3](capsule_BCH + answer_BCH)


class LatentRouter(nn.Module):
    """Predict the quality of every candidate for every query."""

    def __init__(self, config: NetworkConfig) -> None:
        """Build all layers; weights come from torch's global generator."""
        super().__init__()
        self.config = config
        h, dropout = config.hidden, config.dropout
        self.query_norm = nn.LayerNorm(config.query_width)
        self.query_tokens = nn.Linear(config.query_width, config.num_tokens * h)
        self.capsule_CH = nn.Parameter(torch.randn(config.num_capsules, h) * h**-0.5)
        self.read_query = Attention(h, config.num_heads)
        self.capsule_norm = nn.LayerNorm(h)
        token_width = config.capability_width - config.num_slopes
        self.capability_token = _mlp(token_width, 4 * h, h, dropout)
        self.token_norm = nn.LayerNorm(h)
        self.rounds = nn.ModuleList(CommunicationRound(config) for _ in range(config.num_rounds))
        self.mean_head, self.std_head = (_mlp(h, 4 * h, 1, dropout) for _ in range(2))
        self.correction_head = _mlp(2 * h, 4 * h, 1, dropout)
        # The last layers start at nothing, so an untrained network says what the profiles say.
        for head in (self.mean_head, self.correction_head):
            nn.init.zeros_(head[-1].weight)
            nn.init.zeros_(head[-1].bias)

    def forward(self, query_BD: Tensor, capability: Tensor, available_BM: Tensor) -> Prediction:
        """Predict quality for each query and candidate.

        Permuting candidates permutes the result. A masked candidate changes no other figure,
        whatever its capability holds; its own figures are those of an onlooker that reads the
        query and the available candidates. In a row with every candidate masked each one is
        judged alone.

        Args:
            query_BD: Query vectors.
            capability: Capability vectors, (M, P), or (B, M, P) where they differ by query.
            available_BM: True where a candidate may serve the query.
        """
        if capability.dim() == 2:  # noqa: PLR2004 - one table for all queries
            capability = capability.expand(len(query_BD), -1, -1)
        capsule_BCH = self._capsules(query_BD)
        token_BMH = self.token_norm(self.capability_token(self._without_slopes(capability)))
        for communication in self.rounds:
            token_BMH, capsule_BCH = communication(token_BMH, capsule_BCH, available_BM)
        start_BM = self._start_logit(query_BD, capability)
        mu_BM = torch.sigmoid(start_BM + self.mean_head(token_BMH).squeeze(-1))
        std_BM = functional.softplus(self.std_head(token_BMH).squeeze(-1)) + MIN_STD
        summary_BMH = capsule_BCH.mean(dim=1, keepdim=True).expand_as(token_BMH)
        correction_BM = self.config.correction_bound * torch.tanh(
            self.correction_head(torch.cat([token_BMH, summary_BMH], dim=-1)).squeeze(-1)
        )
        mean_BM = (mu_BM + correction_BM).clamp(0.0, 1.0)
        return Prediction(mean_BM, std_BM, mu_BM, correction_BM)

    def _capsules(self, query_BD: Tensor) -> Tensor:
        tokens = self.query_tokens(self.query_norm(query_BD))
        token_BTH = tokens.unflatten(-1, (self.config.num_tokens, -1))
        capsule_BCH = self.capsule_CH.expand(len(query_BD), -1, -1)
        read_BCH: Tensor = self.capsule_norm(capsule_BCH + self.read_query(capsule_BCH, token_BTH))
        return read_BCH

    def _without_slopes(self, capability: Tensor) -> Tensor:
        start = 2 * self.config.num_kinds
        stop = start + self.config.num_slopes
        return torch.cat([capability[..., :start], capability[..., stop:]], dim=-1)

    def _start_logit(self, query_BD: Tensor, capability_BMP: Tensor) -> Tensor:
        """Return the logit of the profile's quality for the query, shape (B, M)."""
        num_kinds, num_slopes = self.config.num_kinds, self.config.num_slopes
        if not num_kinds:
            return query_BD.new_zeros(capability_BMP.shape[:2])
        quality_BM = (capability_BMP[..., :num_kinds] @ query_BD[:, -num_kinds:, None]).squeeze(-1)
        if num_slopes:
            slope_BMD = capability_BMP[..., 2 * num_kinds : 2 * num_kinds + num_slopes]
            quality_BM = quality_BM + (slope_BMD @ query_BD[:, :num_slopes, None]).squeeze(-1)
        return torch.logit(quality_BM.clamp(LOGIT_EPS, 1.0 - LOGIT_EPS))

    def num_parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())
