"""What everybody does, on the golden data: train, evaluate, score. Run as a program, in a folder that it may fill.

`python everyday.py paddlenlp` does it where PaddleNLP cannot be imported. The commands are those of `oscar-paddle`.
"""

import base64
import json
import sys
from pathlib import Path

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "retrieval"
SETTINGS = f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12, NUM_CAPTIONS_PER_IMAGE_DEV: 10}}
DATASET: {{DATA_DIR: {GOLDEN}/coco_ir, CACHE_DIR: cache}}
OUTPUT: {{CHECKPOINT_DIR: ., SAVE_NAME: run}}
OPTIMIZATION: {{BATCH_SIZE: 15, MAX_STEPS: 2, LR: 1.0e-3}}
PRETRAINED: {{DIR: {GOLDEN}/checkpoint}}
EVAL: {{CHECKPOINT_DIR: run/last, EVAL_CAPTION_INDEX_FILE: minival_caption_indexs_top20.pt}}
MISC: {{DEVICE: cpu}}
"""
TEST = {
    "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": "5",
    "EVAL.EVAL_CAPTION_INDEX_FILE": "",
    "EVAL.EVAL_CROSS_IMAGE": "true",
    "EVAL.EVAL_IMG_KEYS_FILE": "test_img_keys.tsv",
}
OPTS = [word for setting in TEST.items() for word in setting]
STEPS = [
    ["train-retrieval", "--cfg_file", "everyday.yaml"],
    ["eval_retrieval", "--cfg_file", "everyday.yaml", "--output_dir", "eval", "--opts", *OPTS],
    ["score-pairs", "--checkpoint", "run/last", "--features", "image.npz", "--caption", "a dog"],
]


def main(blocked):
    import numpy as np

    from oscar_paddle.tools.shell import console

    sys.modules.update(dict.fromkeys(blocked))
    Path("everyday.yaml").write_text(SETTINGS)
    with open(GOLDEN / "model_0060000" / "features.tsv") as file:
        _, boxes, values = file.readline().split("\t")
    np.savez(
        "image.npz", features=np.frombuffer(base64.b64decode(values), np.float32).reshape(int(boxes), -1), tags="dog"
    )
    for words in STEPS:
        sys.argv = ["oscar-paddle", *words]
        try:
            console.main()
        except SystemExit as stop:
            if stop.code:
                sys.exit(f"oscar-paddle {' '.join(words)}: exit code {stop.code}")
    rsum = json.loads(Path("eval/metrics.json").read_text())["rsum"]
    loaded = sorted(
        {"paddlenlp", "transformers", "huggingface_hub"} & {name for name in sys.modules if sys.modules[name]}
    )
    print(f"trained, evaluated (rsum {rsum:.1f}), scored; loaded: {' '.join(loaded) or 'nothing of Hugging Face'}")


if __name__ == "__main__":
    main(sys.argv[1:])
