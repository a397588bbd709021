"""Files, saved, refused when damaged, never half-written; runs that go on where they ended."""

import copy
import functools
import itertools
import math
import multiprocessing
import os
import pickle
import resource
import subprocess
import sys
import textwrap
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor

import minifw
from minifw import EarlyStopping, data, nn
from minifw.checkpoint import _checksum
from minifw.run import Callback, Run
from reference.frameworks import FRAMEWORKS, Framework


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def network(nn: Any = nn) -> Any:
    model = nn.Sequential(nn.Linear(2, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 1))
    for parameter in model.parameters():
        parameter.data.normal_(generator=seeded(parameter.numel()))
    return model


def assert_same(expected: Any, actual: Any) -> None:
    """Equal in structure, types and bits, but for tuples, which come back as lists."""
    if isinstance(expected, Tensor):
        assert (expected.dtype, expected.shape) == (actual.dtype, actual.shape)
        assert expected.contiguous().flatten().view(torch.uint8).tolist() == (
            actual.flatten().view(torch.uint8).tolist()
        )
    elif isinstance(expected, dict):
        assert list(expected) == list(actual)
        for key, value in expected.items():
            assert_same(value, actual[key])
    elif isinstance(expected, list | tuple):
        assert isinstance(actual, list)
        for there, here in zip(expected, actual, strict=True):
            assert_same(there, here)
    else:
        assert type(expected) is type(actual)
        assert expected == actual or (math.isnan(expected) and math.isnan(actual))


# Files.

SHARED = torch.arange(6.0)
STATES: dict[str, Any] = {
    "weights": {"0.weight": torch.randn(3, 2, generator=seeded(0)), "0.bias": torch.zeros(3)},
    "nothing": {},
    "no tensor": {"lr": 0.1, "name": "é", "none": None, "flag": True, "n": 2**60},
    "one tensor": torch.tensor(3.0),
    "floats": [0.1, 1e-300, math.inf, -math.inf, math.nan, -0.0],
    "numbers as keys": {"state": {0: {"step": 3, "exp_avg": torch.ones(2)}, 1: {}}},
    "nested": {"a": [1, {"b": (torch.ones(1), [])}, torch.zeros(2)], "a.b": torch.ones(3)},
    "shared memory": {"a": SHARED, "b": SHARED, "c": SHARED[2:], "d": SHARED.view(2, 3).t()},
    "shapes": {"0": torch.zeros(0, 3), "1": torch.tensor(1.5), "2": torch.ones(2, 1, 0)},
    "dtypes": {
        str(dtype): torch.arange(4).to(dtype)
        for dtype in (
            *(torch.float64, torch.float32, torch.float16, torch.bfloat16),
            *(torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool),
        )
    },
    "expanded": {"a": torch.ones(1).expand(5), "nan": torch.tensor([math.nan, -0.0])},
}


@pytest.mark.parametrize("state", STATES.values(), ids=STATES)
def test_what_is_saved_is_what_is_loaded(state: Any, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    minifw.save(state, path)
    assert_same(state, minifw.load(path))
    assert [path] == list(tmp_path.iterdir())


@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_model_is_saved_by_its_weights(framework: Framework, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    model = network(framework.nn)
    minifw.save(model, str(path))
    other = network()
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(minifw.load(path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name])
        assert torch.equal(tensor, load_file(path)[name]), "others read it under the same names"


def test_a_file_of_another_origin_is_a_dict_of_tensors(tmp_path: Path) -> None:
    tensors = {"weight": torch.ones(2), "bias": torch.zeros(1)}
    for index, metadata in enumerate([None, {"format": "pt"}]):
        path = tmp_path / str(index)
        save_file(tensors, path, metadata)
        loaded = minifw.load(path)
        assert tensors.keys() == loaded.keys()
        assert all(torch.equal(tensors[name], loaded[name]) for name in tensors)


class Bomb:
    def __reduce__(self) -> Any:
        return Path.touch, (Path(os.environ["BOMB"]),)


def test_a_pickle_is_refused_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BOMB", str(tmp_path / "ran"))
    paths = [tmp_path / name for name in ("zip.pt", "legacy.pt", "plain.pkl")]
    torch.save({"weight": Bomb()}, paths[0])
    torch.save({"weight": Bomb()}, paths[1], _use_new_zipfile_serialization=False)
    paths[2].write_bytes(pickle.dumps(Bomb()))
    for path in paths:
        with pytest.raises(RuntimeError, match=rf"{path.name}: expected .*pickle.*weights_only"):
            minifw.load(path)
    assert not (tmp_path / "ran").exists()


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    minifw.save(network(), path)
    whole = path.read_bytes()
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(RuntimeError, match=rf"{path.name}: expected a safetensors file, got"):
            minifw.load(path)
    path.write_bytes(whole + b"\0")
    with pytest.raises(RuntimeError, match="expected a safetensors file"):
        minifw.load(path)


def test_a_file_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    minifw.save({"weight": torch.arange(5.0), "lr": 0.1}, path)
    whole = path.read_bytes()
    for index, bit in itertools.product(range(len(whole)), (0, 6)):
        damaged = bytearray(whole)
        damaged[index] ^= 1 << bit
        path.write_bytes(damaged)
        with pytest.raises(RuntimeError, match=rf"{path.name}: expected"):
            minifw.load(path)


def test_errors_of_files_and_states_are_clear(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="missing"):
        minifw.load(tmp_path / "missing")
    (tmp_path / "dir").mkdir()
    with pytest.raises(IsADirectoryError, match="dir"):
        minifw.load(tmp_path / "dir")
    with pytest.raises(FileNotFoundError, match="nowhere"):
        minifw.save({}, tmp_path / "nowhere" / "file")
    with pytest.raises(TypeError, match=r"got function at 'a\.0'"):
        minifw.save({"a": [test_errors_of_files_and_states_are_clear]}, tmp_path / "x")
    with pytest.raises(ValueError, match=r"two tensors would be stored as 'a\.b'"):
        minifw.save({"a.b": SHARED, "a": {"b": SHARED}}, tmp_path / "x")
    assert [tmp_path / "dir"] == list(tmp_path.iterdir())


def test_a_save_that_fails_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    minifw.save({"weight": torch.ones(2)}, path)
    before = path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            minifw.save({"weight": torch.zeros(5000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before == path.read_bytes()
    assert [path] == list(tmp_path.iterdir())


def test_what_a_killed_save_left_is_removed_by_the_next(tmp_path: Path) -> None:
    path, left = tmp_path / "model.safetensors", tmp_path / ".model.safetensors.tmp"
    left.write_bytes(bytes(10_000))
    minifw.save({"weight": torch.ones(2)}, path)
    assert_same({"weight": torch.ones(2)}, minifw.load(path))
    assert [path] == list(tmp_path.iterdir())


def test_loaded_tensors_do_not_change_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    minifw.save({"weight": torch.ones(5000)}, path)
    loaded = minifw.load(path)
    with path.open("r+b") as file:  # in place: the same inode
        file.truncate(0)
        file.write(bytes(30_000))
    assert torch.equal(torch.ones(5000), loaded["weight"])


def test_a_saved_file_keeps_its_permissions(tmp_path: Path) -> None:
    path, new = tmp_path / "model.safetensors", tmp_path / "new"
    path.touch(0o600)
    mask = os.umask(0o027)
    try:
        minifw.save({}, path)
        minifw.save({}, new)
    finally:
        os.umask(mask)
    assert (0o600, 0o640) == (path.stat().st_mode & 0o777, new.stat().st_mode & 0o777)


def save_and_load(path: Path, times: int, writer: int) -> int:
    """Save and load in turn; return the number of whole states that were read."""
    whole = 0
    for _ in range(times):
        minifw.save({"a": torch.full((2000,), writer), "b": torch.full((9,), writer)}, path)
        loaded = minifw.load(path)
        whole += set(loaded["a"].tolist()) == set(loaded["b"].tolist())
    return whole


@pytest.mark.parametrize(
    "executor",
    [
        ThreadPoolExecutor,
        functools.partial(ProcessPoolExecutor, mp_context=multiprocessing.get_context("spawn")),
    ],
    ids=["threads", "processes"],
)
def test_400_saves_and_loads_of_one_path_at_once_succeed(executor: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with executor(2) as pool:
        counts = pool.map(save_and_load, [path] * 4, [100] * 4, range(4))
        assert [100] * 4 == list(counts)
    assert [path] == list(tmp_path.iterdir())


CONTAINS_ITSELF: dict[str, Any] = {}
CONTAINS_ITSELF["again"] = CONTAINS_ITSELF


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({("a", 1): 2}, TypeError, r"keys that are numbers, strings or None, got tuple \('a', 1\)"),
        ({"a": {b"x": 2}}, TypeError, "got bytes b'x' at 'a'"),
        ({"__metadata__": torch.ones(1)}, ValueError, "reserves the name '__metadata__'"),
        (CONTAINS_ITSELF, ValueError, "contains itself"),
    ],
    ids=["tuple", "bytes", "reserved", "contains itself"],
)
def test_states_that_could_not_be_loaded_are_refused_when_saved(
    state: Any, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=message):
        minifw.save(state, tmp_path / "x")
    assert [] == list(tmp_path.iterdir())


FORGED = {
    "no JSON": "{",
    "missing tensor": '{"tensor": "b"}',
    "tensor named by a list": '{"tensor": ["a"]}',
    "no pairs": '{"dict": [1]}',
    "dict of nothing": '{"dict": null}',
    "neither": "{}",
    "key that is a list": '{"dict": [[[1], 2]]}',
    "long number": "1" * 5000,
    "deep": "[" * 100_000 + "]" * 100_000,
}


@pytest.mark.parametrize("structure", FORGED.values(), ids=FORGED)
def test_a_forged_structure_is_one_clear_error(structure: str, tmp_path: Path) -> None:
    path, tensors = tmp_path / "forged", {"a": torch.ones(2)}
    save_file(tensors, path, {"structure": structure, "sha256": _checksum(structure, tensors)})
    with pytest.raises(RuntimeError, match=r"forged: expected the structure that minifw.save"):
        minifw.load(path)


# Runs.


class Interrupt(Callback):
    """Ends the run in the middle of an epoch, or right after one, as an error would."""

    def __init__(self, at: float) -> None:
        self.at = at

    def on_step_end(self, run: Run) -> None:
        if run.done > self.at:
            raise KeyboardInterrupt


# A row: optimizer and its options, schedule, options of fit.
RUNS: dict[str, tuple[str, dict[str, Any], Any, dict[str, Any]]] = {
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, None, {}),
    "adam, cosine": (
        *("AdamW", {"lr": 0.05, "amsgrad": True}),
        *(lambda lr, optimizer: lr.CosineAnnealingLR(optimizer, 8), {}),
    ),
    "milestones, global generator": (
        *("SGD", {"lr": 0.1}),
        *(lambda lr, optimizer: lr.MultiStepLR(optimizer, [2, 4, 4]), {"generator": None}),
    ),
    "plateau, micro-batches": (
        *("SGD", {"lr": 0.1, "nesterov": True, "momentum": 0.5}),
        lambda lr, optimizer: lr.ReduceLROnPlateau(optimizer, patience=0, threshold=0.5),
        {"scheduler_monitor": "validation_loss", "batch_size": 7, "accumulate": 2},
    ),
    "lambda": (
        *("Adam", {}),
        *(lambda lr, optimizer: lr.LambdaLR(optimizer, lambda epoch: 0.5**epoch), {}),
    ),
}
EPOCHS = 6


def train(
    framework: Framework, name: str, checkpoint: Path | None, *callbacks: Callback, **more: Any
) -> tuple[Any, list[dict[str, float]], EarlyStopping]:
    """One of the runs: fresh objects, as the script that is called again would make them."""
    kind, settings, make_schedule, options = RUNS[name]
    if framework.name == "pytorch" and "accumulate" in options:
        options = {**options, "accumulate": 1}
    generator = seeded(4)
    model = network(framework.nn)
    if framework.name == "minifw":
        model[1].generator = generator  # the masks' generator is that of the batches
    optimizer = getattr(framework.optim, kind)(model.parameters(), **settings)
    schedule = make_schedule and make_schedule(framework.optim.lr_scheduler, optimizer)
    stopping = EarlyStopping(patience=4)
    history = minifw.fit(
        model,
        framework.nn.MSELoss(),
        optimizer,
        data.disk(40, generator=seeded(1)),
        callbacks=[stopping, *callbacks],
        checkpoint=checkpoint,
        train_step=framework.train_step,
        no_grad=framework.no_grad,
        **{
            **{"epochs": EPOCHS, "batch_size": 16, "scheduler": schedule, "generator": generator},
            "validation_data": data.disk(30, generator=seeded(2)),
            **options,
            **more,
        },
    )
    for row in history:
        del row["seconds"]
    return model, history, stopping


@pytest.mark.parametrize("name", RUNS)
@pytest.mark.parametrize("framework", FRAMEWORKS.values(), ids=FRAMEWORKS)
def test_a_run_that_is_resumed_ends_where_it_would_have(
    framework: Framework, name: str, tmp_path: Path
) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        whole, history, stopping = train(framework, name, None)
        path = tmp_path / "run.safetensors"
        torch.manual_seed(5)
        for at in (0.5, 2.5, 4.0):  # before there is a file, in an epoch, at the end of one
            with pytest.raises(KeyboardInterrupt):
                train(framework, name, path, Interrupt(at))
            torch.manual_seed(5 if at < 1 else 77)  # the file holds the state, if there is one
        resumed, again, stopping_again = train(framework, name, path, Callback())
        assert history == again
        assert_same(dict(whole.state_dict()), dict(resumed.state_dict()))
        assert_same(stopping.state_dict(), stopping_again.state_dict())
        assert stopping._best_weights is not None
        assert torch.equal(whole.state_dict()["0.weight"], stopping._best_weights["0.weight"])

        # At its end it is there still; with more epochs it goes on, from the last weights.
        finished, again, _ = train(framework, name, path, Callback())
        assert history == again
        assert_same(dict(whole.state_dict()), dict(finished.state_dict()))
        torch.manual_seed(5)
        longer, history, _ = train(framework, name, None, epochs=EPOCHS + 2)
        more, again, _ = train(framework, name, path, Callback(), epochs=EPOCHS + 2)
        assert history == again
        assert_same(dict(longer.state_dict()), dict(more.state_dict()))


def test_a_run_that_was_stopped_early_stays_so(tmp_path: Path) -> None:
    class Stop(Callback):
        def on_epoch_end(self, run: Run) -> None:
            run.stop = len(run.history) >= 2

    path = tmp_path / "run.safetensors"
    model, history, _ = train(FRAMEWORKS["minifw"], "momentum", path, Stop())
    again, same, _ = train(FRAMEWORKS["minifw"], "momentum", path, Stop())
    assert 2 == len(history) == len(same)
    assert_same(model.state_dict(), again.state_dict())


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(FRAMEWORKS["minifw"], "momentum", path)
    with pytest.raises(ValueError, match=r"run\.safetensors: expected a run of \[.*Adam.*SGD"):
        train(FRAMEWORKS["minifw"], "lambda", path)
    minifw.save(network(), path)
    with pytest.raises(ValueError, match=r"got None; call fit with the arguments"):
        train(FRAMEWORKS["minifw"], "momentum", path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RuntimeError, match="damaged"):
        train(FRAMEWORKS["minifw"], "momentum", path)


def begin(path: Path | None, epochs: int = 2, **changes: Any) -> tuple[Any, Any, Any]:
    """Train a small model; ``changes`` replace what it is made of, or arguments of fit."""
    model = nn.Sequential(
        nn.Linear(2, 8),
        nn.Dropout(changes.pop("dropout", 0.3), generator=seeded(changes.pop("masks", 7))),
        changes.pop("activation", nn.Tanh()),
        nn.Linear(8, 1),
    )
    for parameter in model.parameters():
        parameter.data.normal_(generator=seeded(parameter.numel()))
    settings = {"lr": 0.1, "momentum": 0.9, **changes.pop("options", {})}
    optimizer = minifw.optim.SGD(model.parameters(), **settings)
    schedule = minifw.optim.lr_scheduler.StepLR(optimizer, changes.pop("step_size", 2), 0.5)
    before = [copy.deepcopy(model.state_dict()), torch.get_rng_state()]
    arguments = {
        "criterion": nn.MSELoss(),
        "data": data.disk(40, generator=seeded(1)),
        "validation_data": data.disk(30, generator=seeded(2)),
        "batch_size": 16,
        "generator": seeded(4),
        "callbacks": [EarlyStopping(patience=9)],
        "scheduler": schedule,
        **changes,
    }
    try:
        history = minifw.fit(
            model, optimizer=optimizer, epochs=epochs, checkpoint=path, **arguments
        )
    except Exception as error:
        assert_same(before, [model.state_dict(), torch.get_rng_state()])
        assert {} == optimizer.state_dict()["state"]
        assert arguments["generator"].get_state().equal(seeded(4).get_state()) or (
            "generator" in changes
        )
        raise error from None
    return model, optimizer, [{k: v for k, v in row.items() if k != "seconds"} for row in history]


CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "dropout": ({"dropout": 0.5}, r"model\.1 was Dropout\(p=0\.3\), is Dropout\(p=0\.5\)"),
    "masks": ({"masks": 8}, r"generators\[1\] was seed 7, is seed 8"),
    "activation": ({"activation": nn.ReLU()}, r"model\.2 was Tanh\(\), is ReLU\(\)"),
    "slope": ({"activation": nn.LeakyReLU(0.2)}, r"model\.2 was Tanh\(\), is LeakyReLU\(.*0\.2"),
    "learning rate": ({"options": {"lr": 0.2}}, r"param_groups\[0\]\.lr was 0\.1, is 0\.2"),
    "momentum": ({"options": {"momentum": 0.5}}, r"momentum was 0\.9, is 0\.5"),
    "schedule": ({"step_size": 3}, r"scheduler\.step_size was 2, is 3"),
    "patience": ({"callbacks": [EarlyStopping(patience=8)]}, r"patience was 9, is 8"),
    "loss": ({"criterion": nn.MSELoss("sum")}, r"criterion was .*mean.* is .*sum"),
    "data": (
        {"data": data.disk(40, generator=seeded(9))},
        r"data\[0\] was torch\.float32 \[40, 2\]",
    ),
    "labels": ({"data": data.disk(40, (-1, 1), seeded(1))}, r"but data\[1\] was"),
    "validation": ({"validation_data": data.disk(9, generator=seeded(2))}, r"validation_data\[0\]"),
    "batch size": ({"batch_size": 8}, r"batch_size was 16, is 8"),
    "batch order": ({"generator": seeded(5)}, r"generators\[0\] was seed 4, is seed 5"),
    "metrics": (
        {"metrics": {"zero": lambda output, target: 0.0}},
        r"metrics was \[\], is \['zero'\]",
    ),
}


@pytest.mark.parametrize(("changes", "message"), CHANGES.values(), ids=CHANGES)
def test_other_settings_are_refused_by_name_or_adopted_when_asked(
    changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    begin(path)
    with pytest.raises(ValueError, match=message):
        begin(path, 4, **copy.deepcopy(changes))
    _, _, history = begin(path, 4, **copy.deepcopy(changes), allow_changes=True)
    assert [1, 2, 3, 4] == [row["epoch"] for row in history]
    again = begin(path, 6, **copy.deepcopy(changes))[2]  # from here on they are the run's settings
    assert [1, 2, 3, 4, 5, 6] == [row["epoch"] for row in again]


def test_an_adopted_learning_rate_keeps_the_place_in_the_schedule(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    begin(path)  # whose second epoch has halved the learning rate
    _, optimizer, _ = begin(path, 3, options={"lr": 0.2}, allow_changes=True)
    assert (0.2, 0.1) == tuple(optimizer.param_groups[0][name] for name in ("initial_lr", "lr"))


def test_the_objects_of_a_run_may_train_on(tmp_path: Path) -> None:
    """As a notebook does, whose cell is run again with more epochs."""
    whole = begin(None, 4)
    model, generator = network(), seeded(4)
    optimizer = minifw.optim.SGD(model.parameters(), lr=0.1)
    schedule = minifw.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, threshold=0.9)
    for epochs in (3, 6):
        history = minifw.fit(
            model, nn.MSELoss(), optimizer, data.disk(40, generator=seeded(1)), epochs=epochs,
            batch_size=16, generator=generator, scheduler=schedule, scheduler_monitor="loss",
            checkpoint=tmp_path / "run",
        )  # fmt: skip
        assert epochs == len(history)
    assert optimizer.param_groups[0]["lr"] < 0.1
    assert 4 == len(whole[2])


FORGERIES: dict[str, Any] = {
    **{name: {name: ...} for name in ("states", "history", "stop", "generators", "global", "cuda")},
    "settings": {"settings": ...},
    "states of numbers": {"states": [1, 2, 3, 4]},
    "history of numbers": {"history": [1]},
    "another global state": {"global": torch.zeros(3)},
    "generators of text": {"generators": ["a", "b"]},
    "settings of numbers": {"settings": [1, 2]},
}


@pytest.mark.parametrize("forgery", FORGERIES.values(), ids=FORGERIES)
def test_a_forged_checkpoint_is_one_error_and_changes_nothing(
    forgery: dict[str, Any], tmp_path: Path
) -> None:
    path = tmp_path / "run.safetensors"
    begin(path)
    state = {**minifw.load(path), **forgery}
    minifw.save({name: value for name, value in state.items() if value is not ...}, path)
    with pytest.raises(ValueError, match=r"run\.safetensors: expected the state of this run"):
        begin(path, 4)


def test_a_nan_loss_warns_once_with_epoch_and_step() -> None:
    with pytest.warns(RuntimeWarning, match="NaN from epoch 1, step 2 on") as warned:
        begin(None, options={"lr": 1e30, "momentum": 0.0}, dropout=0.0, activation=nn.ReLU())
    assert 1 == len(warned)


KILLS = 2
SCRIPT = textwrap.dedent("""
    import sys, torch, minifw
    from minifw import EarlyStopping, data, nn, optim
    torch.set_num_threads(1)
    seeded = lambda seed: torch.Generator().manual_seed(seed)
    torch.manual_seed(0)
    checkpoint, result = sys.argv[1:]
    model = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 1))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    minifw.fit(
        model, nn.MSELoss(), optimizer, data.disk(200, generator=seeded(1)), epochs=60,
        batch_size=20, generator=seeded(2), validation_data=data.disk(50, generator=seeded(3)),
        scheduler=optim.lr_scheduler.ExponentialLR(optimizer, 0.98),
        callbacks=[EarlyStopping(patience=60)], checkpoint=checkpoint or None,
    )
    minifw.save(model, result)
""")


def test_a_run_that_is_killed_at_any_moment_ends_bit_for_bit_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, checkpoint, result = (tmp_path / name for name in ("expected", "run", "result"))
    monkeypatch.setattr(sys, "argv", ["script", "", str(expected)])
    with torch.random.fork_rng():
        exec(SCRIPT, {})

    kills, generator = 0, seeded(9)
    while not result.exists():
        # Killed once it has got on by at least an epoch, at a moment that is left to chance.
        before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(checkpoint), str(result)])
        while process.poll() is None:
            if kills < KILLS and checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
                time.sleep(torch.rand((), generator=generator).item() * 0.05)
                process.kill()
                process.wait()
                kills += 1
                assert len(minifw.load(checkpoint)["history"]) < 60, "killed too late"
            time.sleep(0.001)
    assert kills == KILLS
    assert_same(minifw.load(expected), minifw.load(result))
