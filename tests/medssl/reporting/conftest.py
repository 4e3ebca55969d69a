"""What several sections of a report are tested with."""

from __future__ import annotations

import pytest


@pytest.fixture
def found():
    """Return the format, scores and a comparison as `evaluate` writes them: of "mine" against another arm."""

    def made(metric, score, gain, *, baseline, unit="cloud", patients=7, how="", p_holm=0.04):
        def interval(estimate, low, high, note=""):
            return {"estimate": estimate, "low": low, "high": high, "level": 0.95, "runs": 1, "draws": 1,
                    "patients": patients, "error": 0.01, "freedom": 6.0, "note": note}  # fmt: skip

        scores = [
            {"arm": arm, "how": how, "labels": None, "target": "", "metric": metric, "interval": own,
             "run_means": [own["estimate"]], "draw_means": [own["estimate"]]}
            for arm, own in (("mine", interval(*score)), (baseline, interval(0.5, None, None, "too few")))
        ]  # fmt: skip
        row = {
            "arm": "mine", "baseline": baseline, "how": how, "labels": None, "target": "", "metric": metric,
            "change": "", "unit": unit, "difference": interval(*gain), "baseline_runs": 1, "run_means": [gain[0]],
            "draw_means": [gain[0]], "above": 6, "below": 1, "ahead": 1, "left_out": 0, "p": 0.02, "p_holm": p_holm,
            "questions": 2, "verdict": "better", "reason": "an improvement",
        }  # fmt: skip
        return {"format": 2, "unit": unit, "scores": scores, "comparisons": [row]}

    return made
