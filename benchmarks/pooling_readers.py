"""How benchmarks/pooling.py reads vectors: simple models over five folds of patients, and fine-tuned classifiers.

Every score comes with the pseudo-value of each patient, from which intervals are made.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import numpy as np
import torch
from pooling_targets import Cases

from medssl.encoders.contract import Encoder
from medssl.encoders.pooling import Pooling
from medssl.evaluation.class_predictions import ClassPredictions
from medssl.evaluation.class_resampling import resampled_scores
from medssl.evaluation.directions import directions
from medssl.evaluation.statistics.jackknife import pseudo_values
from medssl.tasks.class_settings import ClassificationSettings
from medssl.tasks.classification import Classifier

FOLDS = 5
TESTED = 2  # folds that a fine-tuned network is scored on
TUNED_RATE = 2e-3


@torch.no_grad()
def pooled(encoder: Encoder, images: torch.Tensor, pools: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the vectors of windows by pool, from one pass; windows are padded to what the encoder's strides divide."""
    images = padded(images, encoder.strides[-1])
    encoder.eval().pool_by("prenorm")
    heads = {pool: Pooling(pool, encoder.channels, encoder.strides) for pool in pools}
    found: dict[str, list[np.ndarray]] = {pool: [] for pool in pools}
    for batch in images.split(16):
        pyramid, before = encoder.levels(batch)
        for pool, head in heads.items():
            found[pool].append(head(pyramid, before).numpy())
    return {pool: np.concatenate(parts).astype(np.float64) for pool, parts in found.items()}


def padded(images: torch.Tensor, stride: Sequence[int]) -> torch.Tensor:
    """Return images with zeros on either side: each axis a multiple of the stride, and not all of them the stride."""
    size = list(images.shape[2:])
    wanted = [-(-length // step) * step for length, step in zip(size, stride, strict=True)]
    if wanted == list(stride):  # the coarsest level would be a single voxel
        wanted[size.index(max(size))] *= 2
    sides: list[int] = []
    for lacking in reversed([full - length for full, length in zip(wanted, size, strict=True)]):
        sides += [lacking // 2, lacking - lacking // 2]
    return torch.nn.functional.pad(images, sides)


def folds(patients: np.ndarray) -> np.ndarray:
    """Return the fold of each row; a patient's rows share one."""
    names = np.unique(patients)
    fold = dict(zip(names, np.random.default_rng(1).permutation(len(names)) % FOLDS, strict=True))
    return np.array([fold[name] for name in patients])


def score(target: str, vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return a target's score, and the pseudo-value of each patient."""
    return {"R2": explained, "AUROC": told_apart, "share": found_again}[target.split(", ")[1]](vectors, truth, patients)


def explained(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return R2 of a ridge regression; its strength is chosen by leaving out rows of the fitted folds."""
    from sklearn.linear_model import RidgeCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    wanted = truth.reshape(len(truth), -1)
    fold, guess = folds(patients), np.zeros_like(wanted)
    for held in range(FOLDS):
        model = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-1, 5, 13)))
        guess[fold == held] = (
            model.fit(vectors[fold != held], wanted[fold != held])
            .predict(vectors[fold == held])
            .reshape(-1, wanted.shape[1])
        )
    _, own = np.unique(patients, return_inverse=True)

    def r2(weights: np.ndarray) -> np.ndarray:
        each = weights[:, own]
        mean = (each @ wanted) / each.sum(axis=1, keepdims=True)
        left = each @ (wanted - guess) ** 2
        spread = each @ wanted**2 - each.sum(axis=1, keepdims=True) * mean**2
        return (1 - left / spread).mean(axis=1)

    return pseudo_values(r2, own.max() + 1)


def told_apart(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the AUROC of a logistic regression (C = 0.1), the mean over classes where there are more than two."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, number = np.unique(truth, return_inverse=True)
    fold, chance = folds(patients), np.zeros((len(truth), len(classes)))
    for held in range(FOLDS):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(vectors[fold != held], number[fold != held])
        chance[np.ix_(fold == held, model.classes_)] = model.predict_proba(vectors[fold == held])
    cases = class_predictions(chance, number, patients, classes)
    return pseudo_values(lambda w: resampled_scores(cases, "auroc", w), len(np.unique(patients)))


def class_predictions(
    chance: np.ndarray, truth: np.ndarray, patients: np.ndarray, classes: np.ndarray
) -> ClassPredictions:
    """Return probabilities as the project scores them."""
    return ClassPredictions(
        tuple(map(str, range(len(truth)))),
        tuple(map(str, patients)),
        truth,
        chance,
        chance.argmax(axis=1),
        tuple(map(str, classes)),
    )


def found_again(vectors: np.ndarray, truth: np.ndarray, patients: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the share of frames whose nearest other frame, by direction, is of the same patient."""
    (unit,) = directions(vectors)
    near = unit @ unit.T
    np.fill_diagonal(near, -np.inf)
    right = (patients[near.argmax(axis=1)] == patients).astype(float)
    names = np.unique(patients)
    each = np.array([right[patients == name].mean() for name in names])
    return float(each.mean()), each


def tuned(encoder: Encoder, pool: str, cases: Cases, target: str, seed: int, steps: int) -> tuple[float, np.ndarray]:
    """Fine-tune a classifier on three fifths of the patients; return its AUROC on the others, and pseudo-values."""
    classes, number = np.unique(cases.truths[target], return_inverse=True)
    seen = folds(cases.patients) >= TESTED
    encoder = copy.deepcopy(encoder)
    encoder.pool_by(pool)
    torch.manual_seed(seed)
    network = Classifier(encoder, len(classes), ClassificationSettings(window=tuple(cases.images.shape[2:]))).train()
    share = np.bincount(number[seen], minlength=len(classes)) / seen.sum()
    weight = torch.from_numpy(1 / (len(classes) * share)).float()
    optimiser = torch.optim.AdamW(network.parameters(), lr=TUNED_RATE, weight_decay=0.01)
    rates = torch.optim.lr_scheduler.OneCycleLR(optimiser, TUNED_RATE, total_steps=steps)
    draw, truth = np.random.default_rng(seed), torch.from_numpy(number)
    for _ in range(steps):
        chosen = draw.choice(np.flatnonzero(seen), 16, replace=False)
        found = network(cases.images[chosen])
        loss = torch.nn.functional.cross_entropy(found, truth[chosen], weight=weight)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rates.step()
    network.eval()
    left = np.flatnonzero(~seen)
    with torch.no_grad():
        chance = torch.cat([network(cases.images[part]).softmax(dim=1) for part in np.array_split(left, 12)])
    whose = cases.patients[left]
    answers = class_predictions(chance.double().numpy(), number[left], whose, classes)
    return pseudo_values(lambda w: resampled_scores(answers, "auroc", w), len(np.unique(whose)))
