import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from medssl.engine.schedules import constant, cosine, learning_rates, poly, sawtooth
from medssl.engine.train_settings import TrainSettings
from medssl.errors import ConfigError
from medssl.settings import resolve


def test_cosine_follows_its_formula():
    values = cosine(100, peak=2.0, warmup=20, final=0.5)
    for step in (20, 37, 60, 99):
        done = (step - 20) / 80
        assert values[step] == pytest.approx(0.5 + 1.5 * 0.5 * (1 + math.cos(math.pi * done)))
    assert values[:20] == pytest.approx(np.arange(1, 21) / 21 * 2.0)


def test_poly_follows_its_formula():
    assert poly(10, peak=1e-2)[5] == pytest.approx(1e-2 * 0.5**0.9)


@given(
    steps=st.integers(1, 300),
    warmup=st.integers(0, 400),
    peak=st.floats(1e-6, 10),
    share=st.floats(0, 1),
    kind=st.sampled_from(["cosine", "poly", "constant"]),
)
def test_every_step_has_a_rate_that_rises_then_never_rises_again(steps, warmup, peak, share, kind):
    values = {
        "cosine": lambda: cosine(steps, peak=peak, warmup=warmup, final=share * peak),
        "poly": lambda: poly(steps, peak=peak, warmup=warmup, final=share * peak),
        "constant": lambda: constant(steps, peak=peak, warmup=warmup),
    }[kind]()
    assert values.shape == (steps,)
    assert (values > 0).all()
    assert (values <= peak * (1 + 1e-12)).all()
    top = min(warmup, steps)
    assert (np.diff(values[:top]) > 0).all()
    assert (np.diff(values[top:]) <= 1e-12 * peak).all()
    if top < steps:
        assert values[top] == pytest.approx(peak)


def test_sawtooth_trains_the_rest_alone_then_everything():
    rates = sawtooth(100, peak=1.0, stage=10)
    assert (rates.encoder[:20] == 0).all()
    assert (rates.rest[10:20] == 1.0).all()
    assert rates.rest[0] == pytest.approx(1 / 11)
    assert (rates.encoder[20:] == rates.rest[20:]).all()
    assert rates.rest[20] == pytest.approx(1 / 21)  # the second warm-up starts low again
    assert rates.rest[40] == pytest.approx(1.0)
    assert rates.rest[99] < 0.05


def test_the_encoder_may_learn_more_slowly():
    rates = learning_rates(TrainSettings(steps=50, lr=1e-3, encoder_lr_scale=0.1))
    assert rates.encoder == pytest.approx(rates.rest * 0.1)


def test_a_sawtooth_that_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match="four stages"):
        resolve(TrainSettings, overrides=["schedule=sawtooth", "warmup=0.3"])
