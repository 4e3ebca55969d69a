"""Made-up patients: analytic torsos with organs, as CT and MR, and the folders that the demo and the tests read."""

from medssl.phantoms.anatomy import CLASSES, Phantom, phantom
from medssl.phantoms.cohort import Cohort, write_cohort
from medssl.phantoms.rogues import write_bad_folder

__all__ = ["CLASSES", "Cohort", "Phantom", "phantom", "write_bad_folder", "write_cohort"]
