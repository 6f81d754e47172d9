"""How a new weight is stored: to nearest, stochastically, compensated; and counts of what that lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bounds
import numpy as np
import pytest

import fp16engine as fe
from fp16engine.backend.reference.stochastic import random_bits, round_stochastic
from fp16engine.floats import numpy_dtype
from fp16engine.optim import COUNTS, SGD, Adam, AdamW, Optimizer, RMSprop, StepScalars
from fp16engine.precision import UPDATES


def weights(values: object, device: str, dtype: str = "float16", grad: float = 1.0) -> fe.Tensor:
    p = fe.tensor(values, dtype, device, requires_grad=True)
    p.grad = fe.tensor(np.full(p.shape, grad), dtype, device)
    return p


def test_a_thousand_updates_of_one_ten_thousandth(backend_name: str) -> None:
    """The demonstration of docs/optimizers.md, on 64 weights."""

    def final(update: str, dtype: str = "float16") -> np.ndarray:
        p = weights(np.ones(64), backend_name, dtype)
        optimizer = SGD([p], lr=1e-4, update=update)
        for _ in range(1000):
            optimizer.step()
        assert p.dtype == dtype
        return p.numpy().astype(np.float64)

    assert np.all(final("nearest") == 1.0)
    assert np.all(np.round(final("nearest", "float32"), 4) == 0.9)
    assert np.all(final("master32") == np.float16(0.9))
    assert np.all(np.abs(final("kahan") - 0.9) <= bounds.ulp(np.array(0.9), "float16"))
    # each step goes down by 2^-11 with probability `share`
    share = 1e-4 * 2**11
    deviation = np.sqrt(1000 * share * (1 - share)) / 2**11
    assert round(deviation, 3) == 0.006
    values = final("stochastic")
    assert abs(values.mean() - 0.9) <= 4 * deviation / np.sqrt(64) <= 0.006
    assert deviation / 2 <= values.std() <= 2 * deviation


@pytest.mark.parametrize("name", bounds.SIXTEEN_BIT)
def test_all_values_stay_and_others_go_to_a_neighbour(name: str) -> None:
    dtype, every = numpy_dtype(name), bounds.every_finite(name).astype(np.float32)

    def drawn(x: np.ndarray, bits: int) -> np.ndarray:
        return round_stochastic(x, bits, dtype)

    for bits in (0, 0xFFFF):
        np.testing.assert_array_equal(drawn(every, bits), every)
        np.testing.assert_array_equal(drawn(-every, bits), -every)
    low, high = every[:-1], every[1:]
    quarter = (low.astype(np.float64) * 0.75 + high.astype(np.float64) * 0.25).astype(np.float32)
    threshold = 2**14  # floor(f * 2^16)
    np.testing.assert_array_equal(drawn(quarter, 2**16 - 1 - threshold), low)
    np.testing.assert_array_equal(drawn(quarter, 2**16 - threshold), high)
    np.testing.assert_array_equal(drawn(-quarter, 2**16 - threshold), -high)


@pytest.mark.parametrize("name", bounds.SIXTEEN_BIT)
def test_ends_of_the_range(name: str) -> None:
    largest = np.float32(bounds.MAX[name])
    beyond = np.float32(bounds.MAX[name] + bounds.ulp(np.asarray(bounds.MAX[name]), name) / 2)
    below = np.nextafter(beyond, np.float32(0))
    tiny = 2.0**-41 if name == "float16" else 0.0
    x = np.array([largest, below, beyond, np.inf, -np.inf, np.nan, 0.0, -0.0, tiny], np.float32)
    for bits in (0, 0xFFFF):
        with np.errstate(over="ignore"):
            got = round_stochastic(x, bits, numpy_dtype(name))
        bounds.same_bits(
            got, np.array([largest, largest, np.inf, np.inf, -np.inf, np.nan, 0, -0.0, 0], np.float32)
        )


def test_bits_are_philox_half_words() -> None:
    """Salmon et al.'s known answer for the counter and key whose bits are all set."""
    words = [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]
    ones = 2**32 - 1
    from fp16engine.backend.reference.random import philox

    assert philox(np.full((1, 4), ones), (ones, ones)).tolist() == [words]
    group = philox(np.array([[1, 5, 2, 9]], np.uint64), (3, 4))[0].astype(np.int64)
    own, other = random_bits(3 | 4 << 32, 5, 2, 9, 15)
    halves = np.stack([group & 0xFFFF, group >> 16], -1).reshape(-1)
    np.testing.assert_array_equal(own[8:], halves[:7])
    np.testing.assert_array_equal(other[8:], halves[[4, 5, 6, 7, 0, 1, 2]])


def test_random_bits_depend_on_seed_step_parameter_and_place(backend_name: str) -> None:
    """Nothing else: not on what else is updated in the same step, nor on how the kernel cuts the tensor."""
    size = 1000

    def stepped(seed: int, step: int, position: int, others: int) -> np.ndarray:
        params = [weights(np.ones(7), backend_name) for _ in range(others)]
        params.insert(position, weights(np.ones(size), backend_name))
        optimizer = SGD(params, lr=2e-4, update="stochastic", seed=seed)
        optimizer.step_count = step
        if others > 1:
            params[-1].grad = None
        optimizer.step()
        return params[position].numpy()

    first = stepped(1, 4, 0, 0)
    assert 0 < np.count_nonzero(first == 1) < size
    bounds.same_bits(stepped(1, 4, 0, 3), first)
    for other in (stepped(2, 4, 0, 0), stepped(1, 5, 0, 0), stepped(1, 4, 1, 2)):
        assert np.any(other != first)
    bounds.same_bits(stepped(1, 4, 1, 3), stepped(1, 4, 1, 2))


def test_long_tensors_are_cut_where_random_bits_are(cpu: Any) -> None:
    """Slices of one task begin inside tensors; the bits are the reference's all the same."""
    sizes = (5, 20_000, 16_379, 40_001)

    def stepped(device: str) -> list[np.ndarray]:
        params = [weights(np.full(n, 0.7), device) for n in sizes]
        Adam(params, lr=1e-4, update="stochastic").step()
        return [p.numpy() for p in params]

    for got, expected in zip(stepped("cpu"), stepped("reference"), strict=True):
        bounds.same_bits(got, expected)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
def test_every_instruction_set_gives_the_same_bits(cpu: Any, isa: str) -> None:
    def stepped() -> list[np.ndarray]:
        rng = np.random.default_rng(3)
        results = []
        for make, update in ((SGD, "kahan"), (Adam, "stochastic"), (RMSprop, "stochastic")):
            p = weights(rng.normal(size=777), "cpu")
            optimizer = make([p], lr=0.01, update=update)
            for _ in range(3):
                p.grad = fe.tensor(rng.normal(size=777) * 2.0 ** rng.uniform(-20, 3, 777), "float16", "cpu")
                optimizer.step(count=True)
            results += [p.numpy(), optimizer.counts, *optimizer.state_arrays().values()]
        return [np.array(r) for r in results]

    first = stepped()
    before = cpu.native.isa()
    try:
        cpu.native.select_isa(isa)
    except ValueError:
        pytest.skip(f"this machine has no {isa}")
    try:
        for got, expected in zip(stepped(), first, strict=True):
            bounds.same_bits(got, expected)
    finally:
        cpu.native.select_isa(before)


def test_kahan_keeps_what_rounding_takes(backend_name: str) -> None:
    """w + c follows the FP32 weight to twice binary16's digits while w alone is a step of 2^-11 coarse."""
    rng = np.random.default_rng(0)
    start = rng.uniform(0.5, 1, 50).astype(np.float16)
    p = weights(start, backend_name)
    optimizer = SGD([p], lr=1e-3, update="kahan")
    exact = start.astype(np.float64)
    for _ in range(200):
        g = rng.normal(size=50).astype(np.float16)
        p.grad = fe.tensor(g, "float16", backend_name)
        optimizer.step()
        exact -= float(np.float32(1e-3)) * g.astype(np.float64)
    pair = p.numpy().astype(np.float64) + optimizer.state_dict()["compensation.0"]
    # each step rounds a compensation of at most half an ulp of w
    assert np.all(np.abs(pair - exact) <= 200 * bounds.ulp(bounds.ulp(start, "float16"), "float16"))


@pytest.mark.parametrize("update", UPDATES)
def test_float32_weights_round_in_no_other_way(backend_name: str, update: str) -> None:
    def final(update: str) -> np.ndarray:
        p = weights([1.0, 0.3], backend_name, "float32", grad=0.1)
        optimizer = SGD([p], lr=0.1, momentum=0.9, update=update)
        for _ in range(5):
            optimizer.step()
        return p.numpy()

    if update == "kahan":
        np.testing.assert_allclose(final(update), final("nearest"), rtol=5 * bounds.EPS["float32"])
    else:
        bounds.same_bits(final(update), final("nearest"))


@pytest.mark.parametrize("update", UPDATES)
@pytest.mark.parametrize(
    "make",
    [
        lambda params, **o: SGD(params, lr=1e-4, momentum=0.9, weight_decay=1e-3, **o),
        lambda params, **o: AdamW(params, lr=1e-4, weight_decay=1e-3, **o),
        lambda params, **o: RMSprop(params, lr=1e-4, momentum=0.9, **o),
    ],
    ids=["sgd", "adamw", "rmsprop"],
)
def test_counting_changes_nothing(backend_name: str, make: Callable[..., Optimizer], update: str) -> None:
    def run(count: bool) -> dict[str, Any]:
        params = [weights(np.linspace(-2, 2, 33), backend_name), weights([0.0], backend_name)]
        optimizer = make(params, update=update)
        for _ in range(2):
            optimizer.step(count=count)
        assert (optimizer.counts is not None) == count
        return {**optimizer.state_dict(), "p": params[0].numpy(), "q": params[1].numpy()}

    plain, counted = run(False), run(True)
    for key, value in plain.items():
        if isinstance(value, np.ndarray):
            bounds.same_bits(counted[key], value)


def test_what_is_counted(backend_name: str) -> None:
    """On weights of 1, 1e-4 is lost to nearest, 1e-3 is not; a zero gradient has nothing to lose."""
    grads = np.array([0.0] * 3 + [0.1] * 5 + [1.0] * 7, np.float16)

    def counts(update: str, **options: Any) -> dict[str, int]:
        idle, p = weights(np.ones(4), backend_name), weights(np.ones(15), backend_name)
        idle.grad = None
        p.grad = fe.tensor(grads, "float16", backend_name)
        optimizer = SGD([idle, p], lr=1e-3, update=update, **options)
        optimizer.step(count=True)
        assert optimizer.counts is not None and optimizer.counts.dtype == np.int64
        assert optimizer.counts.shape == (2, len(COUNTS)) and not optimizer.counts[0].any()
        optimizer.step()
        assert optimizer.counts is None
        optimizer.step(count=True)
        return dict(zip(COUNTS, optimizer.counts[1].tolist(), strict=True))

    nothing = dict.fromkeys(COUNTS, 0)
    assert counts("nearest") == {**nothing, "updates": 12, "updates_lost": 5}
    for update in ("stochastic", "kahan", "master32"):
        assert counts(update) == {**nothing, "updates": 12}
    decayed = counts("nearest", weight_decay=5e-4)
    assert (decayed["updates"], decayed["decays"], decayed["decays_lost"]) == (15, 15, 15)
    assert counts("kahan", weight_decay=5e-4)["decays_lost"] == 0
    # the third gradient of 0.1 or 1 still moves the average
    assert counts("nearest", momentum=0.5)["first"] == 12


def test_the_plain_second_moment_does_not_move(backend_name: str) -> None:
    """beta2 = 0.999 from v = 1 towards g^2 = 1.4: a thousandth of the way is below half an ulp."""

    def second(state: str) -> tuple[int, int]:
        p = weights(np.ones(40), backend_name, grad=1.4**0.5)
        optimizer = Adam([p], state=state)
        one = optimizer.state_dict()
        one["v.0"] = np.ones(40, np.float16)
        optimizer.load_state_dict(one)
        optimizer.step(count=True)
        assert optimizer.counts is not None
        row = dict(zip(COUNTS, optimizer.counts[0].tolist(), strict=True))
        return row["second"], row["second_lost"]

    assert second("plain") == (40, 40)
    assert second("native") == (40, 0)


def test_scalars_may_lie_in_memory(backend: Any, backend_name: str) -> None:
    """As in a captured step; one that is not applied changes nothing."""

    def run(scalars: Any) -> np.ndarray:
        p = weights(np.linspace(0.5, 1, 30), backend_name)
        Adam([p], update="stochastic").launch(scalars)
        return p.numpy()

    scalars = StepScalars(1e-2, 0.5, 0.1, 0.001, seed=2**63 + 5, step=1)
    memory = backend.from_numpy(np.frombuffer(scalars.pack(), np.uint8))
    bounds.same_bits(run(memory), run(scalars))
    assert StepScalars.unpack(scalars.pack())[4:] == scalars[4:]
    skipped = scalars._replace(applied=False)
    for given in (skipped, backend.from_numpy(np.frombuffer(skipped.pack(), np.uint8))):
        bounds.same_bits(run(given), np.linspace(0.5, 1, 30).astype(np.float16))


def test_the_other_form_of_state_is_refused() -> None:
    p = weights([1.0], "reference")
    with pytest.raises(ValueError, match=r"load_state_dict: 'state_form' must .* got 'plain'"):
        Adam([p]).load_state_dict(Adam([p], state="plain").state_dict())
    with pytest.raises(ValueError, match=r"load_state_dict: the state must hold 'compensation.0'"):
        SGD([p], 0.1, update="kahan").load_state_dict(SGD([p], 0.1).state_dict())
