"""Synthetic patients: torsos as CT and MR, heads in four sequences, and the folders that demo and tests read."""

from medssl.phantoms.anatomy import CLASSES, Phantom, phantom
from medssl.phantoms.brains import BRAIN_CLASSES, SEQUENCES, Brain, brain, write_brains
from medssl.phantoms.broken_files import write_bad_folder
from medssl.phantoms.cohort import Cohort, write_cohort

__all__ = [
    "BRAIN_CLASSES",
    "CLASSES",
    "SEQUENCES",
    "Brain",
    "Cohort",
    "Phantom",
    "brain",
    "phantom",
    "write_bad_folder",
    "write_brains",
    "write_cohort",
]
