"""Every setting there is, with its default value.

The comment above a key says what it means, its unit, its options, and in brackets where it comes from:
``[--flag]`` is that flag of Oscar's ``run_retrieval.py``, ``[VinVL-Paddle]`` a key of that port without such a flag,
``[new]`` a key of this project. Keys shared with VinVL-Paddle keep its names, meaning and defaults, so YAML files
written for it run unchanged. A key's type is the type of its default. The values a key may take are enforced in
``config/checks.py``; the order in which YAML files and ``--opts`` override these defaults is in ``config/loader.py``.
"""

from yacs.config import CfgNode

_DEFAULTS = {
    # ---- what the model sees
    "INPUT": {
        # Vocabulary, used when the checkpoint folder has no vocab.txt: a folder that holds one, or a PaddleNLP name.
        # [--model_name_or_path]
        "BERT_MODEL": "bert-base-uncased",
        # Regions per image: further ones are cut, in file order. VinVL 70, Oscar 50. [--max_img_seq_length]
        "MAX_REGION": 70,
        # Text positions: [CLS] caption [SEP] tags [SEP], in WordPieces. [--max_seq_length]
        "MAX_SEQ_LEN": 70,
        # Values per region: 2048 of the detector and 6 of the box. [--img_feature_dim]
        "IMG_FEATURE_DIM": 2054,
        # Kind of region features, as config.json records it (frcnn, faster_r-cnn, ...); all are read alike. The
        # reference's discrete codes (dis_code*) are not supported. [--img_feature_type]
        "IMG_FEATURE_TYPE": "frcnn",
        # Whether the object tags follow the caption as the second sentence. [--add_od_labels]
        "ADD_OD_LABEL": True,
        # Whether text is lower-cased and stripped of accents before WordPiece. [--do_lower_case]
        "DO_LOWER_CASE": True,
        # Which of Caption, Labels (tags) and Regions see each other: CLR (all) | CL | CR | LR. [--att_mask_type]
        "ATT_MASK_TYPE": "CLR",
        # NLVR2: each image of a pair in an encoder row of its own, with the whole sentence; False puts the regions of
        # both into one row. [--use_pair]
        "USE_PAIR": True,
        # Captions per training image: the first so many; one epoch shows each once. [--num_captions_per_img_train]
        "NUM_CAPTIONS_PER_IMAGE_TRN": 5,
        # Captions per image in evaluation: the first so many with EVAL_CROSS_IMAGE; with EVAL_CAPTION_INDEX_FILE the
        # length of each image's candidate list (20 for COCO minival). [--num_captions_per_img_val]
        "NUM_CAPTIONS_PER_IMAGE_DEV": 5,
        # MiB of decoded region features that each process keeps in memory; 0 = none. [new]
        "FEATURE_CACHE_MB": 1024,
    },
    # ---- where the data are
    "DATASET": {
        # Name of the data set, free text for logs and results. [VinVL-Paddle]
        "NAME": "COCO",
        # Folder with the captions, image-key lists and candidate lists. [--data_dir]
        "DATA_DIR": "",
        # The region features: VinVL's features.tsv (with .lineidx, imageid2idx.json and predictions.tsv beside it);
        # the folder of Oscar v1's {split}_img_{IMG_FEATURE_TYPE}_feats.pt, or of the Paddle ports' folders of that
        # name with an .npy for each image; a folder with an .npz for each image; or a packed store.
        # '' = DATA_DIR/features.tsv if there, else DATA_DIR/../model_0060000/features.tsv, else the other layouts in
        # DATA_DIR (the .npz in DATA_DIR/features). [--img_feat_file]
        "FEAT_FILE": "",
        # Object tags of Oscar v1: the xx of {split}_xx_labels.pt (or .pd). [--od_label_type]
        "OD_LABEL_TYPE": "vg",
        # Whether features that tools/pack_features.py has packed are read instead of their source: auto (float32, if
        # up to date: same bits, several times as fast) | off | float16 (those too: not exact). [new]
        "PACKED": "auto",
        # Split to train on: the xxx of xxx_captions.pt; VQA: train | train+val; GQA, NLVR2: train.
        # [fixed to train in the reference, VQA --do_train_val]
        "TRAIN": "train",
        # Split evaluated during training; VQA, GQA, NLVR2: val. [fixed to minival in the reference]
        "DEV": "minival",
        # Split that tools/eval_<task>.py scores; VQA: val | test2015 | test-dev2015; GQA: val | test-dev | test;
        # NLVR2: val | test1 | val+test1. [--test_split, --do_test, --do_test_dev]
        "TEST": "test",
        # VQA: folder of the question files of train and val ('' = DATA_DIR, where those of test always are).
        # [--txt_data_dir]
        "TXT_DATA_DIR": "",
        # VQA, GQA: pickle answer -> label, in the order that numbers the classes. '' = the published name in DATA_DIR
        # or its folder cache. [--label_file]
        "LABEL_FILE": "",
        # VQA, GQA: pickle with the answers by label. '' = the published name beside LABEL_FILE, if it is there; without
        # it the answers are those of LABEL_FILE. [--label2ans_file]
        "LABEL2ANS_FILE": "",
        # GQA: which file trains: bal (gqa_bal_qla_train.json) | all. [--train_data_type]
        "TRAIN_DATA_TYPE": "all",
        # GQA val: bal | all; NLVR2 val and test1: bal | unbal | all. [--eval_data_type]
        "EVAL_DATA_TYPE": "bal",
        # VQA: mask (files with Mask R-CNN tags, xxx_mrcnn.json) | all (the others); GQA test-dev and NLVR2 test1:
        # bal | anything else means all. [--data_label_type]
        "DATA_LABEL_TYPE": "mask",
        # VQA: train on train2014_vg_qla_mrcnn.json, with the questions of Visual Genome. [--use_vg]
        "USE_VG": False,
        # VQA: evaluate on vg_qla_mrcnn.json, and read train+val_img_frcnn_feats.pt for every split. [--use_vg_dev]
        "USE_VG_DEV": False,
        # Folder for cached token ids. '' = DATA_DIR/.oscar_cache, or the user's cache folder where that is read-only.
        # [new]
        "CACHE_DIR": "",
    },
    # ---- what is written
    "OUTPUT": {
        # Name of the run folder inside CHECKPOINT_DIR. '' = the YAML file's name without .yaml. [VinVL-Paddle]
        "SAVE_NAME": "",
        # Epochs between checkpoints; 0 = never by epoch. [VinVL-Paddle]
        "SAVE_FREQ": 1,
        # Outputs of the retrieval classifier: 2 = not matched | matched; 1 = one matching score, trained by squared
        # error. NLVR2 has 2; VQA and GQA count the answers of LABEL_FILE. [--num_labels]
        "NUM_LABELS": 2,
        # Head of VQA, GQA and NLVR2: linear | mlp. [--classifier]
        "CLASSIFIER": "linear",
        # Hidden width of the mlp head, in hidden sizes. [--cls_hidden_scale]
        "CLS_HIDDEN_SCALE": 2,
        # Folder that holds the run folders. [--output_dir]
        "CHECKPOINT_DIR": "./exp",
        # Also a checkpoint every so many optimizer steps; 0 = off. [--save_steps]
        "SAVE_STEPS": 0,
        # Newest checkpoints kept, besides the best one; 0 = all. [new]
        "KEEP": 3,
    },
    # ---- how the model is trained
    "OPTIMIZATION": {
        # Peak learning rate. [--learning_rate]
        "LR": 2e-5,
        # Adam's epsilon, added to the uncorrected root of the second moment. [--adam_epsilon]
        "EPSILON": 1e-8,
        # sfmx or xe (both: softmax cross entropy) | kl | bce (times the number of labels). VQA: bce, kl, and xe on the
        # best-scored answer (the reference's crashes); GQA: xe; NLVR2: xe. [--loss_type]
        "LOSS_TYPE": "sfmx",
        # Examples per process and micro-batch. In retrieval these are positive pairs; each brings NEGATIVES negative
        # pairs, so 1 + NEGATIVES times as many rows. Examples per step = this x processes x
        # GRADIENT_ACCUMULATION_STEPS. [--per_gpu_train_batch_size]
        "BATCH_SIZE": 32,
        # Optimizer steps in which the learning rate rises from 0 to LR. [--warmup_steps]
        "WARMUP_STEPS": 0,
        # Learning rate after warm-up: linear (falls to 0 at the last step) | constant. [--scheduler]
        "LR_SCHEDULER": "linear",
        # Decoupled weight decay; biases and weights named LayerNorm.weight are exempt. [--weight_decay]
        "WEIGHT_DECAY": 0.05,
        # Passes over the training captions. [--num_train_epochs]
        "EPOCHS": 30,
        # Largest global L2 norm of the gradient; 0 = no clipping. [--max_grad_norm]
        "CLIP_MAX_NORM": 1.0,
        # The optimizer: adamw. [VinVL-Paddle]
        "OPTIMIZER": "adamw",
        # Micro-batches per optimizer step: k of BATCH_SIZE B are exactly one of k x B. The gradient is clipped once, at
        # the step (the reference clips what it has after every micro-batch). [--gradient_accumulation_steps]
        "GRADIENT_ACCUMULATION_STEPS": 1,
        # Hidden dropout during training, probability in [0, 1). [--drop_out]
        "DROPOUT": 0.1,
        # Dropout of attention probabilities, in [0, 1); negative = as the checkpoint's config.json says. [new]
        "ATTENTION_DROPOUT": -1.0,
        # Mixed precision in training, on a GPU: off | bf16 | fp16 (with dynamic loss scaling). Weights and Adam's
        # moments stay float32. [new]
        "AMP": "off",
        # Recompute activations in the backward pass: less memory, about a third more time. [new]
        "RECOMPUTE": False,
        # Negative pairs per positive pair; the reference has 1. [new]
        "NEGATIVES": 1,
        # Stop after this many optimizer steps, and shape the schedule by it; 0 = EPOCHS decides. [--max_steps, which
        # in the reference shapes the schedule only]
        "MAX_STEPS": 0,
        # Stop after this many evaluations in a row without a better dev score; 0 = off. [new]
        "EARLY_STOP_PATIENCE": 0,
    },
    # ---- what is reported while training
    "MONITOR": {
        # Optimizer steps between two lines of the log; metrics.jsonl has a line for every step. [--logging_steps]
        "PRINT_STEP": 100,
        # Epochs between evaluations on DATASET.DEV; 0 = never by epoch. [--evaluate_during_training]
        "EVAL_FREQ": 1,
        # Also evaluate every so many optimizer steps; 0 = off. [new]
        "EVAL_STEPS": 0,
        # Also write the scalars for VisualDL, into the run folder. [new]
        "VISUALDL": False,
    },
    # ---- what training starts from
    "PRETRAINED": {
        # Folder with weights, config.json and vocab.txt: Oscar/VinVL, Hugging Face BERT, VinVL-Paddle or our own.
        # [--model_name_or_path]
        "DIR": "",
        # Go on with an earlier run: '' = no | auto (the run folder's newest whole checkpoint, if any) | a checkpoint
        # folder. Refused where the result would not be exactly that of an unbroken run. [VinVL-Paddle]
        "RESUME": "",
        # Start from random weights of the shape DIR/config.json describes; DIR then needs no weights file. [new]
        "FROM_SCRATCH": False,
        # The random weights of FROM_SCRATCH: plain (as upstream: normal, with config.json's initializer_range) | alike
        # (then keys equal to queries and small position embeddings, so that equal words attend to each other from the
        # first step: a small model otherwise spends much of a short run finding that out). [new]
        "SCRATCH_WEIGHTS": "plain",
        # Start with a new head where the checkpoint has one of another task, instead of an error. [new]
        "FRESH_HEAD": False,
        # LayerNorm on the embedded regions: -1 (as config.json says; in retrieval on when starting from plain BERT) |
        # 0 (off: Oscar) | 1 (on: VinVL). [--use_img_layernorm]
        "USE_IMG_LAYERNORM": -1,
    },
    # ---- how pairs are scored, here and in the evaluation during training
    "EVAL": {
        # Checkpoint folder that tools/eval_retrieval.py scores with. [--eval_model_dir]
        "CHECKPOINT_DIR": "",
        # Score every image with every caption of the split. [--cross_image_eval]
        "EVAL_CROSS_IMAGE": False,
        # File in DATA_DIR with one image id a line: which images, in which order. '' = all. [--eval_img_keys_file]
        "EVAL_IMG_KEYS_FILE": "",
        # File in DATA_DIR with the candidate captions of each image, instead of all. [--eval_caption_index_file]
        "EVAL_CAPTION_INDEX_FILE": "",
        # What runs the model: auto (the fastest that works here) | eager | inference (Paddle Inference). [new]
        "BACKEND": "auto",
        # Number format of the scoring: float32 | bfloat16 | float16 (GPU only). Evaluation during training is always in
        # float32. [new]
        "PRECISION": "float32",
        # What tools/eval_retrieval.py scores again in float32 after a pass in another format: so many of the best
        # captions of each image and of the best images of each caption, and all positive pairs; 0 = nothing. 20 leaves
        # room for R@10: bfloat16 put no pair of a float32 top ten below place 12 (the quick start's model). Takes about
        # 9 % of the time for COCO 1K, 2 % for COCO 5K. Ignored with float32. [new]
        "RESCORE_TOP": 20,
        # Text and region positions in one scoring batch. [new]
        "BATCH_TOKENS": 4096,
        # 1 | 5: also the mean of five 1K folds of a 5K list, as some papers report it. [new]
        "FOLDS": 1,
    },
    # ---- the machine
    "MISC": {
        # Seed of every random choice, 0 to 2**32 - 1; published Oscar runs use 88. [--seed]
        "SEED": 123,
        # Threads that prepare batches ahead, per training process; 0 = each batch when it is needed. [--num_workers]
        "NUM_WORKERS": 8,
        # Where the model runs: auto (a GPU if Paddle sees one) | cpu | gpu. [new]
        "DEVICE": "auto",
        # CPU threads; 0 = all cores this process may use, divided among the training processes. [new]
        "NUM_THREADS": 0,
    },
}


def get_cfg_defaults():
    """The default settings, as a new node that the caller may change.

    Returns:
        yacs CfgNode: sections (`cfg.INPUT`, ...) of keys (`cfg.INPUT.MAX_REGION`, ...), not frozen.
    """
    return CfgNode(_DEFAULTS)
