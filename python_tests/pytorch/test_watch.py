"""`watch`: the number line of PyTorch modules. Planted faults are named, and a watched run keeps its bits."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install 'fp16engine[torch]'")
fet: Any = importlib.import_module("fp16engine.torch")
planted: Any = importlib.import_module("pytorch_planted")

OVERFLOW, STAGNATION, UNDERFLOW = "overflow", "lost updates", "underflow"


def train(model: Any, optimizer: Any, steps: int, factor: float = 1.0, scaler: Any = None) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        x = torch.randn(16, 8).half()
        optimizer.zero_grad()
        loss = model(x).float().square().mean() * factor
        if scaler is None:
            loss.backward()
            optimizer.step()
        else:
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()


def found(monitor: Any, problem: str) -> list[tuple[str, str]]:
    return [(finding.layer, finding.kind) for finding in monitor.findings if finding.problem == problem]


@pytest.mark.parametrize("shadow", [0, 1])
def test_a_watched_run_keeps_its_bits(shadow: int) -> None:
    """With batch norms, activations in place, sums outside of layers, and dropout that draws numbers."""

    def run(watched: bool) -> list[Any]:
        model = planted.conv_net()
        optimizer = fet.AdamW(model.parameters(), lr=0.01)
        monitor = fet.watch(model, every=1, shadow=shadow) if watched else None
        torch.manual_seed(1)
        for _ in range(3):
            x, y = torch.randn(4, 3, 8, 8).half(), torch.randint(5, (4,))
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x).float(), y).backward()
            optimizer.step()
        if monitor is not None:
            assert len(monitor.samples) == 3
            monitor.close()
        return [*(t.clone() for t in model.state_dict().values()), torch.rand(1)]

    for plain, watched in zip(run(False), run(True), strict=True):
        assert torch.equal(plain, watched)


def test_layers_that_must_not_run_twice_keep_their_bits() -> None:
    """Subclasses that draw random numbers, and layers called with tuples or by name, have no shadow."""

    def run(watched: bool) -> list[Any]:
        torch.manual_seed(0)
        model = planted.Recurrent(8).half()
        monitor = fet.watch(model, every=1, shadow=1) if watched else None
        train(model, fet.SGD(model.parameters(), lr=0.1), 2)
        if monitor is not None:
            assert len(monitor.samples) == 2
            assert [row.layer for row in monitor.samples[0].running] == ["norm"]
            monitor.close()
        return list(model.state_dict().values())

    assert all(map(torch.equal, run(False), run(True)))


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_forward_overflow_is_named(layer: int) -> None:
    model = planted.layers((layer, planted.Times(forward=1e6)))
    with fet.watch(model, every=1) as monitor:
        train(model, fet.SGD(model.parameters(), lr=1e-3), 1)
    assert found(monitor, OVERFLOW) == [(f"planted{layer}", "activations")]


@pytest.mark.parametrize("layer", [1, 2, 3])
def test_a_backward_overflow_is_named(layer: int) -> None:
    model = planted.layers((layer, planted.Times(backward=60000.0)))
    with fet.watch(model, every=1) as monitor:
        train(model, fet.SGD(model.parameters(), lr=1e-3), 1, factor=1e4)
    assert found(monitor, OVERFLOW) == [(f"planted{layer}", "activation gradients")]


def test_an_overflow_under_a_scale_is_the_scalers_business() -> None:
    model = planted.layers()
    for scaler in (
        fet.GradScaler(cap=2.0**24, init_scale=2.0**24),
        torch.amp.GradScaler("cpu", init_scale=2.0**24),
    ):
        with fet.watch(model, every=1) as monitor:
            train(model, fet.SGD(model.parameters(), lr=1e-3), 12, scaler=scaler)
        assert scaler.get_scale() < 2.0**24
        assert monitor.samples
        assert found(monitor, OVERFLOW) == []


@pytest.mark.parametrize("name", ["SGD", "torch.optim.SGD"])
def test_a_stall_is_named(name: str) -> None:
    """One layer's learning rate is too small for its weights; the others' are not."""
    model = planted.layers()
    groups = [
        {"params": module.parameters(), "lr": 1e-9 if path == "linear2" else 1.0}
        for path, module in model.named_children()
        if any(True for _ in module.parameters())
    ]
    ours = {"update": "nearest"} if name == "SGD" else {}
    optimizer = (fet.SGD if name == "SGD" else torch.optim.SGD)(groups, lr=1.0, **ours)
    with fet.watch(model, every=1) as monitor:
        train(model, optimizer, 4)
    assert found(monitor, STAGNATION) == [("linear2", "weights")]
    assert "update='stochastic'" in monitor.findings[0].text


def test_stochastic_updates_do_not_stall() -> None:
    model = planted.layers()
    with fet.watch(model, every=1) as monitor:
        train(model, fet.SGD(model.parameters(), lr=1e-9), 4)
    assert found(monitor, STAGNATION) == []


def two_optimizers(make: Any, model: Any, **options: Any) -> list[Any]:
    """One for the weights, one for the biases."""
    parameters = list(model.parameters())
    return [
        make([p for p in parameters if (p.ndim > 1) == wide], lr=1e-9, **options) for wide in (True, False)
    ]


def train_together(model: Any, optimizers: list[Any], steps: int) -> None:
    for step in range(steps):
        torch.manual_seed(step)
        model.zero_grad()
        model(torch.randn(16, 8).half()).float().square().mean().backward()
        for optimizer in optimizers:
            optimizer.step()


@pytest.mark.parametrize("first", ["weights", "biases"])
@pytest.mark.parametrize("every", [1, 2, 3])
@pytest.mark.parametrize("name", ["SGD", "torch.optim.SGD"])
def test_a_step_is_one_of_every_optimizer(name: str, every: int, first: str) -> None:
    model = planted.layers()
    make, ours = (fet.SGD, {"update": "nearest"}) if name == "SGD" else (torch.optim.SGD, {})
    optimizers = two_optimizers(make, model, **ours)
    with fet.watch(model, every=every) as monitor:
        train_together(model, optimizers if first == "weights" else optimizers[::-1], 2 * every + 1)
        assert monitor.step == 2 * every + 1
    assert [sample.step for sample in monitor.samples] == [0, every, 2 * every]
    linears = [path for path, module in model.named_children() if isinstance(module, torch.nn.Linear)]
    assert {layer for layer, _ in found(monitor, STAGNATION)} == set(linears)
    for sample in monitor.samples:
        assert [row.layer for row in sample.rows if row.kind == "gradients"] == [
            path for path, module in model.named_children() if any(True for _ in module.parameters())
        ]
        for path in linears:
            assert sample.row(path, "activations") is not None
            (update,) = (row for row in sample.updates if row.layer == path)
            module = model.get_submodule(path)
            assert sample.row(path, "weights").ranges.values == sum(p.numel() for p in module.parameters())
            gradients = sample.row(path, "gradients").ranges
            assert update.nonzero == update.lost == gradients.values - gradients.zeros > 0


def test_each_optimizer_is_judged_by_itself() -> None:
    """One that rounds at random loses nothing in the mean; one of a small rate is at no end of a schedule."""
    for fast, slow, lost in (("stochastic", "nearest", ["linear2"]), ("nearest", "stochastic", [])):
        model = planted.layers()
        own = list(model.linear2.parameters())
        others = [p for p in model.parameters() if all(p is not q for q in own)]
        optimizers = [fet.SGD(others, lr=1.0, update=fast), fet.SGD(own, lr=1e-9, update=slow)]
        with fet.watch(model, every=1) as monitor:
            train_together(model, optimizers, 4)
        assert found(monitor, STAGNATION) == [(layer, "weights") for layer in lost]


@pytest.mark.parametrize("every", [1, 2])
def test_optimizers_that_take_turns_are_all_looked_at(every: int) -> None:
    model = planted.layers()
    optimizers = two_optimizers(torch.optim.SGD, model)
    with fet.watch(model, every=every) as monitor:
        for step in range(12):
            model.requires_grad_(False)
            for p in optimizers[step % 2].param_groups[0]["params"]:
                p.requires_grad_()
            train_together(model, [optimizers[step % 2]], 1)
    assert {"linear1", "linear2", "linear3"} <= {layer for layer, _ in found(monitor, STAGNATION)}


def test_parameters_that_no_optimizer_has_delay_no_step() -> None:
    model = planted.layers()
    optimizers = two_optimizers(torch.optim.SGD, model)
    for used in (optimizers[:1], optimizers[1:]):
        with fet.watch(model, every=1) as monitor:
            train_together(model, used, 3)
        assert [sample.step for sample in monitor.samples] == [0, 1, 2]
        values = [sample.row("linear2", "activations").ranges.values for sample in monitor.samples]
        assert values[0] == values[1] == values[2]
        assert monitor.samples[0].row("linear2", "weights").ranges.values == sum(
            p.numel() for p in model.linear2.parameters()
        )


def test_an_optimizer_that_steps_no_more_is_waited_for_once() -> None:
    model = planted.layers()
    optimizers = two_optimizers(torch.optim.SGD, model)
    with fet.watch(model, every=1) as monitor:
        train_together(model, optimizers, 2)
        train_together(model, optimizers[:1], 5)
        assert monitor.step >= 6
        train_together(model, optimizers, 2)
    assert monitor.samples[-1].updates


def test_underflowing_gradients_are_named() -> None:
    """linear2's weights are so small that what it passes back is 0; its own gradients are not."""
    model = planted.layers()
    with torch.no_grad():
        model.linear2.weight.mul_(2.0**-14)
    with fet.watch(model, every=1, shadow=1) as monitor:
        train(model, fet.AdamW(model.parameters(), lr=1e-9), 4, factor=1e-2)
    assert found(monitor, UNDERFLOW) == [("linear2", "activation gradients")]


def test_the_counts_are_right() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3, bias=False), torch.nn.Identity()).half()
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))
    x = torch.tensor([[1.0, 4.0]]).half().requires_grad_()
    optimizer = fet.SGD(model.parameters(), lr=2.0**-12, update="nearest")
    with fet.watch(model, every=1) as monitor:
        model(x).sum().backward()
        optimizer.step()
    sample = monitor.samples[0]
    row = sample.row("0", "activations")
    assert (row.ranges.values, row.ranges.zeros, row.ranges.exponent_range) == (3, 1, (0, 3))
    assert sample.row("1", "activation gradients").ranges.exponent_range == (0, 0)  # of its input, 0's output
    assert sample.row("0", "activation gradients").ranges.exponent_range == (0, 1)
    assert sample.row("0", "gradients").ranges.values == 6
    (update,) = sample.updates
    # changes of 2^-12 and 2^-10: half a gap below 1, which rounds to even; a whole one below 2
    assert (update.nonzero, update.lost) == (6, 1)


def test_what_is_outside_of_layers_is_the_modules_around_it() -> None:
    model = planted.conv_net()
    with fet.watch(model, every=1) as monitor:
        model(torch.ones(2, 3, 8, 8).half()).float().sum().backward()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    sample = monitor.samples[0]
    assert sample.row("1", "activations") is not None  # the sum and its relu
    assert sample.row("1.act", "activations") is not None
    assert sample.row("(model)", "activations") is None  # the last layer's output, counted there
    assert sample.row("loss", "activation gradients") is not None
    assert {row.layer for row in sample.running} == {"1.norm", "3.norm"}


def test_there_is_no_hook_between_samples_and_after_the_end() -> None:
    model = planted.layers()
    optimizer = fet.SGD(model.parameters(), lr=1e-3)

    def hooks() -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())

    seen: list[Any] = []
    with fet.watch(model, every=3, on_sample=seen.append) as monitor:
        counts = []
        for _ in range(4):
            counts.append(hooks() > 0)
            train(model, optimizer, 1)
        assert counts == [True, False, False, True]
    assert hooks() == 0
    train(model, optimizer, 3)
    assert [s.step for s in monitor.samples] == [s.step for s in seen] == [0, 3]


def test_other_models_and_evaluation_are_not_looked_at() -> None:
    model, other = planted.layers(), planted.layers()
    with fet.watch(model, every=1) as monitor:
        train(other, fet.SGD(other.parameters(), lr=1e-3), 2)
        with torch.no_grad():
            model(torch.full((1, 8), torch.inf).half())
        train(model, fet.SGD(model.parameters(), lr=1e-3), 1)
    assert len(monitor.samples) == 1
    assert monitor.findings == []


def test_table_and_report(tmp_path: Path) -> None:
    model = planted.layers((2, planted.Times(forward=1e6)))
    with fet.watch(model, every=1) as monitor:
        assert monitor.table() == "no step was looked at yet"
        train(model, fet.SGD(model.parameters(), lr=1e-3), 2)
    table = monitor.table()
    assert "planted2" in table
    assert "leave binary16" in table
    path = monitor.report(tmp_path / "seen")
    rows = [json.loads(line) for line in (tmp_path / "seen" / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 1]
    if path.name == "report.html":  # with the extra `report`
        page = path.read_text()
        assert "planted2: activations leave binary16" in page
        assert "fp16engine.torch.watch" in page


def test_what_is_refused() -> None:
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got 'model'"):
        fet.watch("model")
    with pytest.raises(ValueError, match=r"every must .* got 0"):
        fet.watch(planted.layers(), every=0)
    with pytest.raises(ValueError, match=r"shadow must .* got -1"):
        fet.watch(planted.layers(), shadow=-1)
    compiled = torch.nn.Sequential()
    compiled.add_module("_orig_mod", planted.layers())  # what torch.compile makes has this, and takes seconds
    with pytest.raises(TypeError, match=r"model must be eager"):
        fet.watch(compiled)
