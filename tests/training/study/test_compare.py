"""Initial models of the baselines; the comparison, its report, plan and search."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch
from small_models import letters_tokenizer, small_config, small_model, two_utterances, write_test_manifest

from lwasr_edge.errors import OptionError
from lwasr_edge.training.cli import main
from lwasr_edge.training.compress.modules import Removal, modules_without_weights
from lwasr_edge.training.compress.students import Shape, init_from_reference
from lwasr_edge.training.data.batches import WaveformStore
from lwasr_edge.training.model.checkpoint import load_checkpoint, save_checkpoint
from lwasr_edge.training.model.config import ModelConfig
from lwasr_edge.training.study import search
from lwasr_edge.training.study.baselines import (
    BASELINES,
    METHODS,
    chosen_layers,
    count_parameters,
    init_sizes,
    magnitude_masks,
    n_parameters_of,
)
from lwasr_edge.training.study.compare import is_evaluation
from lwasr_edge.training.study.latency import LatencyModel, read_profile
from lwasr_edge.training.study.money import Rates, items, money_table
from lwasr_edge.training.study.plan import in_whole_layers
from lwasr_edge.training.study.report import cost_to_reach, shown_cost, shown_speed_up
from lwasr_edge.training.study.search import Candidate, pareto

SHORT = ["--batch-s", "8", "--warmup-steps", "1", "--precision", "float32"]


@pytest.fixture
def reference(tmp_path: Path) -> Path:
    path = tmp_path / "reference.safetensors"
    save_checkpoint(path, small_model(n_layers=4), letters_tokenizer())
    return path


@pytest.fixture
def store(tmp_path: Path) -> WaveformStore:
    """Two utterances, to fit students to."""
    return WaveformStore(two_utterances(tmp_path), torch.device("cpu"))


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """Of a board: what `lwasr bench --json` writes, as far as it counts here."""
    measured = {"mode": "file", "hop_ms": None, "right_context_ms": None, "threads": 1, "rtf": {"median": 0.01}}
    measured |= {"cpu_s_per_audio_s": 0.01, "hop_latency_ms": None, "memory": {"peak": None}, "accuracy": None}
    model = {"name": "board's", "precision": "int8", "bytes": 1, "startup": {"total": {"median": 1.0}}}
    model |= {"multiplications": list(small_config(n_layers=4).multiplications), "measurements": [measured]}
    report = {"format": "lwasr-bench", "schema_version": 2, "created": "", "audio": {"source": ""}, "models": [model]}
    path = tmp_path / "board.json"
    path.write_text(json.dumps(report | {"board": {"name": "", "processor": ""}}))
    return path


def test_phases_of_a_method_add_up_to_its_budget() -> None:
    for name, method in METHODS.items():
        assert sum(phase.share for phase in method.phases) == pytest.approx(1.0), name


@pytest.mark.parametrize(
    ("rule", "layers"), [("first", (0, 1, 2)), ("evenly spaced", (0, 8, 15)), ("least damage", (0, 5, 15))]
)
def test_layers_of_a_rule(rule: str, layers: tuple[int, ...]) -> None:
    assert chosen_layers(rule, 16, 3) == layers


def test_masks_keep_the_largest_weights() -> None:
    model = small_model(n_layers=2)
    masks = magnitude_masks(model, 1000)
    assert sum(int((mask == 0).sum()) for mask in masks.values()) == 1000
    kept = [model.get_parameter(name)[mask == 1].abs() for name, mask in masks.items()]
    removed = [model.get_parameter(name)[mask == 0].abs() for name, mask in masks.items()]
    assert torch.cat(removed).max().item() <= torch.cat(kept).min().item()
    with pytest.raises(OptionError, match="weights to prune must be fewer than"):
        magnitude_masks(model, 10**6)


def test_initial_models(store: WaveformStore) -> None:
    reference = small_model(n_layers=4)
    student, masks = init_sizes(BASELINES["dropped"], reference, (2,), store, seed=1)[2]
    assert not masks and student.config.reference_layers == (0, 3)
    assert torch.equal(student.encoder.layers[1].norm.weight, reference.encoder.layers[3].norm.weight)
    random, _ = init_sizes(BASELINES["scratch"], reference, (2,), store, seed=1)[2]
    assert random.config == student.config and not torch.equal(random.head.weight, student.head.weight)
    pruned, masks = init_sizes(BASELINES["pruned"], reference, (2,), store, seed=1)[2]
    removed = sum(int((mask == 0).sum()) for mask in masks.values())
    assert count_parameters(pruned) - removed == count_parameters(student)
    narrowed, masks = init_sizes(BASELINES["narrowed"], reference, (2,), store, seed=1)[2]
    assert not masks and narrowed.config.reference_layers == (0, 2, 3)
    assert narrowed.config.encoder.d_attention == 8
    unit = 3 * 2 * (2 * 16 + 1)  # parameters: three layers of two modules, weights in and out and a bias
    assert 0 <= count_parameters(student) - count_parameters(narrowed) < unit
    assert n_parameters_of(narrowed.config) == count_parameters(narrowed)
    for model in (student, random, pruned, narrowed):
        assert model.norm.prior_variance.std() > 0  # fitted to the store


def test_modules_are_searched_for_once(store: WaveformStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """One search for all sizes, the smaller going on where the larger ended; none where they are known."""
    reference, searches = small_model(n_layers=4), []
    search = Removal.remove
    monkeypatch.setattr(Removal, "remove", lambda removal, share: (searches.append(share), search(removal, share)))
    found = init_sizes(METHODS["modules"], reference, (3, 2), store, seed=1)
    assert searches == [0.75, 0.5]
    removed = {size: modules_without_weights(student.state_dict()) for size, (student, _) in found.items()}
    assert set(removed[3]) < set(removed[2])
    again = init_sizes(METHODS["modules"], reference, (3, 2), store, seed=1, removed=removed)
    assert len(searches) == 2
    for size, (student, _) in again.items():
        assert modules_without_weights(student.state_dict()) == removed[size]


def test_compare_writes_table_plots_and_resumes(tmp_path: Path, reference: Path, profile: Path) -> None:
    manifest = str(write_test_manifest(tmp_path))
    command = ["compare", "--reference", str(reference), "--keep", "2,1", "--train", manifest, "--dev", manifest]
    command += ["--steps", "5", "--evaluate-every", "2", "--methods", "dropped", "pruned", "two-step", *SHORT]
    command += ["--profile", str(profile), "-o", str(tmp_path / "out")]
    assert main(command) == 0
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert set(results["methods"]) == {"dropped", "pruned", "two-step"}
    for method in results["methods"].values():
        assert method["audio_s"] > 0 and method["curve"][-1]["audio_s"] == pytest.approx(method["audio_s"], abs=1)
        assert set(method["curve"][-1]["wer"]) == {"layers2/data/whole", "layers1/data/whole"}
    assert results["methods"]["pruned"]["parameters"] == results["methods"]["dropped"]["parameters"]
    speeds = {name: method["rtf"] for name, method in results["methods"].items()}
    assert speeds["pruned"]["layers1"] == 0.01 > speeds["dropped"]["layers2"] > speeds["dropped"]["layers1"]
    report = (tmp_path / "out" / "report.md").read_text()
    assert "### layers2" in report and "reference pruned by magnitude" in report
    assert all((tmp_path / "out" / name).stat().st_size > 5000 for name in ("cost.png", "size.png"))
    pruned = load_checkpoint(tmp_path / "out" / "pruned" / "phase1" / "layers1.safetensors")[0]
    zeros = sum(int((p == 0).sum()) for name, p in pruned.named_parameters() if "encoder.layers" in name)
    assert zeros >= count_parameters(pruned) - results["methods"]["dropped"]["parameters"]["layers1"] > 0
    assert main(command) == 0  # everything is already trained
    assert json.loads((tmp_path / "out" / "results.json").read_text()) == results


def test_cost_to_reach() -> None:
    curve = [{"audio_s": cost, "wer": {"k": wer}} for cost, wer in ((100, 90.0), (200, 50.0), (300, 40.0))]
    assert cost_to_reach(curve, "k", 70.0, "audio_s") == 150
    assert cost_to_reach(curve, "k", 95.0, "audio_s") == 100
    assert cost_to_reach(curve, "k", 39.0, "audio_s") is None
    assert [shown_cost(cost, curve) for cost in (None, 100.0, 150.0)] == ["-", "≤ 100", "150"]
    pairs = [(None, 150.0), (100.0, 100.0), (100.0, 150.0), (150.0, 100.0), (150.0, 300.0)]
    assert [shown_speed_up(one, curve, base, curve) for one, base in pairs] == ["-", "-", "≥ 1.5", "≤ 0.7", "2.0"]


def test_a_reference_from_scratch_trains_a_student(tmp_path: Path) -> None:
    manifest = str(write_test_manifest(tmp_path))
    sizes = ["--layers", "3", "--width", "16", "--heads", "2", "--feed-forward", "32", "--kernel", "5"]
    command = ["reference", *sizes, "--vocabulary", "32", "--train", manifest, *SHORT, "-o", str(tmp_path / "out")]
    assert main([*command, "--steps", "2"]) == 0
    first = (tmp_path / "out" / "tokenizer.model").read_bytes()
    assert main([*command, "--steps", "4", "--dev", manifest]) == 0  # resumed with the tokenizer of the run
    again = [str(tmp_path / "again") if word == str(tmp_path / "out") else word for word in command]
    assert main([*again, "--steps", "4"]) == 0
    same = [load_checkpoint(tmp_path / name / "reference.safetensors")[0].state_dict() for name in ("out", "again")]
    assert all(torch.equal(value, same[1][name]) for name, value in same[0].items())
    model, tokenizer = load_checkpoint(tmp_path / "out" / "reference.safetensors")
    assert tokenizer == first and len(model.config.vocabulary) == 33 and model.config.vocabulary[-1] == "<blank>"
    represent = ["represent", "--reference", str(tmp_path / "out" / "reference.safetensors"), "--keep", "2"]
    assert main([*represent, "--train", manifest, *SHORT, "--steps", "2", "-o", str(tmp_path / "student")]) == 0


def test_a_vocabulary_too_large_for_the_transcripts(tmp_path: Path, capsys) -> None:
    manifest = str(write_test_manifest(tmp_path))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "tokenizer.model").write_bytes(letters_tokenizer())
    assert main(["reference", "--vocabulary", "50", "--train", manifest, *SHORT, "-o", str(tmp_path / "other")]) == 2
    assert "or choose another folder" in capsys.readouterr().err
    assert main(["reference", "--vocabulary", "5000", "--train", manifest, *SHORT, "-o", str(tmp_path / "out")]) == 2
    assert "--vocabulary must fit the transcripts, got 5000" in capsys.readouterr().err


def test_plan_measures_and_extrapolates(tmp_path: Path, reference: Path, capsys) -> None:
    manifest = str(write_test_manifest(tmp_path))
    command = ["plan", "--reference", str(reference), "--keep", "2,1", "--train", manifest, "--batch-s", "8"]
    command += ["--precision", "float32"]
    assert main([*command, "--seconds", "0.2", "--hours", "100", "--epochs", "10", "20", "30"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["what", "reference,", "family", "layers2", "layers1", "the"]
    epochs, rate, hours = (float(number) for number in lines[1].split()[-3:])
    assert epochs == 10 and hours == pytest.approx(10 * 100 / rate, rel=0.05)
    wrong = (["--seconds", "nan"], ["--hours", "0"], ["--epochs", "-1", "1", "1"], ["--epochs", "1", "0", "1"])
    for option, *values in wrong:
        assert main([*command, option, *values]) == 2
        assert f"{option}" in capsys.readouterr().err.splitlines()[-1]


def test_a_plan_takes_whole_layers_for_modules() -> None:
    assert in_whole_layers(Shape((0, 1, 2, 3), 8, time=0.5)) == Shape((0, 1), 8)
    assert in_whole_layers(Shape((0, 1), time=0.1)) == Shape((0,))


def test_plan_in_money(tmp_path: Path, reference: Path, capsys) -> None:
    command = ["plan", "--reference", str(reference), "--keep", "2,1", "--train", str(write_test_manifest(tmp_path))]
    command += ["--batch-s", "8", "--precision", "float32", "--seconds", "0.1", "--hours", "10"]
    rates = ["--rate-cpu-hour", "2", "--rate-cloud-hour", "1", "--devices", "10", "--audio-hours-per-day", "3"]
    assert main([*command, *rates, "--sites", "4", "--rate-person-hour", "50", "--device-price", "100"]) == 0
    hours, _, money = capsys.readouterr().out.partition("\n\n")
    reference_h = float(hours.splitlines()[1].split()[-1])
    lines = {line[:20].strip(): line for line in money.splitlines()}
    assert float(lines["reference, once"].split()[-2]) == pytest.approx(2 * reference_h, abs=0.02)
    assert lines["people, 12 hours at"].split()[-2] == "600.00"
    assert lines["10 devices over 5 ye"].split()[-1] == "200.00"
    assert lines["in the cloud, 10950"].split()[-1] == "10950.00"
    assert "at 0: --rate-kwh" in money
    assert main([*command, "--rate-cloud-hour", "1"]) == 2
    assert "must be given together" in capsys.readouterr().err
    assert main([*command, *rates, "--sites", "-1"]) == 2
    assert "--sites must be a whole number >= 0" in capsys.readouterr().err


def test_what_the_models_cost_by_hand() -> None:
    rates = Rates(rate_cpu_hour=0.5, rate_cloud_hour=1.2, rate_person_hour=40, rate_kwh=0.25, sites=10, devices=100)
    found = items(reference_h=100, family_h=20, audio_s_per_s=50, rates=rates)
    assert [(round(one.once, 6), round(one.yearly, 6)) for one in found] == [
        (50, 0),
        (10, 0),
        (0.5, 0),  # 10 sites * 15 minutes * 20 epochs at 50 times real time: 1 h
        (1200, 0),
        (0, 0),
        (0, 876),  # 100 * 4 W * 8760 h = 3504 kWh
    ]
    text = money_table(found, rates)
    # 36 500 h in the cloud: 43 800 a year; 1260.50 / (43 800 - 876) of a year
    assert "after 11 days" in text and "43800.00" in text and "costs 0.0355, in the cloud 1.2000" in text
    assert "they never save money" in money_table(found, dataclasses.replace(rates, rate_cloud_hour=0.01))
    idle = dataclasses.replace(rates, devices=0)
    assert "they never save money" in money_table(items(1, 1, 1, idle), idle)
    for wrong in ({"device_years": 0}, {"audio_hours_per_day": 25}, {"rate_kwh": math.nan}, {"devices": 1.5}):
        with pytest.raises(OptionError, match="must be"):
            dataclasses.replace(rates, **wrong)


def test_latency_follows_the_measured_models() -> None:
    family = small_config()
    cost = {"subsampling": 2e-12, "layers": 5e-12}

    def shaped(n_layers: int, units: int = 32) -> ModelConfig:
        encoder = dataclasses.replace(family.encoder, n_layers=n_layers, d_feed_forward=units)
        return dataclasses.replace(family, encoder=encoder)

    def model(config: ModelConfig) -> dict[str, object]:
        subsampling, layers = config.multiplications
        rtf = {"median": subsampling * cost["subsampling"] + layers * cost["layers"]}
        measured = {"mode": "file", "threads": 1, "rtf": rtf}
        return {"precision": "int8", "multiplications": [subsampling, layers], "measurements": [measured]}

    report = {"models": [model(shaped(8)), model(shaped(3, units=7))]}
    fitted = LatencyModel.fit(report, 1, "int8", "board.json")
    assert fitted.subsampling_cost == pytest.approx(2e-12) and fitted.layer_cost == pytest.approx(5e-12)
    single = LatencyModel.fit({"models": [model(shaped(8))]}, 1, "int8", "board.json")
    assert single.rtf(shaped(8)) == pytest.approx(report["models"][0]["measurements"][0]["rtf"]["median"])
    with pytest.raises(OptionError, match=r"board.json must hold a measurement of files by float32 models, exported"):
        LatencyModel.fit(report, 1, "float32", "board.json")
    older = [{**one, "multiplications": None} for one in report["models"]]
    with pytest.raises(OptionError, match=r"by int8 models, exported by this version, with 1 thread"):
        LatencyModel.fit({"models": older}, 1, "int8", "board.json")


@pytest.mark.parametrize("value", ["many", [1], [1, 2, 3], [1, "2"], [0, 0], [True, 2], {"a": 1}])
def test_a_profile_with_impossible_operations_is_refused(profile: Path, value: object) -> None:
    report = json.loads(profile.read_text())
    report["models"][0]["multiplications"] = value
    profile.write_text(json.dumps(report))
    with pytest.raises(OptionError, match=r"board.json: multiplications must be two numbers above 0, got"):
        read_profile(profile, 1, "int8")


@pytest.mark.parametrize("value", [10**400, float("inf"), float("nan")])
def test_a_profile_with_huge_operations_is_refused(profile: Path, value: float) -> None:
    report = json.loads(profile.read_text())
    report["models"][0]["multiplications"] = [value, 1]
    profile.write_text(json.dumps(report))
    with pytest.raises(OptionError, match=r"board.json: multiplications must be two numbers above 0, got"):
        read_profile(profile, 1, "int8")


@pytest.mark.parametrize("rtf", [0, -1])
def test_a_profile_with_an_impossible_rtf_is_refused(profile: Path, rtf: float) -> None:
    report = json.loads(profile.read_text())
    report["models"][0]["measurements"][0]["rtf"]["median"] = rtf
    profile.write_text(json.dumps(report))
    with pytest.raises(OptionError, match=r"board.json: rtf must be a finite number > 0, got"):
        read_profile(profile, 1, "int8")


def test_measurements_of_this_machine_keep_the_former_key(tmp_path: Path) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(json.dumps({"1": {"front_cost": 1e-12, "layer_cost": 2e-12, "source": "this machine"}}))
    assert search.read_speeds(path) == {"1": LatencyModel(1e-12, 2e-12, "this machine")}


@pytest.mark.parametrize("cost", ["x", None, True, 0, -1, 10**400, float("nan"), float("inf")])
def test_impossible_measurements_of_this_machine_are_made_again(tmp_path: Path, cost: object) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(json.dumps({"1": {"subsampling_cost": cost, "layer_cost": 1e-12, "source": ""}}))
    assert search.read_speeds(path) == {}


def test_foreign_lines_of_a_log_are_not_evaluations() -> None:
    wer = {"layers2/data/whole": 5.0}
    assert is_evaluation({"step": 1, "audio_s": 8, "elapsed_s": 0.1, "wer": wer})
    for line in ({"wer": wer}, {"audio_s": 8, "wer": wer}, {"audio_s": 8, "elapsed_s": 1, "wer": 5.0}, {"step": 1}):
        assert not is_evaluation(line)


@pytest.mark.parametrize(
    "text", ["", "[]", "[1]", '{"1": 2}', '{"1": {}}', '{"1": {"subsampling_cost": 1}}', "{", "[" * 100_000]
)
def test_damaged_measurements_of_this_machine_are_made_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "speeds.json"
    path.write_text(text)
    assert search.read_speeds(path) == {}


def test_multiplications_by_hand() -> None:
    """Two layers of width 16 after subsampling with 8 channels over 16 bands, 25 frames a second."""
    config = small_config()
    encoder, n_mels, tokens = config.encoder, config.frontend.n_mels, len(config.vocabulary)
    subsampling = 2 * (n_mels // 2) * 8 * 9 + n_mels // 4 * (8 * 8 * 9 + 8 * 16) + 16 * tokens
    layer = 4 * 16 * encoder.d_feed_forward + 5 * 16 * 16 + 3 * 16 * 16 + 16 * encoder.conv_kernel
    assert config.multiplications == (25 * subsampling, 25 * encoder.n_layers * layer)


def test_pareto_front() -> None:
    best, small, beaten = (
        Candidate(8, 32, 16, 8, "int8", 8.0, 0.006, 10.0),
        Candidate(3, 32, 16, 8, "int8", 4.0, 0.003, 30.0),
        Candidate(5, 32, 16, 8, "int8", 8.0, 0.007, 12.0),
    )
    assert pareto([best, beaten, small]) == [small, best]


def test_search_trains_only_what_fits(tmp_path: Path, reference: Path, profile: Path, capsys) -> None:
    manifest = str(write_test_manifest(tmp_path))
    command = ["search", "--reference", str(reference), "--layers", "1", "2", "4", "--feed-forward", "1", "0.5"]
    command += ["--train", manifest, "--dev", manifest, "--profile", str(profile), *SHORT]
    command += ["--steps", "2", "-o", str(tmp_path / "out")]
    assert main([*command, "--max-rtf", "0.0035"]) == 0
    found = json.loads((tmp_path / "out" / "search.json").read_text())
    assert "4 of 6 candidates fit" in capsys.readouterr().out
    assert {one["n_layers"] for one in found["candidates"]} == {1, 2} and found["pareto"]
    assert all(math.isfinite(one["wer"]) for one in found["candidates"])
    widths = {(one["d_feed_forward"], one["d_attention"], one["channels"]) for one in found["candidates"]}
    assert widths == {(32, 8, 3), (16, 8, 3)}  # 0.55 of heads of width 8 is 4, 0.36 of 8 channels is 3
    assert main([*command, "--max-mb", "0.0001"]) == 2
    assert "no candidate fits" in capsys.readouterr().err
    for option in ("--attention", "--subsampling"):
        assert main([*command, option, "0"]) == 2
        assert f"{option} must be shares above 0 and at most 1, got 0.0" in capsys.readouterr().err


def test_search_measures_this_machine_once(
    tmp_path: Path, reference: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    manifest = str(write_test_manifest(tmp_path))
    costs = iter([1e-12, 9.0])
    monkeypatch.setattr(search, "measure_here", lambda *_: LatencyModel(*2 * [next(costs)], "this machine"))
    command = ["search", "--reference", str(reference), "--layers", "1", "--feed-forward", "1", "--train", manifest]
    command += ["--dev", manifest, *SHORT, "--steps", "2", "--max-rtf", "1", "-o", str(tmp_path / "out")]
    assert main(command) == 0
    assert main(command) == 0  # a second measurement would leave nothing that fits
    assert main([*command, "--precisions", "float32"]) == 2
    assert "needs --profile of a float32 model" in capsys.readouterr().err


def test_search_by_transcripts_with_frozen_subsampling(tmp_path: Path, reference: Path, profile: Path) -> None:
    manifest, out = str(write_test_manifest(tmp_path)), tmp_path / "out"
    command = ["search", "--reference", str(reference), "--layers", "1", "--feed-forward", "1", *SHORT]
    command += ["--train", manifest, "--dev", manifest, "--profile", str(profile), "--steps", "2", "--layer-steps", "0"]
    command += ["--loss", "mse=0", "clip=0", "kl=0", "hidden=0", "ctc=1", "--freeze-subsampling"]
    assert main([*command, "-o", str(out)]) == 0
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert {name.partition("/")[2] for entry in entries for name in entry if "/" in name} == {"ctc"}
    (trained,) = out.glob("layers1*.safetensors")
    student, teacher = (load_checkpoint(path)[0].encoder.subsampling for path in (trained, reference))
    rows = teacher.conv1.weight.flatten(1).tolist()
    assert all(row in rows for row in student.conv1.weight.flatten(1).tolist())  # unchanged


def test_adapt_refuses_a_loss_of_accuracy_on_general_speech(tmp_path: Path, reference: Path, capsys) -> None:
    manifest = str(write_test_manifest(tmp_path))
    student = tmp_path / "student.safetensors"
    save_checkpoint(student, small_model(normalization="running"), letters_tokenizer())
    command = ["adapt", str(student), "--train", manifest, *SHORT, "--epochs", "2", "--freeze-subsampling"]
    command += ["--general", manifest, "-o", str(tmp_path / "out")]
    assert main([*command, "--max-general-loss", "300"]) == 0
    assert "general speech, student/data/whole: WER" in capsys.readouterr().out
    adapted = load_checkpoint(tmp_path / "out" / "student.safetensors")[0]
    before = load_checkpoint(student)[0].encoder.subsampling
    assert torch.equal(adapted.encoder.subsampling.linear.weight, before.linear.weight)
    kept = json.loads((tmp_path / "out" / "general.json").read_text())
    assert set(kept) == {"before", "after"} and set(kept["before"]) == set(kept["after"])
    assert main([*command, "--max-general-loss", "-1000"]) == 2
    assert "WER on general speech must rise by at most" in capsys.readouterr().err
    assert main(["adapt", str(student), "--train", manifest, *SHORT, "-o", str(tmp_path)]) == 2
    message = f"-o must be another folder, got {tmp_path}: the trained students would replace {student}"
    assert message in capsys.readouterr().err
    assert main([*command, "--max-utterance-s", "0.1"]) == 2
    assert "more than --max-utterance-s 0.1: cut it into sentences" in capsys.readouterr().err


def test_trained_students_are_trained_further_end_to_end(tmp_path: Path, reference: Path, capsys) -> None:
    manifest = str(write_test_manifest(tmp_path))
    student = init_from_reference(load_checkpoint(reference)[0], (0, 2))
    save_checkpoint(tmp_path / "student.safetensors", student, letters_tokenizer())
    command = ["represent", "--reference", str(reference), "--students", str(tmp_path / "student.safetensors")]
    command += ["--train", manifest, *SHORT, "--steps", "4", "-o", str(tmp_path / "out")]
    assert main(command) == 0
    assert all("student/layers" not in line for line in (tmp_path / "out" / "log.jsonl").read_text().splitlines())
    assert main([*command, "--layer-steps", "2"]) == 2
    assert "--layer-steps must be 0 with --students" in capsys.readouterr().err
