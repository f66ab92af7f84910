# Two commands do everything: `make quickstart` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
MINUTES ?= 5

# Of the quick starts. FAST=1 is a run of seconds that learns nothing; ROOT=DIR (no spaces) puts everything elsewhere.
ROOT  ?= quickstart$(if $(FAST),/fast)
SIZES ?= $(if $(FAST),--train 60 --dev 10 --test 12,--train 3000 --dev 100 --test 200)
MODEL ?= $(if $(FAST),--hidden_size 32 --num_hidden_layers 1 --intermediate_size 64,--hidden_size 96 --intermediate_size 384)
MODEL_WORDS ?= $(if $(FAST),1 layer of width 32,3 layers of width 96), from scratch

.PHONY: fuzz fuzz-tokenizer fuzz-captions captioning-scores test-install help install install-gpu install-dev quickstart quickstart-vqa quickstart-gqa quickstart-nlvr2 quickstart-captioning quickstart-pretraining quickstart-refer report-picture test lint clean

help:  ## list the commands
	@grep -E '^[a-z0-9 -]+:.*##' Makefile | sed -E 's/:.*## /\t/' | expand -t 16

install: $(if $(GPU),install-gpu,$(VENV)/.installed)  ## create .venv and install what training and evaluation need; GPU=cu126: for NVIDIA cards

install-dev: $(VENV)/.installed-dev  ## the same and what the tests need

# Packages belong to one version of Python: the environment is made anew when PYTHON is another than it was made with.
WANTED := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
FOUND  := $(shell sed -nE 's/^version(_info)? *= *([0-9]+\.[0-9]+).*/\2/p' $(VENV)/pyvenv.cfg 2>/dev/null)
OTHER  := $(filter-out $(WANTED),$(FOUND))

$(VENV)/.installed: requirements.txt requirements-common.txt pyproject.toml $(if $(OTHER),FORCE)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed" if sys.version_info < (3, 10) else 0)'
	@$(if $(OTHER),echo "== making $(VENV) anew: it was made with Python $(OTHER) and PYTHON is $(WANTED)")
	@$(if $(OTHER),$(PYTHON) -m venv --clear $(VENV),test -x $(BIN)/python || $(PYTHON) -m venv $(VENV))
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -r requirements.txt
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.txt
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	touch $@

# The wheels for CPUs and GPUs fill the same folder, so what is there goes first. Which GPU=...: docs/training.md.
install-gpu:
	@$(if $(OTHER),$(PYTHON) -m venv --clear $(VENV),test -x $(BIN)/python || $(PYTHON) -m venv $(VENV))
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip uninstall --quiet --yes paddlepaddle paddlepaddle-gpu
	$(BIN)/python -m pip install --quiet paddlepaddle-gpu==3.3.1 -i https://www.paddlepaddle.org.cn/packages/stable/$(GPU)/
	$(BIN)/python -m pip install --quiet -r requirements-gpu.txt
	touch $(VENV)/.installed

quickstart: $(ROOT)/eval/metrics.json  ## generate scenes, train a small model on the CPU, evaluate it, write a report page
	@echo "== 4 of 4: writing the report page"
	$(BIN)/python tools/report_retrieval.py --eval_dir $(ROOT)/eval --output $(ROOT)/report.html $(call page,scenes_train) \
	  --title "Quick start: finding scenes by captions, and captions by scenes" --fact "Model=$(MODEL_WORDS)"

quickstart-vqa quickstart-gqa quickstart-nlvr2: quickstart-%: quickstart $(ROOT)/%_eval/metrics.json  ## then learn to answer questions about the scenes
	@echo "== 4 of 4: writing the report page"
	$(BIN)/python tools/report_answers.py --eval_dir $(ROOT)/$*_eval --output $(ROOT)/$*.html $(call page,scenes_$*_train) \
	  --guessing $(SCENES)/$* --title "Quick start, $(TITLE_$*)" --fact "Starts from=$(ROOT)/scenes_train/last"

quickstart-refer: $(ROOT)/refer_eval/metrics.json $(ROOT)/refer_eval_expressions/metrics.json $(ROOT)/refer_eval_features/metrics.json  ## train a small ViLBERT that points at what an expression about a scene means
	@echo "== 4 of 4: writing the report page"
	$(BIN)/python tools/report_refer.py --eval_dir $(ROOT)/refer_eval --output $(ROOT)/refer.html --images $(SCENES)/images \
	  --controls $(ROOT)/refer_eval_expressions $(ROOT)/refer_eval_features --run_folder $(ROOT)/scenes_refer_train \
	  --title "Quick start, ViLBERT: expressions about scenes" --fact "Starts from=random weights" $(call trained_in,scenes_refer_train)

# The stages of the quick starts. Every stage is a file that is made anew when something it depends on is newer; training
# resumes itself and evaluation keeps what it has scored, so the same command goes on after an interruption.
TASKS     := vqa gqa nlvr2
TITLE_vqa   = VQA: questions about scenes
TITLE_gqa   = GQA: questions that take two steps
TITLE_nlvr2 = NLVR2: statements about two scenes
SCENES     = $(ROOT)/scenes
DRAW       = $(BIN)/python tools/make_scenes.py --root $(SCENES) $(SIZES) $(MODEL) --dropout 0 --initializer_range 0.1
UPDATES    = OPTIMIZATION.MAX_STEPS $(1) OPTIMIZATION.BATCH_SIZE 8 OPTIMIZATION.WARMUP_STEPS 1
about      = $(if $(FAST),, (about $(1) on 2 cores))

# What the YAML files say of quickstart/, for another ROOT. $(1): data, $(2): start of training, $(3): run, $(4): further.
moved = DATASET.DATA_DIR $(1) DATASET.FEAT_FILE $(SCENES)/model_0060000/features.tsv PRETRAINED.DIR $(2) \
  OUTPUT.CHECKPOINT_DIR $(ROOT) EVAL.CHECKPOINT_DIR $(ROOT)/$(3)/last
opts = $(if $(filter-out quickstart,$(ROOT)),--opts $(moved) $(4),$(if $(4),--opts $(4)))
trunk_opts = $(call opts,$(SCENES)/coco_ir,$(SCENES)/init,scenes_train,$(1))
task_opts  = $(call opts,$(SCENES)/$*,$(ROOT)/scenes_train/last,scenes_$*_train,$(1))

# What the report pages are told. $(1): run folder.
page = --images $(SCENES)/images --features $(SCENES)/model_0060000/predictions.tsv --run_folder $(ROOT)/$(1) \
  $(call trained_in,$(1))
trained_in = --fact "Checkpoint=$(ROOT)/$(1)/last" \
  --fact "Training=$$(( $$(stat -c %Y $(ROOT)/$(1)/trained) - $$(stat -c %Y $(ROOT)/$(1)/started) )) s, breaks included"

# Always run: it keeps scenes that are there, refuses those of other sizes, and touches init/ only when that changes.
$(SCENES)/init/config.json: FORCE | $(VENV)/.installed
	@echo "== 1 of 4: drawing scenes$(call about,a minute)"
	$(DRAW)

FORCE:

# A run starts afresh when its settings or data have changed, and goes on when it was interrupted.
$(ROOT)/scenes_train/started: $(SCENES)/init/config.json configs/scenes_train.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(ROOT)/scenes_train/trained: $(ROOT)/scenes_train/started
	@echo "== 2 of 4: training a small model from scratch$(call about,3 minutes)"
	$(BIN)/python tools/train_retrieval.py --cfg_file configs/scenes_train.yaml $(call trunk_opts,$(if $(FAST),$(call UPDATES,6)))
	@touch $@

$(ROOT)/eval/metrics.json: $(ROOT)/scenes_train/trained configs/scenes_test.yaml
	@echo "== 3 of 4: comparing new scenes with captions$(call about,a minute)"
	$(BIN)/python tools/eval_retrieval.py --cfg_file configs/scenes_test.yaml --output_dir $(@D) $(call trunk_opts)
	@touch $@

$(TASKS:%=$(SCENES)/%/task.json): $(SCENES)/%/task.json: | $(SCENES)/init/config.json
	@echo "== 1 of 4: asking questions"
	$(DRAW) --tasks $*

$(TASKS:%=$(ROOT)/scenes_%_train/started): $(ROOT)/scenes_%_train/started: $(SCENES)/%/task.json \
    $(ROOT)/scenes_train/trained configs/scenes_%_train.yaml configs/scenes_vqa_train.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(TASKS:%=$(ROOT)/scenes_%_train/trained): $(ROOT)/scenes_%_train/trained: $(ROOT)/scenes_%_train/started
	@echo "== 2 of 4: training, from the quick start's model$(call about,3 to 5 minutes)"
	$(BIN)/python tools/train_$*.py --cfg_file configs/scenes_$*_train.yaml $(call task_opts,$(if $(FAST),$(call UPDATES,4)))
	@touch $@

$(TASKS:%=$(ROOT)/%_eval/metrics.json): $(ROOT)/%_eval/metrics.json: $(ROOT)/scenes_%_train/trained configs/scenes_%_test.yaml
	@echo "== 3 of 4: answering new questions"
	$(BIN)/python tools/eval_$*.py --cfg_file configs/scenes_$*_test.yaml --output_dir $(@D) $(call task_opts)
	@touch $@

# Pre-training on scenes: for three seeds, retrieval fine-tuned from pre-trained weights and from the random ones that the
# pre-training began with, in the same steps. The corpus has the training pictures, a second one those of dev.
PRE       = $(ROOT)/pretraining
SEEDS    ?= 1 2 3
PRE_OPTS ?= MISC.NUM_THREADS 0
pre_opts  = OUTPUT.CHECKPOINT_DIR $(PRE) OUTPUT.SAVE_NAME $(1) MISC.SEED $* $(PRE_OPTS) $(if $(FAST),$(call UPDATES,4))
pre_data  = DATASET.DATA_DIR $(SCENES)/coco_ir DATASET.FEAT_FILE $(SCENES)/model_0060000/features.tsv
pre_tune  = $(BIN)/python tools/train_retrieval.py --cfg_file configs/scenes_pretraining_tune.yaml \
  --opts $(pre_data) $(call pre_opts,$(1)-$*) PRETRAINED.DIR
pre_eval  = $(BIN)/python tools/eval_retrieval.py --cfg_file configs/scenes_test.yaml --output_dir $(@D) \
  --opts $(pre_data) INPUT.NUM_CAPTIONS_PER_IMAGE_DEV 2 EVAL.CHECKPOINT_DIR $(PRE)/$(1)-$*/last $(PRE_OPTS)

quickstart-pretraining: $(foreach seed,$(SEEDS),$(PRE)/eval-with-$(seed)/metrics.json $(PRE)/eval-without-$(seed)/metrics.json)  ## pre-train on the scenes, and see what that does for retrieval
	@echo "== pre-trained against not pre-trained, R@1 on unseen scenes"
	$(BIN)/python tools/compare_evaluations.py --first $(SEEDS:%=$(PRE)/eval-with-%) --second $(SEEDS:%=$(PRE)/eval-without-%)
	@echo "== $$(( $$(date +%s) - $$(stat -c %Y $(PRE)/started) )) s in all, breaks included, drawing excluded"

$(PRE)/started: $(SCENES)/init/config.json configs/scenes_pretraining_train.yaml configs/scenes_pretraining_tune.yaml configs/scenes_train.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(PRE)/corpora: $(PRE)/started
	@echo "== making the corpora of training and dev pictures"
	@rm -rf $(PRE)/corpus $(PRE)/corpus_dev
	$(BIN)/python tools/prepare_corpus.py --output_dir $(PRE)/corpus --features scenes $(SCENES)/model_0060000 --captions scenes $(SCENES)/coco_ir train
	$(BIN)/python tools/prepare_corpus.py --output_dir $(PRE)/corpus_dev --features scenes $(SCENES)/model_0060000 --captions scenes $(SCENES)/coco_ir minival
	@touch $@

$(SEEDS:%=$(PRE)/start-%/config.json): $(PRE)/start-%/config.json: $(PRE)/started
	@rm -rf $(@D)
	$(BIN)/python tools/make_start.py --config $(SCENES)/init --output $(@D) --seed $* --classes 2 --alike

$(SEEDS:%=$(PRE)/pre-%/trained): $(PRE)/pre-%/trained: $(PRE)/corpora $(PRE)/start-%/config.json
	@echo "== pre-training, seed $*$(call about,100 s)"
	$(BIN)/python tools/train_pretraining.py --cfg_file configs/scenes_pretraining_train.yaml \
	  --opts DATASET.DATA_DIR $(PRE)/corpus PRETRAINED.DIR $(PRE)/start-$* $(call pre_opts,pre-$*)
	@touch $@

$(SEEDS:%=$(PRE)/with-%/trained): $(PRE)/with-%/trained: $(PRE)/pre-%/trained
	@echo "== fine-tuning from pre-trained weights, seed $*$(call about,15 s)"
	$(call pre_tune,with) $(PRE)/pre-$*/last
	@touch $@

$(SEEDS:%=$(PRE)/without-%/trained): $(PRE)/without-%/trained: $(PRE)/start-%/config.json
	@echo "== the same from the random weights that it began with, seed $*$(call about,15 s)"
	$(call pre_tune,without) $(PRE)/start-$*
	@touch $@

$(SEEDS:%=$(PRE)/eval-with-%/metrics.json): $(PRE)/eval-with-%/metrics.json: $(PRE)/with-%/trained
	$(call pre_eval,with)
	@touch $@

$(SEEDS:%=$(PRE)/eval-without-%/metrics.json): $(PRE)/eval-without-%/metrics.json: $(PRE)/without-%/trained
	$(call pre_eval,without)
	@touch $@

# Captions of scenes: trained by masked words, scored beside what needs no model, then self-critically with three seeds.
CAP       = $(ROOT)/captioning
cap_eval  = $(BIN)/python tools/eval_captioning.py --cfg_file configs/scenes_captioning_test.yaml --output_dir $(@D) \
  --opts DATASET.DATA_DIR $(SCENES)/coco_ir DATASET.FEAT_FILE $(SCENES)/model_0060000/features.tsv EVAL.CHECKPOINT_DIR $(CAP)/$(1)/last
cap_train = $(BIN)/python tools/train_captioning.py --cfg_file configs/$(1).yaml --opts DATASET.DATA_DIR $(SCENES)/coco_ir \
  DATASET.FEAT_FILE $(SCENES)/model_0060000/features.tsv OUTPUT.CHECKPOINT_DIR $(CAP) $(2) $(if $(FAST),$(call UPDATES,4))

quickstart-captioning: quickstart $(CAP)/eval/metrics.json $(CAP)/baselines.json $(SEEDS:%=$(CAP)/eval-scst-%/metrics.json)  ## then learn to write captions of the scenes
	@echo "== 4 of 4: writing the report pages, and what the self-critical training brought"
	$(BIN)/python tools/report_captions.py --eval_dir $(CAP)/eval --output $(CAP)/captions.html --baselines $(CAP)/baselines.json \
	  $(call page,captioning/scenes_captioning_train) --title "Quick start: captions of scenes" --fact "Starts from=$(ROOT)/scenes_train/last"
	$(BIN)/python tools/report_captions.py --eval_dir $(CAP)/eval-scst-$(firstword $(SEEDS)) --output $(CAP)/captions_scst.html \
	  --baselines $(CAP)/baselines.json $(call page,captioning/scst-$(firstword $(SEEDS))) \
	  --title "Quick start: captions of scenes after self-critical training"
	$(BIN)/python tools/compare_evaluations.py --first $(SEEDS:%=$(CAP)/eval-scst-%) --second $(CAP)/eval --metric CIDEr

$(CAP)/scenes_captioning_train/started: $(ROOT)/scenes_train/trained configs/scenes_captioning_train.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(CAP)/scenes_captioning_train/trained: $(CAP)/scenes_captioning_train/started
	@echo "== 1 of 4: learning to write, from the quick start's model$(call about,4 minutes)"
	$(call cap_train,scenes_captioning_train,PRETRAINED.DIR $(ROOT)/scenes_train/last)
	@touch $@

$(CAP)/eval/metrics.json: $(CAP)/scenes_captioning_train/trained configs/scenes_captioning_test.yaml
	@echo "== 2 of 4: writing captions of new scenes, and without a model"
	$(call cap_eval,scenes_captioning_train)
	@touch $@

$(CAP)/baselines.json: $(CAP)/scenes_captioning_train/trained
	$(BIN)/python tools/caption_baselines.py --cfg_file configs/scenes_captioning_test.yaml --output $@ \
	  --opts DATASET.DATA_DIR $(SCENES)/coco_ir DATASET.FEAT_FILE $(SCENES)/model_0060000/features.tsv PRETRAINED.DIR $(ROOT)/scenes_train/last

$(SEEDS:%=$(CAP)/scst-%/started): $(CAP)/scst-%/started: $(CAP)/scenes_captioning_train/trained configs/scenes_captioning_scst.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(SEEDS:%=$(CAP)/scst-%/trained): $(CAP)/scst-%/trained: $(CAP)/scst-%/started
	@echo "== 3 of 4: self-critical training, seed $*$(call about,2 minutes)"
	$(call cap_train,scenes_captioning_scst,PRETRAINED.DIR $(CAP)/scenes_captioning_train/last OUTPUT.SAVE_NAME scst-$* MISC.SEED $*)
	@touch $@

$(SEEDS:%=$(CAP)/eval-scst-%/metrics.json): $(CAP)/eval-scst-%/metrics.json: $(CAP)/scst-%/trained configs/scenes_captioning_test.yaml
	$(call cap_eval,scst-$*)

# Referring expressions: a model and data of their own beside the pictures.
refer_opts = $(if $(filter-out quickstart,$(ROOT)),DATASET.DATA_DIR $(SCENES)/refer \
  DATASET.FEAT_FILE $(SCENES)/refer/proposals.lmdb REFER.GROUND_TRUTH $(SCENES)/refer/annotated.lmdb \
  PRETRAINED.DIR $(SCENES)/refer/init OUTPUT.CHECKPOINT_DIR $(ROOT) EVAL.CHECKPOINT_DIR $(ROOT)/scenes_refer_train/last) $(1)

$(SCENES)/refer/task.json: | $(SCENES)/init/config.json
	@echo "== 1 of 4: referring to objects"
	$(DRAW) --tasks refer

$(ROOT)/scenes_refer_train/started: $(SCENES)/refer/task.json configs/scenes_refer_train.yaml
	@rm -rf $(@D) && mkdir -p $(@D) && touch $@

$(ROOT)/scenes_refer_train/trained: $(ROOT)/scenes_refer_train/started
	@echo "== 2 of 4: training a small model from scratch$(call about,8 minutes)"
	$(BIN)/python tools/train_refer.py --cfg_file configs/scenes_refer_train.yaml --opts MISC.SEED 1 $(call refer_opts,$(if $(FAST),$(call UPDATES,4)))
	@touch $@

$(ROOT)/refer_eval/metrics.json $(ROOT)/refer_eval_expressions/metrics.json $(ROOT)/refer_eval_features/metrics.json: \
    $(ROOT)/refer_eval%/metrics.json: $(ROOT)/scenes_refer_train/trained configs/scenes_refer_test.yaml
	@echo "== 3 of 4: pointing in new pictures$(if $*,: with the $(*:_%=%) of other pictures)"
	$(BIN)/python tools/eval_refer.py --cfg_file configs/scenes_refer_test.yaml --output_dir $(@D) --opts REFER.CONTROL $(if $*,$(*:_%=%),none) $(call refer_opts)
	@touch $@

.DELETE_ON_ERROR:

report-picture: install  ## draw the README's picture of quickstart/report.html (needs chromium)
	$(BIN)/python docs/report_picture.py

test: install-dev lint  ## install everything and run all checks
	$(BIN)/python -m pytest

test-install:  ## build a wheel, install it beside current Hugging Face packages, train, evaluate and score with it
	$(PYTHON) tests/check_install.py

fuzz-tokenizer: install-dev  ## compare the ids of a million odd texts with those that PaddleNLP gives
	$(BIN)/python tests/fuzz/compare_tokenizers.py

captioning-scores: install  ## install the toolkit of caption scores; say what METEOR and SPICE still lack
	$(BIN)/python -m pip install --quiet pycocoevalcap==1.2
	$(BIN)/python -m oscar_paddle.solvers.metrics.toolkit

fuzz-captions: install-dev  ## compare words of 100,000 odd captions with the toolkit's tokeniser (Java)
	$(BIN)/python tests/fuzz/compare_ptb.py

fuzz: install-dev  ## feed damaged files to every reader for some minutes (MINUTES=5)
	$(BIN)/python tests/fuzz/fuzz_readers.py --minutes $(MINUTES)

lint: install-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

clean:  ## remove what the commands above made
	rm -rf $(VENV) quickstart
