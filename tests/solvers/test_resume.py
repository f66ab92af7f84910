"""What may change between two starts of a run, and what is refused with the key that differs."""

import copy
import json
import shutil

import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.solvers.resume import check_resumable, settings_for_resume

MODEL = {"hidden_size": 32, "num_attention_heads": 4}
DATA = {"the training split (DATASET.TRAIN)": "1a", "the dev split (DATASET.DEV, EVAL.*)": "2b"}


def settings(world_size=2, dropout=True, model=MODEL, data=DATA, **keys):
    cfg = get_cfg_defaults()
    cfg.OPTIMIZATION.BATCH_SIZE = 4
    for key, value in keys.items():
        section, name = key.split("__")
        cfg[section][name] = value
    return settings_for_resume(cfg, world_size, dict(model), dropout, dict(data))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"OPTIMIZATION__LR": 1e-5}, "OPTIMIZATION.LR was 2e-05 and is 1e-05"),
        ({"OPTIMIZATION__EPOCHS": 31}, "OPTIMIZATION.EPOCHS was 30 and is 31"),
        ({"OPTIMIZATION__MAX_STEPS": 7}, "OPTIMIZATION.MAX_STEPS was 0 and is 7"),
        ({"OPTIMIZATION__DROPOUT": 0.2}, "OPTIMIZATION.DROPOUT was 0.1 and is 0.2"),
        ({"OPTIMIZATION__AMP": "bf16"}, "OPTIMIZATION.AMP was 'off' and is 'bf16'"),
        ({"OPTIMIZATION__WEIGHT_DECAY": 0.0}, "OPTIMIZATION.WEIGHT_DECAY was 0.05 and is 0.0"),
        ({"INPUT__MAX_REGION": 50}, "INPUT.MAX_REGION was 70 and is 50"),
        ({"INPUT__ADD_OD_LABEL": False}, "INPUT.ADD_OD_LABEL was True and is False"),
        ({"MISC__SEED": 1}, "MISC.SEED was 123 and is 1"),
        ({"model": {**MODEL, "num_attention_heads": 8}}, "num_attention_heads of the model (config.json in PRETRAINED"),
        ({"model": {**MODEL, "extra": 1}}, "extra of the model (config.json in PRETRAINED.DIR) was None and is 1"),
        ({"data": {**DATA, "the training split (DATASET.TRAIN)": "9"}}, "the content of the training split (DATASET"),
        ({"data": {**DATA, "the dev split (DATASET.DEV, EVAL.*)": "9"}}, "the content of the dev split (DATASET.DEV"),
        ({"OPTIMIZATION__BATCH_SIZE": 8}, "BATCH_SIZE was 4 and is 8; the number of processes x OPTIMIZATION.BATCH_S"),
        ({"world_size": 4}, "the number of processes was 2 and is 4; the number of processes x OPTIMIZATION.BATCH_S"),
        ({"world_size": 1, "OPTIMIZATION__BATCH_SIZE": 8}, "the number of processes was 2 and is 1; dropout masks"),
        (
            {"OPTIMIZATION__BATCH_SIZE": 2, "OPTIMIZATION__GRADIENT_ACCUMULATION_STEPS": 2},
            "OPTIMIZATION.BATCH_SIZE was 4 and is 2; dropout masks depend on it",
        ),
    ],
)
def test_refused(changes, words):
    with pytest.raises(ConfigError) as refusal:
        check_resumable(settings(), settings(**changes), "exp/run/checkpoint-5")
    assert str(refusal.value).startswith("exp/run/checkpoint-5: cannot be resumed exactly: ")
    assert words in str(refusal.value)
    way_on = "start a new run with PRETRAINED.DIR = exp/run/checkpoint-5 and PRETRAINED.FROM_SCRATCH False"
    assert str(refusal.value).count(way_on) == 1
    of_the_model = "model" in changes
    assert ("or ask for it with PRETRAINED.RESUME_INEXACT True" in str(refusal.value)) is not of_the_model


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"world_size": 1}, "the number of processes was 2 and is 1"),
        ({"OPTIMIZATION__EPOCHS": 31}, "OPTIMIZATION.EPOCHS was 30 and is 31"),
        ({"OPTIMIZATION__DROPOUT": 0.2, "model": {**MODEL, "hidden_dropout_prob": 0.2}}, "DROPOUT was 0.1 and is 0.2"),
        ({"data": {**DATA, "the training split (DATASET.TRAIN)": "9"}}, "the content of the training split (DATASET"),
    ],
)
def test_inexact_on_demand(changes, words, caplog):
    assert check_resumable(settings(), settings(**changes), "checkpoint-5", inexact=True) is False
    assert words in caplog.text and "not those of an unbroken run" in caplog.text
    caplog.clear()
    assert check_resumable(settings(), settings(), "checkpoint-5", inexact=True) is True
    assert not caplog.text


def test_keys_that_are_younger_than_the_checkpoint_count_as_their_defaults():
    old = settings()
    del old["keys"]["CAPTION.SCST"], old["keys"]["CAPTION.SCST_SAMPLES"]
    assert check_resumable(old, settings(), "checkpoint-5") is True
    with pytest.raises(ConfigError, match="CAPTION.SCST was False and is True"):
        check_resumable(old, settings(CAPTION__SCST=True), "checkpoint-5")


def test_another_model_never_resumes():
    other = settings(model={**MODEL, "num_attention_heads": 8})
    with pytest.raises(ConfigError, match="num_attention_heads of the model"):
        check_resumable(settings(), other, "checkpoint-5", inexact=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"MONITOR__PRINT_STEP": 1, "MONITOR__EVAL_STEPS": 3, "MONITOR__VISUALDL": True},
        {"OUTPUT__SAVE_STEPS": 3, "OUTPUT__KEEP": 1, "OUTPUT__CHECKPOINT_DIR": "/elsewhere"},
        {"MISC__NUM_WORKERS": 0, "MISC__NUM_THREADS": 3, "INPUT__FEATURE_CACHE_MB": 0},
        {"OPTIMIZATION__RECOMPUTE": True, "OPTIMIZATION__EARLY_STOP_PATIENCE": 3},
        {"DATASET__DATA_DIR": "/moved", "PRETRAINED__DIR": "/moved"},  # their content decides
        {"data": {"the training split (DATASET.TRAIN)": "1a"}},  # no evaluation any more
    ],
)
def test_allowed(changes):
    check_resumable(settings(), settings(**changes), "checkpoint-5")


@pytest.mark.parametrize(
    ("world_size", "batch", "accumulation"), [(1, 8, 1), (4, 2, 1), (8, 1, 1), (1, 1, 8), (2, 2, 2)]
)
def test_same_examples_without_dropout(world_size, batch, accumulation):
    keys = {"OPTIMIZATION__BATCH_SIZE": batch, "OPTIMIZATION__GRADIENT_ACCUMULATION_STEPS": accumulation}
    present = settings(world_size=world_size, dropout=False, **keys)
    check_resumable(settings(dropout=False), present, "checkpoint-5")


def test_length_is_free_with_a_constant_rate():
    constant = {"OPTIMIZATION__LR_SCHEDULER": "constant"}
    check_resumable(settings(**constant), settings(OPTIMIZATION__EPOCHS=40, **constant), "checkpoint-5")


def test_settings_survive_json():
    saved = json.loads(json.dumps(settings()))
    assert saved == settings()
    check_resumable(saved, copy.deepcopy(settings()), "checkpoint-5")


# ---- the same with real processes, on what is really saved


def test_a_changed_yaml(training, unbroken, tmp_path):
    """Refused where it matters, free where it does not; a refused start leaves the run folder as it was."""
    run = shutil.copytree(unbroken, tmp_path / "run", symlinks=True)
    before = {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    for opts, words in (
        (("OPTIMIZATION.LR", 5e-4), "OPTIMIZATION.LR was 0.001 and is 0.0005"),
        (("INPUT.MAX_REGION", 5), "INPUT.MAX_REGION was 12 and is 5"),
        (("OPTIMIZATION.ATTENTION_DROPOUT", 0), "OPTIMIZATION.ATTENTION_DROPOUT was -1.0 and is 0.0"),
        (
            (
                "EVAL.EVAL_CROSS_IMAGE",
                False,
                "EVAL.EVAL_CAPTION_INDEX_FILE",
                "minival_caption_indexs_top20.pt",
                "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV",
                10,
            ),
            "the content of the dev split",
        ),
        (("OPTIMIZATION.BATCH_SIZE", 2), "OPTIMIZATION.BATCH_SIZE was 4 and is 2"),
        (("PRETRAINED.RESUME", ""), "holds checkpoints of an earlier run; set PRETRAINED.RESUME to auto"),
    ):
        code, stderr = training(run, *opts)
        assert code in (1, 2), stderr
        assert words in stderr
        assert "Traceback" not in stderr
    after = {str(path): path.read_bytes() for path in run.rglob("*") if path.is_file() and path.name != "log.txt"}
    assert after == before
    code, stderr = training(run, "MONITOR.PRINT_STEP", 1, "MISC.NUM_WORKERS", 0, "OUTPUT.KEEP", 1)
    assert code == 0, stderr


def test_a_checkpoint_folder_by_name(training, unbroken, result, tmp_path):
    """RESUME names a checkpoint of another run; the new folder gets the steps after it, equal to the old ones."""
    run = tmp_path / "run"
    code, stderr = training(run, "PRETRAINED.RESUME", unbroken / "checkpoint-28")
    assert code == 0, stderr
    found, expected = result(run), result(unbroken)
    assert (found.weights, found.moments) == (expected.weights, expected.moments)
    assert found.records == [record for record in expected.records if record["step"] > 28]
    code, stderr = training(tmp_path / "other", "PRETRAINED.RESUME", tmp_path / "nowhere")
    assert code == 1
    assert f"error: {tmp_path}/nowhere: no such checkpoint folder" in stderr


def test_going_back_in_the_same_folder(training, unbroken, result, tmp_path):
    run = shutil.copytree(unbroken, tmp_path / "run", symlinks=True)
    code, stderr = training(run, "PRETRAINED.RESUME", run / "checkpoint-28")
    assert code == 0, stderr
    assert "renaming it to set-aside-checkpoint-30" in stderr
    assert result(run) == result(unbroken)


A100, H100, CPU = "gpu (NVIDIA A100)", "gpu (NVIDIA H100)", "cpu (AMD EPYC)"


def test_another_kind_of_device_is_refused_with_dropout(caplog):
    with pytest.raises(
        ConfigError, match=r"\(MISC.DEVICE\) was 'gpu \(.*set MISC.DEVICE gpu\).*start .*DIR = run/ckpt"
    ):
        check_resumable({**settings(), "device": A100}, {**settings(), "device": CPU}, "run/ckpt")
    free = settings(dropout=False)
    check_resumable({**free, "device": A100}, {**free, "device": CPU}, "run/ckpt")
    assert f"run/ckpt: was computed on {A100}; on {CPU} the last bits" in caplog.text


def test_another_model_of_device_is_warned_of(caplog):
    older = {key: value for key, value in settings().items() if key != "device"}
    for saved, warned in ((A100, False), (None, False), (H100, True)):
        start = older if saved is None else {**older, "device": saved}
        check_resumable(start, {**settings(), "device": A100}, "run/ckpt")
        assert ("was computed on" in caplog.text) == warned
