"""The formulas of CAUSE against direct, slow computations of the specification."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as functional
from builders import quick
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from lightcluster.methods.cause import contrastive, modularity
from lightcluster.methods.cause.contrastive import (
    Bank,
    Others,
    concept_relations,
    contrast,
    contrastive_loss,
)
from lightcluster.methods.cause.heads import (
    FEATURES,
    PROJECTED,
    Learner,
    MlpHead,
    TrHead,
    TwoBranches,
    move_teacher,
    nearest_codes,
)
from lightcluster.methods.cause.modularity import (
    max_product,
    modularity_loss,
    modularity_matrix,
    sample_grid,
    take,
)

# ---- sampling of the grid -----------------------------------------------------------------------


@quick
@given(rows=st.integers(4, 13), columns=st.integers(4, 13), seed=st.integers(0, 99))
def test_one_token_of_each_whole_block_is_drawn(rows, columns, seed):
    positions = sample_grid(3, (rows, columns), torch.Generator().manual_seed(seed))
    assert positions.shape == (3, (rows // 4) * (columns // 4))
    for image in positions:
        blocks = [(p // columns // 4, p % columns // 4) for p in image.tolist()]
        assert blocks == [(r, c) for r in range(rows // 4) for c in range(columns // 4)]


def test_every_token_of_a_block_is_drawn_equally_often():
    generator = torch.Generator().manual_seed(0)
    drawn = sample_grid(16_000, (4, 4), generator).flatten().bincount(minlength=16)
    assert drawn.shape == (16,)
    assert (drawn - 1000).abs().max() < 150  # five standard deviations


def test_a_grid_without_a_block_is_an_error():
    with pytest.raises(ValueError, match="3 × 9 tokens has no block of side 4"):
        sample_grid(1, (3, 9), torch.Generator())


def test_take_returns_the_tokens_at_the_positions():
    tokens = torch.randn(2, 5, 3)
    taken = take(tokens, torch.tensor([[4, 0], [1, 1]]))
    torch.testing.assert_close(taken[0], tokens[0, [4, 0]])
    torch.testing.assert_close(taken[1], tokens[1, [1, 1]])


# ---- modularity ---------------------------------------------------------------------------------


def cosine(x, y):
    return float(x @ y / (x.norm() * y.norm()))


def slow_modularity(tokens, codes):
    """The loss of one image by the sums of the specification, in double precision."""
    count = len(tokens)
    adjacency = np.array(
        [[0 if i == j else max(cosine(tokens[i], tokens[j]), 0) for j in range(count)]
         for i in range(count)]
    )  # fmt: skip
    degree, edges = adjacency.sum(1), adjacency.sum()
    weights = adjacency - np.outer(degree, degree) / edges
    near = np.array([[max(cosine(token, code), 0) for code in codes] for token in tokens])
    shared = np.array(
        [[max(math.tanh(near[i, k] * near[j, k] / 0.1) for k in range(len(codes)))
          for j in range(count)] for i in range(count)]
    )  # fmt: skip
    return -np.trace(weights / edges @ shared)


def test_the_modularity_loss_is_the_sum_of_the_specification():
    torch.manual_seed(0)
    tokens, codes = torch.randn(3, 9, 5).double() + 0.5, torch.randn(7, 5).double()
    slow = np.mean([slow_modularity(image, codes) for image in tokens])
    assert float(modularity_loss(tokens, codes)) == pytest.approx(slow, abs=1e-12)


def test_two_groups_with_a_code_each_have_the_known_modularity():
    """Two pairs of equal, orthogonal tokens: A has two edges, and Q = 1/2 for the right codes."""
    tokens = torch.tensor([[[1.0, 0], [1, 0], [0, 1], [0, 1]]])
    assert float(modularity_loss(tokens, torch.eye(2))) == pytest.approx(
        -0.5 * math.tanh(10), abs=1e-6
    )
    one_code = torch.ones(1, 2)  # closeness sqrt(1/2) to all: everything shares it
    assert float(modularity_loss(tokens, one_code)) == pytest.approx(0, abs=1e-6)


def test_rows_of_the_modularity_matrix_sum_to_zero_but_without_edges_it_is_zero():
    torch.manual_seed(1)
    matrix = modularity_matrix(torch.randn(2, 8, 6))
    torch.testing.assert_close(matrix.sum(-1), torch.zeros(2, 8), atol=1e-6, rtol=0)
    opposite = torch.tensor([[[1.0, 0], [-1.0, 0]]])
    assert not modularity_matrix(opposite).any()


@quick
@given(
    images=st.integers(1, 3), count=st.integers(1, 12), codes=st.integers(1, 9),
    chunk=st.integers(1, 400), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_chunked_maximum_and_its_gradient_are_those_of_the_full_tensor(
    images, count, codes, chunk, seed
):
    torch.manual_seed(seed)
    closeness = torch.rand(images, count, codes, dtype=torch.double).requires_grad_()
    weights = torch.randn(images, count, count, dtype=torch.double)
    full = (closeness.unsqueeze(2) * closeness.unsqueeze(1)).amax(-1)
    (expected,) = torch.autograd.grad((weights * full).sum(), closeness)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(modularity, "_CHUNK_NUMBERS", {"cpu": chunk})
        chunked = max_product(closeness)
    (found,) = torch.autograd.grad((weights * chunked).sum(), closeness)
    torch.testing.assert_close(chunked, full, rtol=0, atol=0)
    torch.testing.assert_close(found, expected)


def test_no_gradient_of_the_modularity_reaches_the_tokens():
    tokens = torch.randn(2, 6, 4, requires_grad=True)
    codes = torch.randn(3, 4, requires_grad=True)
    modularity_loss(tokens, codes).backward()
    assert tokens.grad is None
    assert codes.grad is not None
    assert codes.grad.any()


def test_all_zeros_give_no_nan():
    codes = torch.rand(3, 4, requires_grad=True)
    loss = modularity_loss(torch.zeros(1, 5, 4), codes)
    loss.backward()
    assert loss.item() == 0
    assert torch.isfinite(codes.grad).all()


# ---- heads --------------------------------------------------------------------------------------


def test_the_two_branches_add_up():
    torch.manual_seed(0)
    branches, x = TwoBranches(12).eval(), torch.randn(3, 12)
    slow = branches.linear(x) + branches.out(branches.hidden(x).clamp(min=0))
    torch.testing.assert_close(branches(x), slow)
    assert branches(x).shape == (3, FEATURES)


def test_each_branch_draws_its_own_dropout():
    """With one branch silenced the other still drops; both masks of one call differ."""
    torch.manual_seed(0)
    branches, seen = TwoBranches(50), []
    for layer in (branches.linear, branches.hidden):
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0] == 0))
    branches(torch.ones(40, 50))
    hidden, linear = seen
    assert (hidden != linear).any()
    for dropped in seen:
        assert 0.05 < float(dropped.float().mean()) < 0.15


def attention(layer, q, k, v):
    """One head of scaled dot-product attention with the weights of a torch layer."""
    weights, bias = layer.in_proj_weight.chunk(3), layer.in_proj_bias.chunk(3)
    q, k, v = (x @ w.T + b for x, w, b in zip((q, k, v), weights, bias, strict=True))
    mixed = (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])).softmax(-1) @ v
    return layer.out_proj(mixed)


def test_the_decoder_layer_step_by_step():
    torch.manual_seed(0)
    head = TrHead(16, 9).eval()
    x, t = torch.randn(2, 9, 16), torch.randn(2, 9, 16)
    p = head.position
    assert p.shape == (9, 16)
    t_ = head.norms[0](t + attention(head.self_attention, t + p, t + p, t))
    t_ = head.norms[1](t_ + attention(head.cross_attention, t_ + p, x, x))
    first, _, _, second = head.feed_forward
    t_ = head.norms[2](t_ + second(first(t_).clamp(min=0)))
    assert first.out_features == 2048
    torch.testing.assert_close(head(x, t), head.branches(x + t_))


def test_positions_start_as_standard_normal_numbers():
    torch.manual_seed(0)
    position = TrHead(64, 400).position
    assert abs(float(position.mean())) < 0.02
    assert abs(float(position.std()) - 1) < 0.02


def test_the_other_head_sees_each_token_by_itself():
    torch.manual_seed(0)
    head, tokens = MlpHead(8).eval(), torch.randn(2, 5, 8)
    alone = torch.stack([head(tokens[:, i], tokens) for i in range(5)], dim=1)
    torch.testing.assert_close(head(tokens, tokens), alone)


def test_the_nearest_code_has_the_largest_cosine_whatever_the_lengths():
    torch.manual_seed(0)
    tokens, codes = torch.randn(4, 6, 5), torch.randn(11, 5) * torch.rand(11, 1)
    nearest = nearest_codes(tokens, codes)
    for index in np.ndindex(4, 6):
        cosines = [cosine(tokens[index], code) for code in codes]
        assert int(nearest[index]) == int(np.argmax(cosines))


def test_the_teacher_is_an_exponential_moving_average():
    torch.manual_seed(0)
    student, teacher = Learner("tr", 8, 4), Learner("tr", 8, 4)
    before = {name: p.clone() for name, p in teacher.named_parameters()}
    move_teacher(teacher, student, 0.99)
    pairs = dict(student.named_parameters())
    assert "head.position" in pairs
    assert "projection.weight" in pairs
    for name, now in teacher.named_parameters():
        torch.testing.assert_close(now, 0.99 * before[name] + 0.01 * pairs[name])


# ---- contrast -----------------------------------------------------------------------------------


def test_concepts_are_alike_above_03_and_unlike_below_01():
    angles = torch.tensor([0.0, math.acos(0.31), math.acos(0.29), math.acos(0.11), math.acos(0.09)])
    codes = torch.stack([angles.cos(), angles.sin()], dim=1) * torch.arange(1, 6).unsqueeze(1)
    assert concept_relations(codes)[0].tolist() == [1, 1, 0, 0, -1]


def slow_contrast(student, anchors, teacher, others, codes, own):
    """The loss of one image from projections, by the sums of the specification.

    Plain loops over tensors, so that it can be differentiated as well.
    """
    pairs = []
    for i, (z, a) in enumerate(zip(student, anchors, strict=True)):
        positive, related = [], []
        for j, (w, b) in enumerate(zip(teacher, others, strict=True)):
            if b < 0 or (own is not None and j == own + i):
                continue
            s, c = z @ w / (z.norm() * w.norm()) / 0.07, cosine(codes[a], codes[b])
            if c > 0.3:
                positive.append(s)
            if c > 0.3 or c < 0.1:
                related.append(s)
        if positive:
            log = torch.stack(related).exp().sum().log()
            pairs += [-s + log for s in positive]
    return torch.stack(pairs).mean() if pairs else 0 * student.sum()


@pytest.fixture
def scene():
    """Features of a student, a projection, projections of a teacher, and concepts."""
    torch.manual_seed(0)
    projection = nn.Linear(6, 30).double()
    codes = torch.randn(5, 4).double()
    features = torch.randn(2, 7, 6).double().requires_grad_()
    seen = functional.normalize(torch.randn(2, 7, 30).double(), dim=-1)
    concepts = torch.randint(5, (2, 7))
    return projection, codes, features, seen, concepts


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("own", [False, True])
def test_the_contrast_of_images_is_the_sum_of_the_specification(scene, first, own):
    projection, codes, features, seen, concepts = scene
    others, images = Others(seen.flatten(0, 1), concepts.flatten(), projection), slice(first, 2)
    found = contrast(
        features[images], projection(features[images]).norm(dim=-1), concepts[images], others.seen,
        others.shift, others.concepts, concept_relations(codes), 7 * first if own else None,
    )  # fmt: skip
    slow = [
        slow_contrast(
            projection(features[image]), concepts[image].tolist(), seen.flatten(0, 1),
            concepts.flatten().tolist(), codes, 7 * image if own else None,
        )
        for image in range(first, 2)
    ]  # fmt: skip
    assert found.tolist() == pytest.approx([float(loss) for loss in slow], rel=1e-9)


@pytest.mark.parametrize("at_once", [0, 10**6])
@pytest.mark.parametrize("banked", [False, True])
def test_the_loss_is_the_mean_of_all_terms_with_the_gradient_of_plain_projections(
    scene, monkeypatch, banked, at_once
):
    monkeypatch.setitem(contrastive._PAIRS, "cpu", at_once)
    projection, codes, features, seen, concepts = scene
    bank = Bank(5, 30, 4, torch.device("cpu"))
    bank.projections = bank.projections.double()
    terms = [(seen.flatten(0, 1), concepts.flatten(), True)]
    if banked:
        kept = functional.normalize(torch.randn(12, 30).double(), dim=-1)
        bank.append(kept, torch.tensor([0, 0, 0, 0, 2, 2, 2, 2, 2, 2, 4, 4]), torch.Generator())
        terms.append((*bank.contents(), False))
    found = contrastive_loss(features, concepts, seen, projection, concept_relations(codes), bank)
    slow = torch.stack([
        slow_contrast(
            projection(features[image]), concepts[image].tolist(), others, own.tolist(), codes,
            7 * image if itself else None,
        )
        for others, own, itself in terms
        for image in range(2)
    ]).mean()  # fmt: skip
    assert float(found) == pytest.approx(float(slow), rel=1e-9)
    wanted = (features, projection.weight, projection.bias)
    expected = torch.autograd.grad(slow, wanted)
    for own, other in zip(torch.autograd.grad(found, wanted), expected, strict=True):
        torch.testing.assert_close(own, other)


def test_an_anchor_with_many_positives_weighs_more():
    """Three tokens of one concept and two of another, unlike: six positive pairs and two."""
    torch.manual_seed(0)
    projection, features = nn.Linear(6, 30).double(), torch.randn(1, 5, 6).double()
    seen = functional.normalize(torch.randn(1, 5, 30).double(), dim=-1)
    concepts = torch.tensor([[0, 0, 0, 1, 1]])
    found = contrastive_loss(
        features, concepts, seen, projection, concept_relations(torch.eye(2)),
        Bank(2, 30, 4, torch.device("cpu")),
    )  # fmt: skip
    s = functional.normalize(projection(features[0]), dim=1) @ seen[0].T / 0.07
    s.fill_diagonal_(-torch.inf)
    terms = s.logsumexp(1, keepdim=True) - s
    of_three = terms[:3, :3][~torch.eye(3, dtype=torch.bool)]
    of_two = terms[3:, 3:][~torch.eye(2, dtype=torch.bool)]
    assert float(found) == pytest.approx(float((of_three.sum() + of_two.sum()) / 8))
    by_anchor = (3 * of_three.mean() + 2 * of_two.mean()) / 5
    assert float(found) != pytest.approx(float(by_anchor), rel=1e-3)


def test_an_image_without_a_positive_pair_counts_0(scene):
    projection, _, features, seen, _ = scene
    codes = torch.eye(9, dtype=torch.double)
    concepts = torch.tensor([[0] * 7, range(1, 8)])  # all alike, all unlike
    empty = Bank(9, 30, 4, torch.device("cpu"))
    found = contrastive_loss(features, concepts, seen, projection, concept_relations(codes), empty)
    first = slow_contrast(
        projection(features[0]), [0] * 7, seen.flatten(0, 1), concepts.flatten().tolist(), codes, 0
    )
    assert float(found) == pytest.approx(float(first) / 2)


def test_anchors_without_positives_leave_no_nan_behind(scene):
    projection, _, features, seen, _ = scene
    codes = torch.eye(14, dtype=torch.double)  # all unlike: nothing is positive
    concepts = torch.arange(14).view(2, 7)
    bank = Bank(14, 30, 4, torch.device("cpu"))
    for relations in (concept_relations(codes), torch.zeros(14, 14, dtype=torch.int8)):
        loss = contrastive_loss(features, concepts, seen, projection, relations, bank)
        (gradient,) = torch.autograd.grad(loss, features)
        assert float(loss) == 0
        assert not gradient.any()


# ---- the bank -----------------------------------------------------------------------------------


def test_the_bank_keeps_the_newest_of_each_concept():
    """Against lists, over many steps; each projection is a number that says when it came."""
    generator = torch.Generator().manual_seed(0)
    bank, lists = Bank(6, 1, 5, torch.device("cpu")), {c: [] for c in range(6)}
    random = np.random.default_rng(0)
    for step in range(30):
        concepts = torch.from_numpy(random.integers(0, 5, 17))  # concept 5 never occurs
        numbers = (100.0 * step + torch.arange(17)).unsqueeze(1)
        before = bank.written.clone()
        bank.append(numbers, concepts, generator)
        held, own = bank.contents()
        for concept in range(6):
            given = numbers[concepts == concept].flatten().tolist()
            kept = held[own == concept].flatten().tolist()
            new = [number for number in kept if number >= 100 * step]
            assert set(new) <= set(given)
            assert len(new) == min(len(given) // 2, 5)
            assert int(bank.written[concept] - before[concept]) == len(new)
            lists[concept] = [n for n in lists[concept] if n in kept] + new
            assert sorted(kept) == sorted(lists[concept])
            assert len(kept) == min(5, int(bank.written[concept]))
            older = [n for n in lists[concept] if n < 100 * step]
            assert len(older) == len(kept) - len(new)  # only the oldest fell out
    assert (own == -1).sum() == len(own) - bank.written.clamp(max=5).sum()


def test_the_oldest_fall_out_first():
    bank, generator = Bank(1, 1, 3, torch.device("cpu")), torch.Generator()
    for step in range(7):
        bank.append(torch.full((2, 1), float(step)), torch.zeros(2, dtype=torch.int64), generator)
    assert sorted(bank.contents()[0].flatten().tolist()) == [4, 5, 6]


def test_the_half_is_drawn_at_random():
    counts = torch.zeros(8)
    for seed in range(400):
        bank = Bank(1, 1, 10, torch.device("cpu"))
        generator = torch.Generator().manual_seed(seed)
        bank.append(torch.arange(8.0).unsqueeze(1), torch.zeros(8, dtype=torch.int64), generator)
        counts[bank.contents()[0][:4].flatten().long()] += 1
    assert (counts - 200).abs().max() < 60  # six standard deviations


def test_a_single_projection_of_a_concept_is_none_rounded_down():
    bank = Bank(3, PROJECTED, 10, torch.device("cpu"))
    bank.append(torch.randn(3, PROJECTED), torch.arange(3), torch.Generator())
    assert not bank.written.any()
    assert len(bank.contents()[1]) == 0


def test_a_bank_of_nothing_stays_empty():
    bank = Bank(3, 4, 0, torch.device("cpu"))
    bank.append(torch.randn(9, 4), torch.zeros(9, dtype=torch.int64), torch.Generator())
    assert not bank.written.any()


def test_a_restored_bank_goes_on_as_the_other():
    torch.manual_seed(0)
    one, generator = Bank(4, 3, 5, torch.device("cpu")), torch.Generator().manual_seed(0)
    concepts = torch.randint(4, (40,))
    one.append(torch.randn(40, 3), concepts, generator)
    other = Bank(4, 3, 5, torch.device("cpu"))
    other.restore({name: tensor.clone() for name, tensor in one.state().items()})
    new = torch.randn(40, 3)
    for bank in (one, other):
        bank.append(new, concepts, torch.Generator().manual_seed(1))
    for own, same in zip(one.contents(), other.contents(), strict=True):
        torch.testing.assert_close(own, same, rtol=0, atol=0)
