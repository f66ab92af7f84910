"""Every setting there is, declared once.

A `Key` holds the default, whose type is the key's type; the values that are allowed, where not all of that type are;
what the key decides, a training run's numbers (RUN: a checkpoint is not resumed with another value) or a checkpoint's
scores (SCORES: those made with another value are not used again); where it comes from; what it means, with its unit.
As source, ``--flag`` is that flag of Oscar's ``run_retrieval.py`` and its like, VINVL a key of VinVL-Paddle without
such a flag, NEW a key of this project. Keys shared with VinVL-Paddle keep its names, meaning and defaults, so YAML
files written for it run unchanged. The order in which YAML files and ``--opts`` override these defaults is in
``config/loader.py``; which settings contradict each other is in ``config/checks.py``.
"""

import os

from yacs.config import CfgNode

from oscar_paddle.config.key import RUN, SCORES, Key, at_least, must_be, one_of

NEW, VINVL = "this project", "VinVL-Paddle"

_POSITIVE = must_be("greater than 0", lambda value: value > 0)
_SHARE = must_be("in [0, 1)", lambda value: 0 <= value < 1)
_SHARE_OR_NEGATIVE = must_be("in [0, 1), or negative to keep config.json's value", lambda value: value < 1)
_FALSE_CAPTIONS = must_be("in [0, 0.5]", lambda value: 0 <= value <= 0.5)
_SEED = must_be("in 0 .. 4294967295", lambda value: 0 <= value < 2**32)
_ROOM_FOR_TEXT = must_be("at least 3: [CLS], one WordPiece and [SEP]", lambda value: value >= 3)
_SPLIT = must_be("the name of a split: the xxx of xxx_captions.pt")
_TAGS = must_be("the xx of xxx_xx_labels.pt, such as 'vg'")
_VECTORS = must_be(
    "the name of a kind of region vectors, such as 'frcnn'; discrete codes (dis_code*) are not supported",
    lambda kind: kind and not kind.startswith("dis_code"),
)
_INSIDE = must_be(
    "a name inside OUTPUT.CHECKPOINT_DIR, not a path that leaves it",
    lambda name: not os.path.isabs(name) and ".." not in name.split("/"),
)

KEYS = {
    # ---- what the model sees; an evaluation that does not set these takes what its checkpoint was trained with
    "INPUT.BERT_MODEL": Key("bert-base-uncased", "--model_name_or_path").means("""
        Vocabulary, used when the checkpoint folder has no vocab.txt: a folder that holds one, or a PaddleNLP name."""),
    "INPUT.MAX_REGION": Key(70, "--max_img_seq_length", at_least(1), RUN | SCORES).means("""
        Regions per image: further ones are cut, in file order. VinVL 70, Oscar 50."""),
    "INPUT.MAX_SEQ_LEN": Key(70, "--max_seq_length", _ROOM_FOR_TEXT, RUN | SCORES).means("""
        Text positions: [CLS] caption [SEP] tags [SEP], in WordPieces."""),
    "INPUT.IMG_FEATURE_DIM": Key(2054, "--img_feature_dim", at_least(1), RUN | SCORES).means("""
        Values per region: 2048 of the detector and 6 of the box."""),
    "INPUT.IMG_FEATURE_TYPE": Key("frcnn", "--img_feature_type", _VECTORS).means("""
        Kind of region features, as config.json records it (frcnn, faster_r-cnn, ...); all are read alike. The
        reference's discrete codes (dis_code*) are not supported."""),
    "INPUT.ADD_OD_LABEL": Key(True, "--add_od_labels", decides=RUN | SCORES).means("""
        Whether the object tags follow the caption as the second sentence."""),
    "INPUT.DO_LOWER_CASE": Key(True, "--do_lower_case", decides=RUN | SCORES).means("""
        Whether text is lower-cased and stripped of accents before WordPiece."""),
    "INPUT.ATT_MASK_TYPE": Key("CLR", "--att_mask_type", one_of("CLR", "CL", "CR", "LR"), RUN | SCORES).means("""
        Which of Caption, Labels (tags) and Regions see each other; CLR: all."""),
    "INPUT.USE_PAIR": Key(True, "--use_pair").means("""
        NLVR2: each image of a pair in an encoder row of its own, with the whole sentence; False puts the regions of
        both into one row."""),
    "INPUT.NUM_CAPTIONS_PER_IMAGE_TRN": Key(5, "--num_captions_per_img_train", at_least(0), RUN).means("""
        Captions per training image: the first so many; 0 = all that each image has. One epoch shows each once."""),
    "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": Key(5, "--num_captions_per_img_val", at_least(0)).means("""
        Captions per image in evaluation: the first so many with EVAL_CROSS_IMAGE, 0 = all that each image has; with
        EVAL_CAPTION_INDEX_FILE the length of each image's candidate list (20 for COCO minival), 0 = as it is."""),
    "INPUT.FEATURE_CACHE_MB": Key(1024, NEW, at_least(0)).means("""
        MiB of decoded region features that each process keeps in memory; 0 = none."""),
    # ---- where the data are
    "DATASET.NAME": Key("COCO", VINVL).means("Name of the data set, free text for logs and results."),
    "DATASET.DATA_DIR": Key("", "--data_dir").means("Folder with the captions, image-key lists and candidate lists."),
    "DATASET.FEAT_FILE": Key("", "--img_feat_file").means("""
        The region features: VinVL's features.tsv (with .lineidx, imageid2idx.json and predictions.tsv beside it), or a
        .tsv with the columns of LXMERT or bottom-up attention; the folder of Oscar v1's
        {split}_img_{IMG_FEATURE_TYPE}_feats.pt, or of the Paddle ports' folders of that name with an .npy for each
        image; a folder with an .npz for each image; or a packed store. '' = DATA_DIR/features.tsv if there, else
        DATA_DIR/../model_0060000/features.tsv, else the other layouts in DATA_DIR (the .npz in DATA_DIR/features)."""),
    "DATASET.OD_LABEL_TYPE": Key("vg", "--od_label_type", _TAGS).means("""
        Object tags of Oscar v1: the xx of {split}_xx_labels.pt (or .pd)."""),
    "DATASET.PACKED": Key("auto", NEW, one_of("auto", "off", "float16")).means("""
        Whether features that tools/pack_features.py has packed are read instead of their source: auto (float32, if up
        to date: same bits, several times as fast) | off | float16 (those too: not exact)."""),
    "DATASET.EMPTY_IMAGES": Key("error", NEW, one_of("error", "skip")).means("""
        Pictures in which nothing was detected: error (a run says how many there are and stops before its first step) |
        skip (training leaves them out; evaluation counts each as one region of the whole picture, all zeros but for its
        box, so that no image or question is lost)."""),
    "DATASET.TRAIN": Key("train", "fixed to train in the reference, VQA --do_train_val", _SPLIT).means("""
        Split to train on: the xxx of xxx_captions.pt; VQA: train | train+val (one file, or else
        those of both); GQA, NLVR2: train."""),
    "DATASET.DEV": Key("minival", "fixed to minival in the reference", _SPLIT).means("""
        Split evaluated during training; VQA, GQA, NLVR2: val."""),
    "DATASET.TEST": Key("test", "--test_split, --do_test, --do_test_dev", _SPLIT).means("""
        Split that tools/eval_<task>.py scores; VQA: val | test2015 | test-dev2015; GQA: val | test-dev | test; NLVR2:
        val | test1 | val+test1."""),
    "DATASET.TXT_DATA_DIR": Key("", "--txt_data_dir").means("""
        VQA: folder of the question files of train and val ('' = DATA_DIR, where those of test always are)."""),
    "DATASET.LABEL_FILE": Key("", "--label_file").means("""
        VQA, GQA: pickle or JSON answer -> label, in the order that numbers the classes. '' = the published name in
        DATA_DIR or its folder cache."""),
    "DATASET.LABEL2ANS_FILE": Key("", "--label2ans_file").means("""
        VQA, GQA: pickle or JSON with the answers by label. '' = the published name beside LABEL_FILE, if it is there;
        without it the answers are those of LABEL_FILE."""),
    "DATASET.TRAIN_DATA_TYPE": Key("all", "--train_data_type", one_of("bal", "all")).means("""
        GQA: which file trains: bal (gqa_bal_qla_train.json) | all."""),
    "DATASET.EVAL_DATA_TYPE": Key("bal", "--eval_data_type", one_of("bal", "all", "unbal")).means("""
        GQA val: bal | all; NLVR2 val and test1: bal | unbal | all."""),
    "DATASET.DATA_LABEL_TYPE": Key("mask", "--data_label_type", one_of("mask", "all", "bal")).means("""
        VQA: mask (files with Mask R-CNN tags, xxx_mrcnn.json) | all (the others); GQA test-dev and NLVR2 test1: bal |
        anything else means all."""),
    "DATASET.USE_VG": Key(False, "--use_vg").means("""
        VQA: train on train2014_vg_qla_mrcnn.json, with the questions of Visual Genome."""),
    "DATASET.USE_VG_DEV": Key(False, "--use_vg_dev").means("""
        VQA: evaluate on vg_qla_mrcnn.json, and read train+val_img_frcnn_feats.pt for every split."""),
    "DATASET.CACHE_DIR": Key("", NEW).means("""
        Folder for cached token ids. '' = DATA_DIR/.oscar_cache, or the user's cache folder where that is
        read-only."""),
    # ---- pre-training: the corpora and what is drawn from them (docs/pretraining.md)
    "CORPUS.DATASET_FILE": Key("", "--dataset_file").means("""
        YAML that names the data sets of the corpus and where their texts, labels and features are; relative to
        DATASET.DATA_DIR."""),
    "CORPUS.EXTRA_DATASET_FILE": Key("", "--extra_dataset_file").means("""
        A second corpus, of which every step takes as many examples; '' = none."""),
    "CORPUS.DEV_DATASET_FILE": Key("", NEW).means("""
        A corpus that is held out, for the evaluation during training and tools/eval_pretraining.py; '' = none."""),
    "CORPUS.EXTRA_LOSS_WEIGHT": Key(0.0, "--extra_loss_weight", _SHARE).means("""
        Weight w of the second corpus' losses; the first's have 1 - w, as upstream also without a second."""),
    "CORPUS.TEXTB_SAMPLE_MODE": Key(0, "--textb_sample_mode", one_of(0, 1, 2)).means("""
        Where a wrong text_b is from: 0 (Oscar: caption or tags of another document) | 1 (Oscar+: its tags or
        answer) | 2 (the answer of another question)."""),
    "CORPUS.EXTRA_TEXTB_SAMPLE_MODE": Key(1, "--extra_textb_sample_mode", one_of(0, 1, 2)).means("""
        The same for the second corpus."""),
    "CORPUS.TEXTA_FALSE_PROB": Key(0.0, "--texta_false_prob", _FALSE_CAPTIONS).means("""
        Share of the items with a wrong caption: 0 (Oscar: two classes, matched and wrong tags) | 0.25 (Oscar+: three
        classes, 0 matched, 1 wrong text_b, 2 wrong text_a) | 0.5 (two classes, matched and wrong caption)."""),
    "CORPUS.USE_B": Key(True, "--use_b").means("""
        Whether tags and answers are shown as the second sentence."""),
    "CORPUS.USE_GTLABELS": Key(True, "--use_gtlabels").means("""
        Whether tags are the human-made gt_objects of an image where it has some, and not the detector's objects."""),
    "CORPUS.MASK_LOSS_FOR_UNMATCHED": Key(True, "--mask_loss_for_unmatched").means("""
        Whether words of a wrong text_b are masked and predicted, too."""),
    "CORPUS.CHUNK_START_ID": Key(-1, "--chunk_start_id", at_least(-1)).means("""
        First chunk that is read of data sets in chunks; -1 = from the first on."""),
    "CORPUS.CHUNK_END_ID": Key(-1, "--chunk_end_id", at_least(-1)).means("""
        The chunk behind the last one that is read; -1 = all."""),
    "CORPUS.MEAN_OVER": Key("batch", NEW, one_of("batch", "update")).means("""
        What a loss is the mean over: batch (the masked tokens, or the rows, of each micro-batch of each process, and
        then the mean of these, as DistributedDataParallel makes it upstream) | update (those of all micro-batches and
        processes together, whatever their number)."""),
    "CORPUS.MATCHING_CAPTIONS": Key(20, NEW, at_least(0)).means("""
        Held-out evaluation: how many captions, its own and others, are scored for the image and the text_b of each
        example, for matching R@1; 0 = no such figure."""),
    # ---- what is written
    "OUTPUT.SAVE_NAME": Key("", VINVL, _INSIDE).means("""
        Name of the run folder inside CHECKPOINT_DIR. '' = the YAML file's name without .yaml."""),
    "OUTPUT.SAVE_FREQ": Key(1, VINVL, at_least(0)).means("Epochs between checkpoints; 0 = never by epoch."),
    "OUTPUT.NUM_LABELS": Key(2, "--num_labels", one_of(1, 2), RUN).means("""
        Outputs of the retrieval classifier: 2 = not matched | matched; 1 = one matching score, trained by squared
        error. NLVR2 has 2; VQA and GQA count the answers of LABEL_FILE."""),
    "OUTPUT.CLASSIFIER": Key("linear", "--classifier", one_of("linear", "mlp")).means("Head of VQA, GQA and NLVR2."),
    "OUTPUT.CLS_HIDDEN_SCALE": Key(2, "--cls_hidden_scale", at_least(1)).means("""
        Hidden width of the mlp head, in hidden sizes."""),
    "OUTPUT.CHECKPOINT_DIR": Key("./exp", "--output_dir", must_be("a folder")).means("""
        Folder that holds the run folders."""),
    "OUTPUT.SAVE_STEPS": Key(0, "--save_steps", at_least(0)).means("""
        Also a checkpoint every so many optimizer steps; 0 = off."""),
    "OUTPUT.KEEP": Key(3, NEW, at_least(0)).means("Newest checkpoints kept, besides the best one; 0 = all."),
    # ---- how the model is trained
    "OPTIMIZATION.LR": Key(2e-5, "--learning_rate", _POSITIVE, RUN).means("Peak learning rate."),
    "OPTIMIZATION.EPSILON": Key(1e-8, "--adam_epsilon", _POSITIVE, RUN).means("""
        Adam's epsilon, added to the uncorrected root of the second moment."""),
    "OPTIMIZATION.LOSS_TYPE": Key("sfmx", "--loss_type", one_of("sfmx", "xe", "kl", "bce"), RUN).means("""
        sfmx or xe (both: softmax cross entropy) | kl | bce (times the number of labels). VQA: bce, kl, and xe on the
        best-scored answer (the reference's crashes); GQA: xe; NLVR2: xe."""),
    "OPTIMIZATION.BATCH_SIZE": Key(32, "--per_gpu_train_batch_size", at_least(1), RUN).means("""
        Examples per process and micro-batch. In retrieval these are positive pairs; each brings NEGATIVES negative
        pairs, so 1 + NEGATIVES times as many rows. Examples per step = this x processes x
        GRADIENT_ACCUMULATION_STEPS."""),
    "OPTIMIZATION.GLOBAL_BATCH_SIZE": Key(0, "--train_batch_size of run_oscarplus_pretrain.py", at_least(0)).means("""
        Examples of an optimizer step, over all processes and micro-batches: BATCH_SIZE is then this / processes /
        GRADIENT_ACCUMULATION_STEPS. 0 = BATCH_SIZE says."""),
    "OPTIMIZATION.WARMUP_STEPS": Key(0, "--warmup_steps", at_least(0), RUN).means("""
        Optimizer steps in which the learning rate rises from 0 to LR."""),
    "OPTIMIZATION.LR_SCHEDULER": Key("linear", "--scheduler", one_of("linear", "constant"), RUN).means("""
        Learning rate after warm-up; linear: falls to 0 at the last step."""),
    "OPTIMIZATION.WEIGHT_DECAY": Key(0.05, "--weight_decay", at_least(0), RUN).means("""
        Decoupled weight decay; biases and weights named LayerNorm.weight are exempt."""),
    "OPTIMIZATION.EPOCHS": Key(30, "--num_train_epochs", at_least(1), RUN).means("Passes over the training captions."),
    "OPTIMIZATION.CLIP_MAX_NORM": Key(1.0, "--max_grad_norm", at_least(0), RUN).means("""
        Largest global L2 norm of the gradient; 0 = no clipping."""),
    "OPTIMIZATION.OPTIMIZER": Key("adamw", VINVL, one_of("adamw"), RUN).means("The optimizer."),
    "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS": Key(1, "--gradient_accumulation_steps", at_least(1), RUN).means("""
        Micro-batches per optimizer step: k of BATCH_SIZE B are exactly one of k x B. The gradient is clipped once, at
        the step (the reference clips what it has after every micro-batch)."""),
    "OPTIMIZATION.DROPOUT": Key(0.1, "--drop_out", _SHARE, RUN).means("Hidden dropout during training, a probability."),
    "OPTIMIZATION.ATTENTION_DROPOUT": Key(-1.0, NEW, _SHARE_OR_NEGATIVE, RUN).means("""
        Dropout of attention probabilities; negative = as the checkpoint's config.json says."""),
    "OPTIMIZATION.AMP": Key("off", NEW, one_of("off", "bf16", "fp16"), RUN).means("""
        Mixed precision in training, on a GPU; fp16: with dynamic loss scaling. Weights and Adam's moments stay
        float32."""),
    "OPTIMIZATION.RECOMPUTE": Key(False, NEW).means("""
        Recompute activations in the backward pass: less memory, about a third more time."""),
    "OPTIMIZATION.NEGATIVES": Key(1, NEW, at_least(1), RUN).means("""
        Negative pairs per positive pair; the reference has 1."""),
    "OPTIMIZATION.MAX_STEPS": Key(
        0, "--max_steps, which in the reference shapes the schedule only", at_least(0), RUN
    ).means("Stop after this many optimizer steps, and shape the schedule by it; 0 = EPOCHS decides."),
    "OPTIMIZATION.EARLY_STOP_PATIENCE": Key(0, NEW, at_least(0)).means("""
        Stop after this many evaluations in a row without a better dev score; 0 = off."""),
    # ---- what is reported while training
    "MONITOR.PRINT_STEP": Key(100, "--logging_steps", at_least(1)).means("""
        Optimizer steps between two lines of the log; metrics.jsonl has a line for every step."""),
    "MONITOR.EVAL_FREQ": Key(1, "--evaluate_during_training", at_least(0)).means("""
        Epochs between evaluations on DATASET.DEV; 0 = never by epoch."""),
    "MONITOR.EVAL_STEPS": Key(0, NEW, at_least(0)).means("Also evaluate every so many optimizer steps; 0 = off."),
    "MONITOR.VISUALDL": Key(False, NEW).means("Also write the scalars for VisualDL, into the run folder."),
    # ---- what training starts from
    "PRETRAINED.DIR": Key("", "--model_name_or_path").means("""
        Folder with weights, config.json and vocab.txt: Oscar/VinVL, Hugging Face BERT, VinVL-Paddle or our own."""),
    "PRETRAINED.RESUME": Key("", VINVL).means("""
        Go on with an earlier run: '' = no | auto (the run folder's newest whole checkpoint, if any) | a checkpoint
        folder. Refused where the result would not be exactly that of an unbroken run (see RESUME_INEXACT)."""),
    "PRETRAINED.RESUME_INEXACT": Key(False, NEW).means("""
        Resume all the same where the number of processes, batch size, length, dropout or data differ: go on at the same
        place of the data; the log says what is not as in an unbroken run."""),
    "PRETRAINED.FROM_SCRATCH": Key(False, NEW).means("""
        Start from random weights of the shape DIR/config.json describes; DIR then needs no weights file."""),
    "PRETRAINED.SCRATCH_WEIGHTS": Key("plain", NEW, one_of("plain", "alike")).means("""
        The random weights of FROM_SCRATCH: plain (as upstream: normal, with config.json's initializer_range) | alike
        (then keys equal to queries and small position embeddings, so that equal words attend to each other from the
        first step: a small model otherwise spends much of a short run finding that out)."""),
    "PRETRAINED.FRESH_HEAD": Key(False, NEW).means("""
        Start with a new head where the checkpoint has one of another task, instead of an error."""),
    "PRETRAINED.USE_IMG_LAYERNORM": Key(-1, "--use_img_layernorm", one_of(-1, 0, 1)).means("""
        LayerNorm on the embedded regions: -1 (as config.json says; in retrieval on when starting from plain BERT) | 0
        (off: Oscar) | 1 (on: VinVL)."""),
    # ---- how pairs are scored, here and in the evaluation during training
    "EVAL.CHECKPOINT_DIR": Key("", "--eval_model_dir").means("""
        Checkpoint folder that tools/eval_<task>.py scores with."""),
    "EVAL.EVAL_CROSS_IMAGE": Key(False, "--cross_image_eval").means("""
        Score every image with every caption of the split."""),
    "EVAL.EVAL_IMG_KEYS_FILE": Key("", "--eval_img_keys_file").means("""
        File in DATA_DIR with one image id a line: which images, in which order. '' = all."""),
    "EVAL.EVAL_CAPTION_INDEX_FILE": Key("", "--eval_caption_index_file").means("""
        File in DATA_DIR with the candidate captions of each image, instead of all."""),
    "EVAL.BACKEND": Key("auto", NEW, one_of("auto", "eager", "inference")).means("""
        What runs the model: auto (the fastest that works here) | eager | inference (Paddle Inference)."""),
    "EVAL.PRECISION": Key("float32", NEW, one_of("float32", "bfloat16", "float16")).means("""
        Number format of the scoring; float16 on a GPU only. Evaluation during training is always in float32."""),
    "EVAL.RESCORE_TOP": Key(20, NEW, at_least(0)).means("""
        What tools/eval_retrieval.py scores again in float32 after a pass in another format: so many of the best
        captions of each image and of the best images of each caption, and all positive pairs; 0 = nothing. 20 leaves
        room for R@10: bfloat16 put no pair of a float32 top ten below place 12 (the quick start's model). Takes about 9
        % of the time for COCO 1K, 2 % for COCO 5K. Ignored with float32."""),
    "EVAL.BATCH_TOKENS": Key(0, NEW, at_least(0)).means("""
        Text and region positions in one scoring batch; 0 = by device: 4,096 on a CPU, 16,384 on a GPU."""),
    "EVAL.FOLDS": Key(1, NEW, one_of(1, 5)).means("""
        5: also the mean of five 1K folds of a 5K list, as some papers report it."""),
    # ---- the detector: from a picture to regions; the defaults are VinVL's published command
    "DETECTOR.WEIGHTS": Key("", "scene_graph_benchmark MODEL.WEIGHT").means("""
        Weights of the detector, such as vinvl_vg_x152c4.pth; '' = there is none, and pictures are not taken."""),
    "DETECTOR.LABEL_MAP": Key("", "scene_graph_benchmark DATASETS.LABELMAP_FILE").means("""
        JSON with the names of classes and attributes (VG-SGG-dicts-vgoi6-clipped.json), or a text with one class a line
        (objects_vocab.txt); '' = the only such file beside the weights."""),
    "DETECTOR.SHORT_SIDE": Key(600, "scene_graph_benchmark INPUT.MIN_SIZE_TEST", at_least(1)).means("""
        Pixels that the shorter side of a picture is resized to."""),
    "DETECTOR.LONG_SIDE": Key(1000, "scene_graph_benchmark INPUT.MAX_SIZE_TEST", at_least(1)).means("""
        Pixels that the longer side then has at most."""),
    "DETECTOR.UPRIGHT": Key(False, NEW).means("""
        Turn pictures as their EXIF data say before anything else; the reference does not."""),
    "DETECTOR.FILTER": Key(1, "scene_graph_benchmark MODEL.ROI_HEADS.NMS_FILTER", one_of(0, 1, 2)).means("""
        Which proposals become detections: 0 (per class) | 1 (best class of each among those where it survives) | 2
        (best class of each, one suppression); docs/reference.md, selecting detections."""),
    "DETECTOR.SCORE_THRESHOLD": Key(0.2, "scene_graph_benchmark MODEL.ROI_HEADS.SCORE_THRESH", _SHARE).means("""
        Lowest probability of a detection, where there are MIN_BOXES of them."""),
    "DETECTOR.OVERLAP": Key(0.5, "scene_graph_benchmark MODEL.ROI_HEADS.NMS", _SHARE).means("""
        Intersection over union above which the less likely of two boxes goes, in filters 0 and 2; filter 1 has
        0.3."""),
    "DETECTOR.MIN_BOXES": Key(10, "scene_graph_benchmark MODEL.ROI_HEADS.MIN_DETECTIONS_PER_IMG", at_least(1)).means("""
        Detections that a picture has at least."""),
    "DETECTOR.MAX_BOXES": Key(100, "scene_graph_benchmark MODEL.ROI_HEADS.DETECTIONS_PER_IMG", at_least(1)).means("""
        Detections that a picture has at most."""),
    "DETECTOR.REGRESSION": Key(False, "scene_graph_benchmark TEST.IGNORE_BOX_REGRESSION, turned round").means("""
        Whether boxes are corrected for their class; VinVL's features are those of the proposals as they are."""),
    "DETECTOR.PROPOSALS_BEFORE": Key(6000, "scene_graph_benchmark MODEL.RPN.PRE_NMS_TOP_N_TEST", at_least(1)).means("""
        Anchors with the highest scores that are decoded and compared."""),
    "DETECTOR.PROPOSALS": Key(300, "scene_graph_benchmark MODEL.RPN.POST_NMS_TOP_N_TEST", at_least(1)).means("""
        Proposals that are left of them at most."""),
    # ---- captions: how they are trained and written
    "CAPTION.MAX_SEQ_A_LEN": Key(40, "--max_seq_a_length", _ROOM_FOR_TEXT, RUN).means("""
        Positions of the caption's slot, [CLS] and [SEP] included; tags stand behind it, up to INPUT.MAX_SEQ_LEN."""),
    "CAPTION.MASK_PROB": Key(0.15, "--mask_prob", _SHARE, RUN).means("""
        Share of a caption's positions that are masked, one at least."""),
    "CAPTION.MAX_MASKED_TOKENS": Key(3, "--max_masked_tokens", at_least(1), RUN).means("""
        Positions of a caption that are masked at most."""),
    "CAPTION.LABEL_SMOOTHING": Key(0.0, "--label_smoothing", _SHARE, RUN).means("""
        Share of a masked word's target that the other words of the vocabulary divide evenly."""),
    "CAPTION.DROP_WORST_RATIO": Key(0.0, "--drop_worst_ratio", _SHARE, RUN).means("""
        Share of a micro-batch's masked words, those of the largest loss, that are not trained on."""),
    "CAPTION.DROP_WORST_AFTER": Key(0, "--drop_worst_after", at_least(0), RUN).means("""
        Micro-batches of a process before words are dropped."""),
    "CAPTION.DROP_WORST_ROUNDING": Key("exact", NEW, one_of("exact", "reference"), RUN).means("""
        How many words stay: exact (rounded down, one at least) | reference (int() of the product as a float, which is
        one less for some numbers, and none for 10 words at a ratio of 0.9: the loss is then not a number)."""),
    "CAPTION.TIE_WEIGHTS": Key(False, "--tie_weights", decides=RUN).means("""
        Whether the decoder is the table of word embeddings. Oscar: False, VinVL: True."""),
    "CAPTION.FREEZE_EMBEDDING": Key(False, "--freeze_embedding", decides=RUN).means("""
        Whether the word embeddings (and a tied decoder) stay as they are."""),
    "CAPTION.MAX_GEN_LENGTH": Key(20, "--max_gen_length", must_be("at least 2", lambda n: n >= 2)).means("""
        Longest caption that is written, in positions, [CLS] and [SEP] included."""),
    "CAPTION.NUM_BEAMS": Key(1, "--num_beams", at_least(1)).means("""
        Captions that are followed at once; 1: greedy, or sampling with DO_SAMPLE. Published scores: 5."""),
    "CAPTION.NUM_KEEP_BEST": Key(1, "--num_return_sequences, --num_keep_best", at_least(1)).means("""
        Captions an image: the best ones of the beams, at most NUM_BEAMS, or samples."""),
    "CAPTION.LENGTH_PENALTY": Key(1.0, "--length_penalty", must_be("a finite number", lambda n: True)).means("""
        Beams are ranked by log-probability over length to this power."""),
    "CAPTION.REPETITION_PENALTY": Key(1.0, "--repetition_penalty", _POSITIVE).means("""
        Scores of words that a caption has already are divided by it where positive, else multiplied; 1 = off."""),
    "CAPTION.DO_SAMPLE": Key(False, "--do_sample").means("""
        Draw words, seeded by MISC.SEED and image, rather than take the likeliest."""),
    "CAPTION.TEMPERATURE": Key(1.0, "--temperature", _POSITIVE).means("Divides the scores before a draw."),
    "CAPTION.TOP_K": Key(0, "--top_k", at_least(0)).means("Words that may be drawn, the best ones; 0 = all."),
    "CAPTION.TOP_P": Key(1.0, "--top_p", must_be("in (0, 1]", lambda p: 0 < p <= 1)).means("""
        Words that may be drawn: the best ones up to this probability together; 1 = all."""),
    "CAPTION.TRAINING_LENGTHS": Key(False, "--evaluate_during_training").means("""
        Evaluate inside training with as many tags as the reference takes there, MAX_SEQ_LEN - MAX_GEN_LENGTH - 1,
        rather than with those of a test."""),
    "CAPTION.SCST": Key(False, "--scst", decides=RUN).means("""
        Self-critical training: captions are drawn and rewarded by CIDEr-D."""),
    "CAPTION.SCST_SAMPLES": Key(5, "--sc_train_sample_n", at_least(1), RUN).means("Captions drawn of an image."),
    "CAPTION.SCST_BASELINE": Key("greedy", "--sc_baseline_type", one_of("greedy", "sample"), RUN).means("""
        What a reward is compared with: greedy (the caption of likeliest words) | sample (the image's other
        samples)."""),
    "CAPTION.SCST_SHARED_PREFIX": Key(False, NEW, decides=RUN).means("""
        Encode tags and regions once for all samples of an image, with one draw of dropout, rather than once a sample as
        the reference does."""),
    "CAPTION.CIDER_FREQUENCIES": Key("coco-train-words.p", "--cider_cached_tokens").means("""
        File in DATA_DIR with the document frequencies of the reward, as published or of tools/caption_frequencies.py;
        '' = from the training captions."""),
    "CAPTION.USE_CBS": Key(False, "--use_cbs").means("""
        Constrained beam search (NoCaps): captions name what the YAML's cbs_box file found."""),
    "CAPTION.MIN_CONSTRAINTS": Key(2, "--min_constraints_to_satisfy", at_least(0)).means("""
        Of the up to three words of an image so many must be in its caption, where it has them."""),
    "CAPTION.PAD_ENDS": Key(False, "fixed to True in Oscar v1, to False later").means("""
        Whether [PAD] ends a caption as [SEP] does: True for checkpoints of Oscar v1."""),
    # ---- referring expressions (tools/train_refer.py); proposals: DATASET.FEAT_FILE, or as published
    "REFER.DATASET": Key("refcoco+", NEW, must_be("a folder")).means("""
        Data set: the folder in DATASET.DATA_DIR with refs(...).p and instances.json; refcoco, refcoco+ and refcocog are
        the published ones. FEAT_FILE "" means its proposals in <it>_resnet101_faster_rcnn_genome.lmdb."""),
    "REFER.SPLIT_BY": Key("unc", "--splitBy", one_of("unc", "umd", "google")).means("""
        Whose splits: unc (RefCOCO, RefCOCO+: train, val, testA, testB, test), umd (RefCOCOg: train, val, test), google
        (RefCOCOg: train, val)."""),
    "REFER.GROUND_TRUTH": Key("", NEW).means("""
        LMDB store of the annotated boxes, whose regions training adds to the proposals (vilbert_beta's
        features_h5path2); '' = <DATASET>_gt_resnet101_faster_rcnn_genome.lmdb in DATA_DIR. Evaluation never reads
        it."""),
    "REFER.DETECTOR": Key("resnet101", NEW).means("""
        What made the features: resnet101 (bottom-up attention, vilbert_beta) | resnext152 (vilbert-multi-task) | a name
        of one's own. A store that says otherwise (by its entry 'detector' or its name) is refused; '' = any."""),
    "REFER.CUT": Key("after", NEW, one_of("after", "before")).means("""
        Whether a long expression is cut to INPUT.MAX_SEQ_LEN after [CLS] and [SEP] are added, which costs it its [SEP],
        or before."""),
    "REFER.RECIPE": Key("port", NEW, one_of("port", "paper", "multitask")).means("""
        How the weights are updated: port (ViLBERT-Paddle: AdamW, every gradient element within CLIP_MAX_NORM) | paper
        (vilbert_beta: BertAdam, the gradient of each tensor within CLIP_MAX_NORM) | multitask (vilbert-multi-task: no
        bias correction, decay of weights). In the first two decay is for biases and LayerNorms only, as upstream."""),
    "REFER.HEAD_LR": Key(1e-4, NEW, at_least(0)).means("""
        Peak learning rate of what starts afresh: the scorer of regions (port); heads that referring expressions do not
        use (paper, multitask). 0 = OPTIMIZATION.LR."""),
    "REFER.WARMUP_SHARE": Key(0.1, "--warmup_proportion", _SHARE).means("""
        Warm-up as a share of all steps, where OPTIMIZATION.WARMUP_STEPS is 0."""),
    "REFER.DECAY_EPOCHS": Key("12, 16", NEW).means("""
        Epochs, from 0 on, at which the learning rate falls to a tenth; '' = never (multitask: it falls in a line)."""),
    "REFER.LEAVE_OUT": Key("", NEW).means("""
        .npy with ids of images that are not trained on, such as those that another task is tested on
        (vilbert-multi-task's coco_test_ids.npy)."""),
    "REFER.CONTROL": Key("none", NEW, one_of("none", "expressions", "features")).means("""
        Evaluation of what one half alone reaches: expressions (each picture with the text of another one: pictures
        alone) | features (each picture with the regions of another one in its own boxes: text and boxes alone)."""),
    # ---- the machine
    "MISC.SEED": Key(123, "--seed", _SEED, RUN).means("Seed of every random choice; published Oscar runs use 88."),
    "MISC.NUM_WORKERS": Key(8, "--num_workers", at_least(0)).means("""
        Threads that prepare batches ahead, per training process; 0 = each batch when it is needed."""),
    "MISC.DEVICE": Key("auto", NEW, one_of("auto", "cpu", "gpu")).means("""
        Where the model runs; auto: a GPU if Paddle sees one."""),
    "MISC.NUM_THREADS": Key(0, NEW, at_least(0)).means("""
        CPU threads; 0 = all cores this process may use, divided among the training processes."""),
}


def get_cfg_defaults():
    """The default settings as a new yacs CfgNode, not frozen: sections of keys, such as `cfg.INPUT.MAX_REGION`."""
    cfg = CfgNode()
    for name, key in KEYS.items():
        section, _, short = name.partition(".")
        cfg.setdefault(section, CfgNode())[short] = key.default
    return cfg


def keys_deciding(what):
    """Full names of the keys that decide RUN or SCORES, in the order of declaration."""
    return [name for name, key in KEYS.items() if what in key.decides]


def value_of(cfg, name):
    """The value of a key by its full name, such as "INPUT.MAX_REGION"."""
    section, short = name.split(".")
    return cfg[section][short]
