"""The contrast of the views of a batch, whatever they are views of; `medssl.methods.simclr` says what it is."""

from __future__ import annotations

from torch import Tensor, nn

from medssl.gathering import gathered
from medssl.heads import FixedReweighting, Projection
from medssl.methods.contract import Losses, Method
from medssl.methods.parts.contract import Anchors, Contrast, seed_of
from medssl.methods.settings.contrast import BatchContrastSettings
from medssl.objectives.diagnostics import feature_spread
from medssl.objectives.infonce import dclw_weights, pairs_of_views

__all__ = ["BatchContrast"]


class BatchContrast(Method):
    """A method whose loss is SimCLR's; it sets ``settings`` and ``contrast`` by `contrast_by`."""

    coupled = "items are told from those of their own part alone"

    contrast: Contrast

    def contrast_by(self, settings: BatchContrastSettings) -> None:
        """Take the settings of the contrast.

        Raises:
            ValueError: dclw is to weigh what are no pairs.
        """
        if settings.decoupled == "dclw" and "two views" not in settings.offers:
            raise ValueError("dclw weighs pairs: it takes two views.")
        self.contrast_settings = settings
        self.draws = bool(settings.parts.chosen())
        self.contrast = Contrast(
            settings.parts, temperature=settings.temperature, positive_in_denominator=settings.decoupled == "no"
        )

    @staticmethod
    def head_of(settings: BatchContrastSettings, width: int) -> nn.Module:
        """Return the head of an embedding of ``width``."""
        if settings.parts.reweight is not None:
            return FixedReweighting(width, kappa=settings.parts.reweight.kappa)
        return Projection(width, settings.hidden, settings.projected)

    def begin(self, items: int) -> None:
        """Make what each item has."""
        self.contrast.begin(items)

    def contrasted(
        self, projected_VBD: Tensor, item_B: Tensor, patient_B: Tensor, seeds_B: Tensor | None, progress: float
    ) -> Losses:
        """Return the contrast of all views of the batch.

        Args:
            projected_VBD: What the head made of this process's views.
            item_B: Number of each one's item, the same in every epoch.
            patient_B: Number of its patient.
            seeds_B: See `medssl.methods.parts.contract.seeds`.
            progress: Share of the run that is done.
        """
        chosen = self.contrast_settings
        features, item = gathered(projected_VBD, dim=1), gathered(item_B)
        pairs = pairs_of_views(features, item, gathered(patient_B))
        views, batch = features.shape[:2]
        view = item.new_tensor(range(views)).repeat_interleave(batch)
        anchors = Anchors(
            item=item.repeat(views),
            seed=seed_of(seeds_B, item.device),
            progress=progress,
            same_view=view[:, None] == view[None],
        )
        weight = None
        if chosen.decoupled == "dclw":
            weight = dclw_weights(features[0], features[1], sigma=chosen.sigma).repeat(2)
        (loss_A,), signals = self.contrast([pairs], anchors, positive_weight=weight)
        loss = loss_A.mean()
        spread = feature_spread(projected_VBD.detach().flatten(0, 1), over_all=True)
        return Losses(loss, {"contrast": loss.detach()}, {"spread": spread, **signals})

    def after_step(self, progress: float) -> None:
        """Keep what the step led to."""
        self.contrast.after_step()
