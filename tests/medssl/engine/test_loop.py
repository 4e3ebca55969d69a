import json

import pytest
import torch
from lightning_fabric import Fabric

from medssl.encoders.table import build_encoder
from medssl.engine.checkpoint import checkpoints_of, load_checkpoint
from medssl.engine.guards import NonFiniteLossError
from medssl.engine.loop import _on_device, fit
from medssl.engine.precision import wrong_bf16_convolutions
from medssl.engine.run import Run, read_metrics
from pointcloud.encoders.table import CLOUD_ENCODERS


@pytest.fixture
def train(tiny, tmp_path):
    """Return a function that trains the tiny method, and returns (method, run, what was reported)."""

    def go(*overrides, name="run", method=None, loader=None, **rest):
        resolved = tiny.settings(*overrides)
        told, reports = [], []
        run = Run.create(tmp_path / name, settings=resolved, say=told.append)
        method = method or tiny.TinyMethod()
        fit(method, loader or tiny.TinyLoader(), resolved.settings, run=run, on_report=reports.append, **rest)
        return method, run, reports, told

    return go


def weights(method):
    return {name: value.clone() for name, value in method.state_dict().items()}


def identical(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_it_learns_and_leaves_a_whole_folder(tiny, train, real_pictures):
    before = weights(tiny.TinyMethod())
    method, run, reports, _ = train("steps=40", "log_every=10", held_out=[tiny.TinyLoader().batch(1000)])
    after = weights(method)
    assert all(not torch.equal(before[n], after[n]) for n in before)  # the teacher and the counter too
    assert int(method.seen) == 40
    first, *rows = read_metrics(run.folder)
    assert first["step"] == 0
    assert rows[-1]["loss"] < 0.5 * rows[0]["loss"]
    assert rows[-1]["held_out/rebuilt"] < 0.5 * next(r for r in rows if "held_out/rebuilt" in r)["held_out/rebuilt"]
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["part/rebuilt"] + 0.1 * rows[-1]["part/agreed"], rel=1e-5)
    assert {"signal/spread", "grad_norm", "lr", "data_wait", "seconds_per_step"} <= rows[-1].keys()
    assert reports[-1].step == reports[-1].steps == 40
    for name in ("run.yaml", "environment.json", "log.txt", "views.png", "progress.png"):
        assert (run.folder / name).stat().st_size > 0
    assert [path.name for path in checkpoints_of(run.checkpoints)] == ["step-0000040", "step-0000036"]
    assert identical(load_checkpoint(checkpoints_of(run.checkpoints)[0]).model, after)


def test_the_same_seed_gives_the_same_run_and_another_does_not(train):
    first, *_ = train(name="a")
    again, *_ = train(name="b")
    other, *_ = train("seed=1", name="c")
    assert identical(weights(first), weights(again))
    assert not identical(weights(first), weights(other))


def test_nothing_that_only_looks_changes_the_run(tiny, train):
    plain, *_ = train(name="a")
    held_out = [tiny.TinyLoader().batch(1000), tiny.TinyLoader().batch(1001)]
    looked, *_ = train("log_every=1", "probe_every=2", "checkpoint_every=1", name="b", held_out=held_out)
    assert identical(weights(plain), weights(looked))


def test_probes_see_the_same_views_in_evaluation_mode(tiny, train):
    modes = []

    class Watched(tiny.TinyMethod):
        def probe(self, views):
            modes.append((self.training, self.dropout.training, self.teacher.training, float(views["noised"].sum())))
            return super().probe(views)

    method = Watched()
    train(method=method, held_out=[tiny.TinyLoader().batch(1000)])
    assert len(modes) == 4  # steps 0, 4, 8, 12
    assert len(set(modes)) == 1
    assert modes[0][:3] == (False, False, False)
    assert method.dropout.training
    assert not method.teacher.training


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tiny, train):
    whole, *_ = train(name="a", method=tiny.TinyMethod(dropout=0.0))
    parts, *_ = train("accumulate=2", name="b", method=tiny.TinyMethod(dropout=0.0))
    for name, value in weights(whole).items():
        assert torch.allclose(value.float(), weights(parts)[name].float(), atol=1e-5), name


def test_clipping_bounds_the_step(tiny, train):
    before = weights(tiny.TinyMethod())
    change = {}
    for clip in ("1e-3", "null"):
        method, *_ = train("steps=1", "optimiser=sgd", "momentum=0", "lr=1", "warmup=0", "weight_decay=0",
                           f"clip={clip}", name=clip)  # fmt: skip
        trained = [n for n, p in method.named_parameters() if p.requires_grad]
        change[clip] = sum(float((weights(method)[n] - before[n]).square().sum()) for n in trained) ** 0.5
    assert change["1e-3"] == pytest.approx(1e-3, rel=1e-3)
    assert change["null"] > 1e-2


@pytest.mark.parametrize("bad_step", [0, 5, 7])
def test_a_loss_that_is_not_a_number_names_the_step_and_the_scans(tiny, train, tmp_path, bad_step):
    method = tiny.TinyMethod()
    method.poison_at = bad_step
    with pytest.raises(NonFiniteLossError) as error:
        train("log_every=4", "checkpoint_every=4", method=method, scans=[f"scan-{i}" for i in range(9)])
    assert error.value.step == bad_step
    message = str(error.value)
    rows = [bad_step + slot for slot in range(4)]
    assert all((f"scan-{row}" if row < 9 else f"row {row}") in message for row in rows)
    assert "train.lr" in message
    saved = torch.load(tmp_path / "run" / f"bad-step-{bad_step:07d}-rank0.pt", weights_only=True)
    assert torch.equal(saved["values"], tiny.TinyLoader().batch(bad_step).values)
    for path in checkpoints_of(tmp_path / "run" / "checkpoints"):  # none holds the poison
        assert load_checkpoint(path).step <= bad_step
        assert all(torch.isfinite(t).all() for t in load_checkpoint(path).model.values() if t.is_floating_point())


def test_a_slow_loader_and_a_collapse_are_said_aloud(tiny, train):
    *_, told = train(
        "steps=20", "log_every=2", "collapse_spread=1000", "warmup=0", loader=tiny.TinyLoader(pause_s=0.05)
    )
    assert sum("waiting for data" in text for text in told) == 1
    assert sum("collapsing" in text for text in told) == 1


def test_channels_last_changes_the_layout_and_not_the_result(tiny, train):
    plain, *_ = train("channels_last=false", name="a")
    turned, run, *_ = train("channels_last=true", name="b")
    assert turned.encoder[2].weight.is_contiguous(memory_format=torch.channels_last_3d)
    assert not plain.encoder[2].weight.is_contiguous(memory_format=torch.channels_last_3d)
    for name, value in weights(plain).items():
        assert torch.allclose(value.float(), weights(turned)[name].float(), atol=1e-4), name
    assert load_checkpoint(checkpoints_of(run.checkpoints)[0]).step == 12


@pytest.mark.skipif(bool(wrong_bf16_convolutions()), reason="this processor's bf16 convolutions are wrong")
def test_bfloat16_keeps_float32_weights(train):
    method, run, *_ = train("precision=bf16-mixed")
    assert all(p.dtype == torch.float32 for p in method.parameters())
    rows = read_metrics(run.folder)
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_the_loop_reads_nothing_back_between_reports(tiny, train, monkeypatch):
    reads = []
    for name in ("item", "__bool__", "__float__", "cpu"):
        real = getattr(torch.Tensor, name)

        def noted(self, *args, _real=real, _name=name, **kwargs):
            reads.append(_name)
            return _real(self, *args, **kwargs)

        monkeypatch.setattr(torch.Tensor, name, noted)

    class Quiet(tiny.TinyLoader):
        def batch(self, step):
            made = super().batch(step)
            reads.clear() if step == 3 else None
            counts.append(len(reads))
            return made

    counts = []
    train("steps=8", "log_every=8", "checkpoint_every=8", "probe_every=8", "optimiser=sgd", loader=Quiet())
    assert counts[3:] == [0] * 5


def test_metrics_are_json(train):
    _, run, *_ = train()
    for line in (run.folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize("kind", ["volumes", "clouds"])
def test_encoders_of_both_kinds_are_compiled_when_asked(kind, tiny):
    method = tiny.TinyMethod()
    if kind == "volumes":
        method.encoder = build_encoder({"name": "unet", "channels": [4, 6], "blocks": 1})
    else:
        method.encoder = CLOUD_ENCODERS.build({"name": "pointnet", "widths": [4, 8], "transforms": False})
    fabric = Fabric(accelerator="cpu", devices=1)
    for compiled in (False, True):
        settings = tiny.settings(f"compile={compiled}", "channels_last=false").settings
        assert (_on_device(method, settings, fabric).encoder._compiled_call_impl is not None) == compiled
