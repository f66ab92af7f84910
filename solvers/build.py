"""Models from a config."""

import logging
from pathlib import Path

import paddle

from oscar_paddle.config.checks import contradiction
from oscar_paddle.config.default import value_of
from oscar_paddle.config.errors import ConfigError, WeightsError
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.checkpoints.input_settings import OUR_KEYS, check_meaning, stored_settings
from oscar_paddle.models.checkpoints.weights import fresh_parts, load_into, read_state, without_head
from oscar_paddle.models.config import CONFIG, BertConfig, read_model_config
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.models.scratch import let_equals_attend

log = logging.getLogger(__name__)


def as_trained(cfg, needs=None, config_class=BertConfig):
    """The config of an evaluation with the settings that its checkpoint was trained with, where `cfg` sets none.

    A setting that contradicts the checkpoint's stays, with a warning. Region types stay, too: all are read alike.

    Args:
        cfg: the frozen config, as `load_config` gives it.
        needs: as for `load_config`.
        config_class: what the model reads config.json as.
    Raises:
        WeightsError: no checkpoint. ConfigError: the settings cannot be meant together.
    """
    folder, origins, cfg = cfg.EVAL.CHECKPOINT_DIR, getattr(cfg, "origins", {}), cfg.clone()
    settings = stored_settings(folder)
    told = {OUR_KEYS[f]: (getattr(settings, f), source) for f, source in settings.told_by.items() if f in OUR_KEYS}
    told.pop("INPUT.IMG_FEATURE_TYPE", None)
    told["INPUT.IMG_FEATURE_DIM"] = read_model_config(folder, config_class).img_feature_dim, CONFIG
    for key, (trained, source) in told.items():
        found, (section, name) = value_of(cfg, key), key.split(".")
        if key in origins and found != trained:
            words = "%s is %r (%s), but the checkpoint was trained with %r (%s/%s)"
            log.warning(words, key, found, origins[key], trained, folder, source)
        elif found != trained:
            cfg[section][name] = trained
            log.info("%s is %r, as the checkpoint was trained (%s/%s)", key, trained, folder, source)
    keys, remedy = contradiction(cfg, needs)
    if keys:
        found = ", ".join(f"{key} is {value_of(cfg, key)!r}" for key in keys)
        raise ConfigError(f"{found} (set, or as {folder} was trained): {remedy}")
    return cfg


def load_tokenizer(cfg, folder):
    """The tokenizer of a checkpoint folder, or of INPUT.BERT_MODEL when the folder has no vocab.txt.

    Raises:
        WeightsError: no such folder, or not that of a checkpoint: said before a vocabulary is fetched or data are read.
    """
    read_model_config(folder)
    source = folder if (Path(folder) / "vocab.txt").is_file() else cfg.INPUT.BERT_MODEL
    return build_tokenizer(str(source), cfg.INPUT.DO_LOWER_CASE)


def model_for_training(cfg, tokenizer, head):
    """A model that starts from PRETRAINED.DIR, with the settings of this run in its config.

    Plain BERT gets a fresh image embedding; PRETRAINED.FROM_SCRATCH starts every weight afresh. `head` is the task's.
    """
    folder = cfg.PRETRAINED.DIR
    model_class = head.model_class
    model_config = read_model_config(folder, model_class.config_class)
    state = {} if cfg.PRETRAINED.FROM_SCRATCH else model_class.upstream(read_state(folder))
    if cfg.PRETRAINED.FRESH_HEAD:
        state = without_head(state, model_class.head_parts)
    if state:
        keeps_head = any(name.startswith(model_class.head_parts) for name in state)
        check_meaning(folder, tokenizer.vocab, head.answers if keeps_head else None)
    fresh = fresh_parts(state, model_class.head_parts)
    if cfg.PRETRAINED.USE_IMG_LAYERNORM >= 0:
        model_config.use_img_layernorm = cfg.PRETRAINED.USE_IMG_LAYERNORM
        fresh = (*fresh, "bert.LayerNorm.")  # upstream: the forced flag adds an untrained LayerNorm where there is none
    elif "bert.LayerNorm." in fresh and state and head.adds_layernorm:
        model_config.use_img_layernorm = 1
    for key, value in head.config.items():
        setattr(model_config, key, value)
    model_config.loss_type = cfg.OPTIMIZATION.LOSS_TYPE
    model_config.img_feature_dim = cfg.INPUT.IMG_FEATURE_DIM
    model_config.img_feature_type = cfg.INPUT.IMG_FEATURE_TYPE
    model_config.hidden_dropout_prob = cfg.OPTIMIZATION.DROPOUT
    if cfg.OPTIMIZATION.ATTENTION_DROPOUT >= 0:
        model_config.attention_probs_dropout_prob = cfg.OPTIMIZATION.ATTENTION_DROPOUT
    check_input_fits(cfg, model_config, tokenizer, folder)
    paddle.seed(cfg.MISC.SEED)
    model = model_class(model_config)
    if not cfg.PRETRAINED.FROM_SCRATCH:
        load_into(model, state, folder, fresh)
    elif cfg.PRETRAINED.SCRATCH_WEIGHTS == "alike":
        let_equals_attend(model.bert)
    model.recompute = cfg.OPTIMIZATION.RECOMPUTE
    millions = sum(p.size for p in model.parameters()) / 1e6
    log.info("model: %.2f million parameters, from %s", millions, "scratch" if cfg.PRETRAINED.FROM_SCRATCH else folder)
    return model


def model_for_evaluation(cfg, tokenizer, model_class=OscarForClassification):
    """The model of EVAL.CHECKPOINT_DIR, built from its own config.json; every weight must be there."""
    folder = cfg.EVAL.CHECKPOINT_DIR
    check_input_fits(cfg, read_model_config(folder, model_class.config_class), tokenizer, folder)
    check_meaning(folder, tokenizer.vocab)
    return load(folder, model_class)


def load(checkpoint, model_class=OscarForClassification):
    """The network of a checkpoint folder (PyTorch, Hugging Face, VinVL-Paddle or our own), in evaluation mode.

    Args:
        model_class: OscarForImagePairs for statements about two images. `model.config` has what config.json says.
    Raises:
        WeightsError: the folder is missing, damaged, or does not hold every weight of this network and no other.
    """
    model = model_class(read_model_config(checkpoint, model_class.config_class))
    load_into(model, model_class.upstream(read_state(checkpoint)), checkpoint)
    model.eval()
    return model


def check_input_fits(cfg, model_config, tokenizer, folder):
    """Refuse input settings that the weights have no room for.

    Raises:
        ConfigError: INPUT.MAX_SEQ_LEN beyond the position table, or another IMG_FEATURE_DIM than the weights'.
        WeightsError: a vocabulary with more words than the word table.
    """
    positions = model_config.max_position_embeddings
    if positions < cfg.INPUT.MAX_SEQ_LEN:
        raise ConfigError(
            f"INPUT.MAX_SEQ_LEN is {cfg.INPUT.MAX_SEQ_LEN}, but {folder}/config.json has {positions} positions "
            "(max_position_embeddings)"
        )
    if model_config.img_feature_dim != cfg.INPUT.IMG_FEATURE_DIM:
        raise ConfigError(
            f"INPUT.IMG_FEATURE_DIM is {cfg.INPUT.IMG_FEATURE_DIM}, but {folder}/config.json has "
            f"img_feature_dim {model_config.img_feature_dim}"
        )
    if tokenizer.vocab_size > model_config.vocab_size:
        raise WeightsError(
            f"{folder}: the vocabulary has {tokenizer.vocab_size} words, but config.json says vocab_size "
            f"{model_config.vocab_size}"
        )
