"""What ``medssl auto`` may be told."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from medssl.domains.deciding import BUDGETS
from medssl.errors import did_you_mean
from medssl.settings import Settings
from medssl.store.accepting import Accepted
from medssl.workflows.export_targets import EXPORTS

__all__ = ["AutoSettings"]

Triple = tuple[int, int, int]


class AutoSettings(Settings):
    """Settings of ``medssl auto``. What is left unset is decided from the data, and the reason is said."""

    verb: ClassVar[str] = "auto"

    budget: Literal["minutes", "small", "medium", "large"] = Field(
        default="small", description="How much is trained: " + "; ".join(f"{n}: {b.means}" for n, b in BUDGETS.items())
    )
    method: str | None = Field(
        default=None, description="Pretraining method, or a preset of one; None decides from the data."
    )
    labels: int | None = Field(
        default=None, ge=1, description="Patients whose labels fine-tuning uses; None uses all training patients."
    )
    draw: int = Field(default=0, ge=0, description="Which draw of that many patients.")
    modality: str = Field(
        default="", pattern=r"^[A-Z]{0,16}$", description="What all scans are (CT, MR), where files do not say it."
    )
    patient_pattern: str = Field(
        default="", description="Regular expression that finds the patient's key in a path; a group is the key."
    )
    unit: Literal["", "mm", "m"] = Field(
        default="", description="Unit of point clouds, where files do not say it (clouds alone)."
    )
    rotate: Literal["none", "z", "any"] | None = Field(
        default=None, description="How clouds are turned in training; None decides from their unit (clouds alone)."
    )
    targets: str = Field(
        default="", description="A CSV of classes (a diagnosis, a grade) by patient or scan, as of medssl index."
    )
    target: str = Field(
        default="", description="Which class is learned; '' takes label maps where there are any (scans alone)."
    )
    val: float = Field(default=0.1, ge=0, lt=1, description="Share of patients for validation.")
    test: float = Field(default=0.2, ge=0, lt=1, description="Share of patients for testing.")
    seed: int = Field(default=0, ge=0, description="Seed of the split and of all training.")
    spacing_mm: tuple[float, float, float] | Literal["keep", "median"] | None = Field(
        default=None, description="Voxel size of the store, (z, y, x) in mm; None decides from the scans."
    )
    accept: tuple[Accepted, ...] = Field(
        default=(), description="Faults that are stored all the same, as accept of medssl cache (scans alone)."
    )
    channels: str = Field(
        default="auto", description="Which scans are channels of one case, as channels of medssl index (scans alone)."
    )
    missing: Literal["leave-out", "fill"] = Field(
        default="leave-out", description="Cases that lack a channel, as missing of medssl cache (scans alone)."
    )
    window: Triple | None = Field(
        default=None, description="Window of training and inference in voxels, (z, y, x); None decides."
    )
    pretrain_steps: int | None = Field(default=None, ge=1, description="Steps of pretraining; None takes the budget's.")
    finetune_steps: int | None = Field(default=None, ge=1, description="Steps of fine-tuning; None takes the budget's.")
    workers: int = Field(default=0, ge=0, description="Processes that read and store scans; 0 decides.")
    export: tuple[str, ...] = Field(
        default=(),
        description="Forms that the fine-tuned network (without labels the encoder) is exported to at the end, as --to "
        f"of medssl export: {', '.join(EXPORTS)}.",
    )
    pretrain: dict[str, Any] = Field(
        default_factory=dict, description="More settings of pretrain, such as pretrain.train.lr=1e-3."
    )
    finetune: dict[str, Any] = Field(
        default_factory=dict, description="More settings of finetune, such as finetune.train.lr=1e-3."
    )

    @field_validator("export")
    @classmethod
    def _known(cls, forms: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [form for form in forms if form not in EXPORTS]
        if unknown:
            raise ValueError(f"There is no export to '{unknown[0]}'. {did_you_mean(unknown[0], EXPORTS)}")
        return forms
