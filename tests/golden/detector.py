"""Write the golden results of the detector: what transformers says about 20 texts.

    python3 tests/golden/detector.py tools/demo/reader

Writes detector_texts.jsonl, detector_{hf,release,demo}.jsonl in the form of tandem detect, and
detector_model.sha256, the weights that they belong to, beside this file. tests/detect.bats compares
without Python. Run it again when the demo's reader has been trained anew. Needs torch, transformers.
"""
import hashlib
import json
import os
import sys

import torch
import transformers
from transformers import RobertaForSequenceClassification

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.dirname(HERE))
import detector_parity  # noqa: E402

VERSE = "And it came to pass in those days, that there went out a decree"
TEXTS = [
    VERSE,
    "a",
    "  " + VERSE + " \n",
    "\u00a0\u3000" + VERSE + "\x1f\u2028",
    "\u200b" + VERSE + "\ufeff",
    VERSE.upper() + "!!!",
    "<s>" + VERSE + "</s>",
    "And <mask> came\t<pad> to pass <unk> ",
    "<|endoftext|>" + VERSE,
    "the lord the lord the lord",
    "I'll, I'LL, we've, 's 't don't",
    "2nd 1,000,000 \u00bd \u00b2 \u2167",
    "na\u00efve caf\u00e9, e\u0301 \u4e2d\u6587 \u0431\u0443\u043a\u0432\u0430 \u05d0\u05d1",
    "\U0001f600\U0001f44d\U0001f3fd \U0001f469\u200d\U0001f467",
    "\n\n\n" + VERSE + "\n\n\n" + VERSE,
    "{\"id\": 1, \"text\": \"\\u0041\"} \\ / \b\f",
    " ".join(f"verse {i} of the book" for i in range(40)),
    " ".join([VERSE] * 40),
    "x" * 3000,
    "thou " * 508 + "end",
]


def main():
    folder = sys.argv[1]
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    encoders, context = detector_parity.open_tokenizers(folder)
    model = RobertaForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with open(os.path.join(folder, "model.safetensors"), "rb") as f:
        digest = hashlib.sha256(f.read()).hexdigest()
    with open(os.path.join(HERE, "detector_model.sha256"), "w") as f:
        f.write(f"{digest}  model.safetensors\n")
    with open(os.path.join(HERE, "detector_texts.jsonl"), "w") as f:
        for i, text in enumerate(TEXTS):
            f.write(json.dumps({"id": i, "text": text}) + "\n")
    for mode, encode in encoders.items():
        with open(os.path.join(HERE, f"detector_{mode}.jsonl"), "w") as f:
            for i, text in enumerate(TEXTS):
                whole, used = encode(text, context)
                logits = detector_parity.reference(model, [[0] + used + [2]])[0]
                p = torch.softmax(logits, 0)
                f.write(json.dumps({"id": i, "fake": float(p[0]), "real": float(p[1]),
                                    "logit_fake": float(logits[0]), "logit_real": float(logits[1]),
                                    "all_tokens": len(whole), "used_tokens": len(used)}) + "\n")


if __name__ == "__main__":
    main()
