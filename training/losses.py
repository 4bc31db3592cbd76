"""The losses of the paper (Prajwal et al. 2020) as pure functions of tensors, in fp32."""

import torch
import torch.nn.functional as F


def expert_bce(probability: torch.Tensor, in_sync: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy of P_sync (B,) against labels (B,): 1 in sync, 0 not. Section 3.1."""
    return _bce(probability, in_sync.float())


def _bce(probability: torch.Tensor, target: torch.Tensor, reduction: str = "mean") -> torch.Tensor:
    # Rounding can lift a cosine just above 1, which the logarithm of 1 - p does not survive. NaN goes through it into
    # the loss, for the guard to find; torch's function takes it for a bug and kills the process on a GPU.
    clean = probability.float().nan_to_num().clamp(0, 1)
    return F.binary_cross_entropy(clean, target, reduction=reduction) + 0 * probability.float().sum()


def all_pairs_bce(probability: torch.Tensor, negatives: torch.Tensor) -> torch.Tensor:
    """The expert's BCE over all pairs of a batch, in-sync and off-sync ones with half the weight each.

    probability (N, M), M >= N, in sync on the diagonal; negatives (N, M) marks the off-sync pairs that count. With this
    balance P_sync keeps its meaning: the probability that a pair is in sync when one in two is.
    """
    diagonal = probability.diagonal()
    in_sync = _bce(diagonal, torch.ones_like(diagonal))
    off_sync = _bce(probability, torch.zeros_like(probability), reduction="none")
    # A batch of very short clips may hold no negative at all.
    return 0.5 * in_sync + 0.5 * (off_sync * negatives).sum() / negatives.sum().clamp(min=1)


def multiway_loss(probability: torch.Tensor, negatives: torch.Tensor, temperature: float) -> torch.Tensor:
    """Cross entropy of finding the right speech for each face among all that count, and the right face for each speech.

    Multi-way matching, Chung et al., "Perfect Match", ICASSP 2019. Arguments as in `all_pairs_bce`.
    """
    counts = negatives | torch.eye(*negatives.shape, dtype=torch.bool, device=negatives.device)
    logits = (probability / temperature).masked_fill(~counts, float("-inf"))
    right = torch.arange(len(logits), device=logits.device)
    speech_of_faces = logits[:, : len(logits)]  # the others belong to no face
    return 0.5 * F.cross_entropy(logits, right) + 0.5 * F.cross_entropy(speech_of_faces.T, right)


def sync_loss(probability: torch.Tensor) -> torch.Tensor:
    """E_sync = mean(-log P_sync), equation 3."""
    return expert_bce(probability, torch.ones_like(probability))


def stabilised_sync_loss(
    probability: torch.Tensor, true: torch.Tensor, reference: torch.Tensor, eps: float = 1e-2
) -> torch.Tensor:
    """E_sync on the scale that the expert's own answers set: 0 where it takes generated faces as it takes true ones.

    P_sync (B,) with the same speech: of the generated faces, the true ones, and the reference ones, which say something
    else. mean(-log(1 - |x - y| / (|x - y| + |y - d| + eps))) for x generated, y true, d reference: the stabilised
    synchronisation loss of Yaman et al. 2023, arXiv 2307.09368, but for the eps that it adds to the numerator as well,
    with which it is neither 0 at x = y nor finite where the expert cannot tell true from reference.
    """
    x, y, d = (p.float().clamp(0, 1) for p in (probability, true, reference))
    error, scale = (x - y).abs(), (y - d).abs()
    return (torch.log(error + scale + eps) - torch.log(scale + eps)).mean()


def perceptual_loss(generated: list[torch.Tensor], truth: list[torch.Tensor]) -> torch.Tensor:
    """Mean absolute difference of features (N, C, h, w) of several layers, each layer on the scale of the truth's in
    that picture.

    Johnson et al. 2016, arXiv 1603.08155, with L1 for L2, as later work has it.
    """
    layers = []
    for drawn, true in zip(generated, truth, strict=True):
        drawn, true = drawn.float().flatten(1), true.float().flatten(1)
        # By picture, so that parts of a batch make the loss of the whole.
        layers.append(((drawn - true).abs().mean(dim=1) / true.abs().mean(dim=1).clamp(min=1e-6)).mean())
    return torch.stack(layers).mean()


def reconstruction_loss(generated: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """L_recon: mean absolute difference over the whole frame, equation 1."""
    return F.l1_loss(generated.float(), truth.float())


def adversarial_loss(fake_logits: torch.Tensor) -> torch.Tensor:
    """L_gen of the generator: the fake should pass for real.

    The non-saturating form -log D(fake) of the official code; the paper's equation 4 has log(1 - D(fake)).
    """
    return F.binary_cross_entropy_with_logits(fake_logits.float(), torch.ones_like(fake_logits, dtype=torch.float32))


def discriminator_losses(
    real_logits: torch.Tensor, fake_logits: torch.Tensor, smoothing: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The two halves of L_disc: real to 1, fake to 0. Equation 5.

    smoothing: real faces are to score 1 - smoothing only (one-sided label smoothing, Salimans et al. 2016).
    """
    real, fake = real_logits.float(), fake_logits.float()
    return (
        F.binary_cross_entropy_with_logits(real, torch.full_like(real, 1 - smoothing)),
        F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake)),
    )


def gradient_penalty(real_logits: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """R1: mean squared norm, per frame, of the gradient of the logits by the real faces (B, 3, T, H, W).

    Mescheder et al. 2018, equation 9. Differentiable, so that it can be a part of the discriminator's loss.
    """
    (gradient,) = torch.autograd.grad(real_logits.sum(), real, create_graph=True)
    return gradient.square().sum(dim=(1, 3, 4)).mean()


def contrastive_loss(distance: torch.Tensor, apart: torch.Tensor) -> torch.Tensor:
    """LipGAN's: d² for a real face with its speech, max(0, 1 - d)² for anything else.

    distance (N,): between the embeddings of face and speech; apart (N,): 1 where they should not match, else 0.
    Prajwal et al. 2019 (LipGAN), equation 2, after Hadsell et al. 2006.
    """
    distance = distance.float()
    return torch.where(apart.bool(), (1 - distance).clamp(min=0), distance).square().mean()
