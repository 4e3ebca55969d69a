import matplotlib.image
import numpy as np
import torch

from medssl.engine.pictures import draw_progress, draw_views


def test_views_show_the_middle_slice(tmp_path):
    stack = torch.zeros(2, 1, 5, 16, 16)
    stack[:, :, 2] = 1.0  # the middle alone is white
    draw_views({"white": stack, "black": torch.zeros(2, 1, 5, 16, 16)}, tmp_path / "views.png")
    grey = matplotlib.image.imread(tmp_path / "views.png")[..., :3].mean(-1)
    half = grey.shape[0] // 2
    assert (grey[half + half // 4 : -half // 4] < 0.1).mean() > 0.5
    assert (grey[:half] < 0.1).mean() < 0.05
    assert [path.name for path in tmp_path.iterdir()] == ["views.png"]


def test_nothing_to_show_draws_nothing(tmp_path):
    draw_views({}, tmp_path / "views.png")
    draw_progress([], tmp_path / "progress.png")
    assert not list(tmp_path.iterdir())


def test_progress_grows_by_a_panel_for_what_was_measured(tmp_path):
    rows = [{"step": s, "loss": 1 / s, "part/a": 1 / s, "lr": 0.1, "data_wait": 0.1} for s in (1, 2, 3)]
    draw_progress(rows, tmp_path / "few.png")
    rows[2] |= {"held_out/spread": 0.4, "signal/spread": 0.3, "grad_norm": None}
    draw_progress(rows, tmp_path / "more.png")
    few, more = (matplotlib.image.imread(tmp_path / name) for name in ("few.png", "more.png"))
    assert more.shape[0] > few.shape[0]
    assert np.ptp(few) > 0.5
