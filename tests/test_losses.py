"""training/losses.py promises: the numbers of the official code on its own networks, and no NaN at the edges."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity

from models import p_sync, pair_p_sync
from training import losses

GOLDEN = Path(__file__).parent / "golden"


def test_p_sync_is_the_cosine_of_the_embeddings():
    v, s = torch.rand(7, 32), torch.rand(7, 32)
    assert torch.allclose(p_sync(v, s), cosine_similarity(v, s), atol=1e-6)


def test_a_dead_embedding_gives_zero_not_nan():
    assert p_sync(torch.zeros(2, 8), torch.rand(2, 8)).tolist() == [0, 0]


def test_expert_bce_by_hand():
    probability, in_sync = torch.tensor([0.9, 0.2]), torch.tensor([1.0, 0.0])
    assert losses.expert_bce(probability, in_sync).item() == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)


@pytest.mark.parametrize("value", [0.0, 1.0, 1.0000001])
def test_bce_and_its_gradient_are_finite_at_the_edges(value):
    for label in (0.0, 1.0):
        probability = torch.tensor([value], requires_grad=True)
        loss = losses.expert_bce(probability, torch.tensor([label]))
        loss.backward()
        assert torch.isfinite(loss)
        assert torch.isfinite(probability.grad).all()


def test_sync_loss_is_the_mean_negative_logarithm():
    assert losses.sync_loss(torch.tensor([0.5, 0.25])).item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_adversarial_losses_equal_bce_of_the_probability():
    real, fake = torch.randn(6, 1), torch.randn(6, 1)
    bce = torch.nn.functional.binary_cross_entropy
    real_loss, fake_loss = losses.discriminator_losses(real, fake)
    assert torch.allclose(real_loss, bce(real.sigmoid(), torch.ones(6, 1)))
    assert torch.allclose(fake_loss, bce(fake.sigmoid(), torch.zeros(6, 1)))
    assert torch.allclose(losses.adversarial_loss(fake), bce(fake.sigmoid(), torch.ones(6, 1)))


def test_adversarial_losses_do_not_saturate_where_the_probability_rounds_to_one():
    logits = torch.tensor([[40.0]], requires_grad=True)
    _, fake_loss = losses.discriminator_losses(logits, logits)
    fake_loss.backward()
    assert fake_loss.item() == pytest.approx(40)
    assert logits.grad.item() == pytest.approx(1)


def test_losses_are_computed_in_fp32_whatever_comes_in():
    half = torch.rand(4, 8).bfloat16()
    assert p_sync(half, half).dtype == torch.float32
    assert losses.reconstruction_loss(half, half * 0).dtype == torch.float32
    assert losses.adversarial_loss(half).dtype == torch.float32


def test_the_experts_loss_equals_the_official_one():
    golden = np.load(GOLDEN / "losses.npz")
    face, speech = (torch.from_numpy(golden[name]) for name in ("face_embedding", "audio_embedding"))
    bce = losses.expert_bce(p_sync(face, speech), torch.from_numpy(golden["y"]).flatten())
    assert bce.item() == pytest.approx(float(golden["expert_bce"]), abs=1e-5)


def test_the_generators_losses_equal_the_official_ones():
    golden = np.load(GOLDEN / "losses.npz")

    def logits(name):
        return torch.logit(torch.from_numpy(golden[name]))

    real_loss, fake_loss = losses.discriminator_losses(logits("pred_real"), logits("pred_fake"))
    gan = losses.adversarial_loss(logits("pred_fake"))
    sync = losses.sync_loss(torch.from_numpy(golden["g_cos"]))
    assert real_loss.item() == pytest.approx(float(golden["disc_real_loss"]), abs=1e-5)
    assert fake_loss.item() == pytest.approx(float(golden["disc_fake_loss"]), abs=1e-5)
    assert gan.item() == pytest.approx(float(golden["perceptual_loss"]), abs=1e-5)
    assert sync.item() == pytest.approx(float(golden["expert_sync_loss"]), abs=1e-5)


# all pairs of a batch


def brute_force_negatives(probability, negatives):
    n = len(probability)
    return [probability[i, j].item() for i in range(n) for j in range(n) if negatives[i, j]]


def test_all_pairs_bce_weighs_in_sync_and_off_sync_pairs_equally():
    probability = torch.rand(4, 4) * 0.8 + 0.1
    negatives = torch.tensor([[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]], dtype=torch.bool)
    in_sync = np.mean([-math.log(probability[i, i]) for i in range(4)])
    off_sync = np.mean([-math.log(1 - p) for p in brute_force_negatives(probability, negatives)])
    assert losses.all_pairs_bce(probability, negatives).item() == pytest.approx((in_sync + off_sync) / 2, rel=1e-5)


def test_all_pairs_bce_without_any_negative_is_finite():
    probability = torch.full((2, 2), 0.5, requires_grad=True)
    loss = losses.all_pairs_bce(probability, torch.zeros(2, 2, dtype=torch.bool))
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(probability.grad).all()


def test_multiway_loss_by_hand():
    probability = torch.tensor([[0.9, 0.2, 0.8], [0.1, 0.7, 0.3], [0.4, 0.5, 0.6]])
    negatives = torch.tensor([[0, 1, 0], [1, 0, 1], [1, 1, 0]], dtype=torch.bool)  # (0, 2) does not count
    p = probability.numpy() / 0.5

    def matched(scores, right):
        return -right + math.log(sum(math.exp(score) for score in scores))

    faces = [matched(p[0, :2], p[0, 0]), matched(p[1], p[1, 1]), matched(p[2], p[2, 2])]
    speeches = [matched(p[:, 0], p[0, 0]), matched(p[:, 1], p[1, 1]), matched(p[1:, 2], p[2, 2])]
    by_hand = (np.mean(faces) + np.mean(speeches)) / 2
    assert losses.multiway_loss(probability, negatives, temperature=0.5).item() == pytest.approx(by_hand, rel=1e-5)


def test_more_speech_than_faces_only_adds_wrong_answers():
    probability = torch.tensor([[0.9, 0.2, 0.8], [0.1, 0.7, 0.3]])
    negatives = torch.tensor([[0, 1, 1], [1, 0, 0]], dtype=torch.bool)
    p = probability.numpy() / 0.5
    faces = [
        -p[0, 0] + math.log(sum(math.exp(score) for score in p[0])),
        -p[1, 1] + math.log(sum(math.exp(score) for score in p[1, :2])),
    ]
    speeches = [-p[i, i] + math.log(math.exp(p[0, i]) + math.exp(p[1, i])) for i in range(2)]
    matching = losses.multiway_loss(probability, negatives, temperature=0.5)
    assert matching.item() == pytest.approx((np.mean(faces) + np.mean(speeches)) / 2, rel=1e-5)
    in_sync = -(math.log(0.9) + math.log(0.7)) / 2
    off_sync = -(math.log(1 - 0.2) + math.log(1 - 0.8) + math.log(1 - 0.1)) / 3
    bce = losses.all_pairs_bce(probability, negatives)
    assert bce.item() == pytest.approx((in_sync + off_sync) / 2, rel=1e-5)


def test_pairs_of_a_batch_are_scored_as_they_are_one_by_one():
    face, speech = torch.rand(5, 32), torch.rand(5, 32)
    face[2] = 0
    one_by_one = torch.stack([torch.stack([p_sync(f[None], s[None])[0] for s in speech]) for f in face])
    assert torch.allclose(pair_p_sync(face, speech), one_by_one, atol=1e-6)


def test_the_perceptual_loss_is_the_mean_over_layers_on_the_scale_of_each():
    truth = [torch.full((1, 2, 4, 4), 2.0), torch.full((1, 8, 2, 2), 10.0)]
    generated = [truth[0] + 1, truth[1] - 1]
    assert losses.perceptual_loss(generated, truth).item() == pytest.approx((0.5 + 0.1) / 2)
    assert losses.perceptual_loss(truth, truth) == 0
