"""The network of LatentRouter as published (arXiv 2605.11301).

A query becomes capsules, a candidate becomes a token, and rounds of latent communication let
candidates read the query and compare themselves.

Axis legend: B = queries, M = candidates, D = query vector, P = profile, T = query tokens,
C = capsules, H = hidden width, A = attention heads, R = pair width, X = readers, Y = sources,
E = width of a head.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import nn
from torch.nn import functional

from router.errors import InvalidInputError
from training.benchmark.rivals.latent_loss import Prediction, masked_softmax

if TYPE_CHECKING:
    from torch import Tensor

MIN_STD = 1e-4
"""Added to the softplus of the outcome head (paper)."""

PairForm = Literal["literal", "factored"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LatentConfig:
    """Sizes of a `LatentNetwork`; the defaults are the paper's small configuration."""

    hidden: int = 48
    """H, width of every token; a multiple of ``num_heads``, 4 to 1024."""

    num_tokens: int = 4
    """T, tokens a query is cut into; 1 to 64."""

    num_capsules: int = 7
    """C, learned questions put to a query; 0 to 64. With 0, for ablation, the mean of the query's
    tokens stands in for the capsules."""

    num_heads: int = 4
    """A, attention heads; 1 to 64."""

    num_rounds: int = 2
    """Rounds of latent communication; 0 to 8. With 0, for ablation, the mean capsule is added to
    each candidate's token instead, or the outcome head would never hear of the query."""

    pair_width: int = 16
    """R, hidden width of the pair bias, which the paper does not name; 1 to 256. At M = 60 a step
    takes three times as long with 48."""

    pair_form: PairForm = "literal"
    """How the pair bias is computed, with equal results: ``literal`` builds [m_i; m_j; m_i - m_j;
    m_i * m_j] of every pair as published; ``factored`` never does."""

    dropout: float = 0.1
    """Chance of silencing a unit while training; 0 to 0.9."""

    correction_bound: float = 0.05
    """Most the correction may move a mean; 0 to 0.5. With 0 there is none."""

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


_BOUNDS: dict[str, tuple[float, float]] = {
    "hidden": (4, 1024),
    "num_tokens": (1, 64),
    "num_capsules": (0, 64),
    "num_heads": (1, 64),
    "num_rounds": (0, 8),
    "pair_width": (1, 256),
    "dropout": (0.0, 0.9),
    "correction_bound": (0.0, 0.5),
    "feedback_temperature": (0.01, 100.0),
}


def _mlp(width_in: int, width: int, width_out: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(width_in, width), nn.GELU(), nn.Dropout(dropout), nn.Linear(width, width_out)
    )


class PairBias(nn.Module):
    """Attention bias of candidate i towards j: an MLP of [m_i; m_j; m_i - m_j; m_i * m_j]."""

    def __init__(self, config: LatentConfig) -> None:
        """Build both layers; the two forms share them."""
        super().__init__()
        self.form: PairForm = config.pair_form
        self.first = nn.Linear(4 * config.hidden, config.pair_width)
        self.out = nn.Linear(config.pair_width, config.num_heads)

    def forward(self, token_BMH: Tensor) -> Tensor:
        """Return the bias, shape (B, A, M, M)."""
        return self._literal(token_BMH) if self.form == "literal" else self._factored(token_BMH)

    def _literal(self, token_BMH: Tensor) -> Tensor:
        own_BMMH, other_BMMH = torch.broadcast_tensors(
            token_BMH.unsqueeze(2), token_BMH.unsqueeze(1)
        )
        parts = [own_BMMH, other_BMMH, own_BMMH - other_BMMH, own_BMMH * other_BMMH]
        pair_BMMR = functional.gelu(self.first(torch.cat(parts, dim=-1)))
        bias_BAMM: Tensor = self.out(pair_BMMR).permute(0, 3, 1, 2)
        return bias_BAMM

    def _factored(self, token_BMH: Tensor) -> Tensor:
        """Cut the first layer's weight into the columns W1..W4 of the four parts.

        Row r of W [m_i; m_j; m_i - m_j; m_i * m_j] is (w1 + w3)' m_i + (w2 - w3 + w4 * m_i)' m_j:
        a term of i and, for each i, a linear map of m_j. The largest tensor is (B, R, M, M).
        """
        one_RH, two_RH, three_RH, four_RH = self.first.weight.chunk(4, dim=1)
        own_BRM = functional.linear(token_BMH, one_RH + three_RH, self.first.bias).mT
        map_BRMH = torch.addcmul(
            (two_RH - three_RH).unsqueeze(1), token_BMH.unsqueeze(1), four_RH.unsqueeze(1)
        )
        # Flattened, because a product that broadcasts would copy the tokens R times.
        pair = (map_BRMH.flatten(1, 2) @ token_BMH.mT).unflatten(1, own_BRM.shape[1:])
        pair_BRMM = functional.gelu(pair + own_BRM.unsqueeze(3))
        bias = self.out.weight @ pair_BRMM.flatten(2) + self.out.bias.unsqueeze(1)
        return bias.unflatten(2, pair_BRMM.shape[2:])


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

    def __init__(self, config: LatentConfig) -> None:
        """Build the three steps at the configured sizes."""
        super().__init__()
        h = config.hidden
        self.temperature = config.feedback_temperature
        self.ask, self.capsule_key, self.capsule_value = (nn.Linear(h, h) for _ in range(3))
        self.update = _mlp(3 * h, 4 * h, h, config.dropout)
        self.pair_bias = PairBias(config)
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


class LatentNetwork(nn.Module):
    """Predict quality and spread of every candidate for every query.

    Published code gives each candidate the realised cost of the very query. Here the *predicted*
    cost takes its place: nobody has the other one before the call.
    """

    def __init__(self, query_width: int, profile_width: int, config: LatentConfig) -> None:
        """Build all layers; weights come from torch's global generator."""
        super().__init__()
        self.config = config
        h, dropout = config.hidden, config.dropout
        self.query_norm = nn.LayerNorm(query_width)
        self.query_tokens = nn.Linear(query_width, config.num_tokens * h)
        if config.num_capsules:
            self.capsule_CH = nn.Parameter(torch.randn(config.num_capsules, h) * h**-0.5)
            self.read_query = Attention(h, config.num_heads)
        self.capsule_norm = nn.LayerNorm(h)
        self.capability_token = _mlp(profile_width + 1, 4 * h, h, dropout)
        self.token_norm = nn.LayerNorm(h)
        self.rounds = nn.ModuleList(CommunicationRound(config) for _ in range(config.num_rounds))
        self.mean_head, self.std_head = (_mlp(h, 4 * h, 1, dropout) for _ in range(2))
        self.correction_head = _mlp(2 * h, 4 * h, 1, dropout)

    def silence(self) -> None:
        """Let an untrained network repeat its start, for the ablation that gives it one."""
        for head in (self.mean_head, self.correction_head):
            nn.init.zeros_(head[-1].weight)
            nn.init.zeros_(head[-1].bias)

    def forward(
        self,
        query_BD: Tensor,
        profile_MP: Tensor,
        cost_BM: Tensor,
        available_BM: Tensor,
        start_logit_BM: Tensor | None = None,
    ) -> Prediction:
        """Predict quality for each query and candidate.

        A masked candidate changes no other figure, whatever its profile and cost hold.

        Args:
            query_BD: Standardised features.
            profile_MP: What is known of each candidate; its width depends on the pool.
            cost_BM: Predicted cost in units of the dearest candidate's mean.
            available_BM: True where a candidate may serve the query; in training, where its
                score was observed.
            start_logit_BM: Added to the logit of the mean; for ablation.
        """
        profile_BMP = profile_MP.expand(len(query_BD), -1, -1)
        capability = torch.cat([profile_BMP, cost_BM.unsqueeze(-1)], dim=-1)
        token_BMH = self.token_norm(self.capability_token(capability))
        capsule_BCH = self._capsules(query_BD)
        if not self.rounds:
            token_BMH = token_BMH + capsule_BCH.mean(dim=1, keepdim=True)
        for communication in self.rounds:
            token_BMH, capsule_BCH = communication(token_BMH, capsule_BCH, available_BM)
        logit_BM = self.mean_head(token_BMH).squeeze(-1)
        if start_logit_BM is not None:
            logit_BM = logit_BM + start_logit_BM
        mu_BM = torch.sigmoid(logit_BM)
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
        if self.config.num_capsules:
            asked_BCH = self.capsule_CH.expand(len(query_BD), -1, -1)
            read_BCH = asked_BCH + self.read_query(asked_BCH, token_BTH)
        else:
            read_BCH = token_BTH.mean(dim=1, keepdim=True)
        capsule_BCH: Tensor = self.capsule_norm(read_BCH)
        return capsule_BCH

    def num_parameters(self) -> int:
        """Return the number of trained numbers."""
        return sum(parameter.numel() for parameter in self.parameters())
