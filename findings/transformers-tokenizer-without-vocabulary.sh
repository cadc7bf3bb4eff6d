#!/usr/bin/env bash
# transformers makes a tokenizer of two tokens of a folder that has lost its vocabulary.
#
# Version: transformers 5.24.0.
# Guess before the run: CLIPTokenizer.from_pretrained of a folder without vocab.json, merges.txt and
#   tokenizer.json raises an error that names the missing file.
# Seen: it gives a tokenizer with a vocabulary of 2, without a word; every letter becomes one same id,
#   which is beyond that vocabulary, so all prompts of a length are one prompt:
#     vocabulary 2, "a cat" [0, 2, 2, 2, 2, 2], "red ox" [0, 2, 2, 2, 2, 2, 2]
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"   # away from folders that would be imported
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q transformers==5.24.0
HF_HUB_DISABLE_TELEMETRY=1 "$dir/venv/bin/python" -W ignore - "$dir" <<'PY'
import json, pathlib, sys
import transformers

folder = pathlib.Path(sys.argv[1]) / "tokenizer"
folder.mkdir()
(folder / "tokenizer_config.json").write_text(json.dumps({
    "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "bos_token": "<|startoftext|>",
    "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>",
}))
tokenizer = transformers.CLIPTokenizer.from_pretrained(str(folder), local_files_only=True)
cat, ox = tokenizer("a cat").input_ids, tokenizer("red ox").input_ids
print(f'vocabulary {len(tokenizer)}, "a cat" {cat}, "red ox" {ox}')
assert len(tokenizer) == 2
assert set(cat[1:]) == set(ox[1:]) == {2}
PY
