"""all-MiniLM-L6-v2 as a GGUF file: a real model that embeds.

    python -m tests.real.minilm FILE

Its package has the weights as safetensors, which llama.cpp does not read. The names of keys and tensors
are those of llama.cpp's own converter, which needs torch for what takes numpy half a second.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
from all_minilm_l6_v2 import get_model_zip_path
from numpy.typing import NDArray

_TENSORS = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
}
_LAYER_TENSORS = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_SPECIAL = {"[PAD]": "pad", "[UNK]": "unk", "[CLS]": "bos", "[SEP]": "sep", "[MASK]": "mask"}


def convert(
    path: Path,
    pooling: gguf.PoolingType = gguf.PoolingType.MEAN,
    head: NDArray[np.float32] | None = None,
) -> None:
    """Write the model to `path`, as it is; or as one that pools otherwise, or ranks with `head`.

    `head` is a direction: a text gets the length of its vector in that direction.
    """
    with zipfile.ZipFile(get_model_zip_path()) as archive:
        config = json.loads(archive.read("config.json"))
        vocabulary = json.loads(archive.read("tokenizer.json"))["model"]["vocab"]
        weights = archive.read("model.safetensors")
    writer = gguf.GGUFWriter(path, "bert")
    _write_sizes(writer, config)
    writer.add_pooling_type(pooling)
    _write_vocabulary(writer, vocabulary)
    for name, values in _tensors(weights, config["num_hidden_layers"]):
        writer.add_tensor(name, values)
    if head is not None:
        writer.add_tensor("cls.output.weight", head.reshape(1, -1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_sizes(writer: gguf.GGUFWriter, config: Mapping[str, Any]) -> None:
    writer.add_name("all-MiniLM-L6-v2")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)


def _write_vocabulary(writer: gguf.GGUFWriter, vocabulary: Mapping[str, int]) -> None:
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([_spelt(token) for token in tokens])
    control, normal = gguf.TokenType.CONTROL, gguf.TokenType.NORMAL
    writer.add_token_types([control if token in _SPECIAL else normal for token in tokens])
    writer.add_token_type_count(2)
    for token, role in _SPECIAL.items():
        getattr(writer, f"add_{role}_token_id")(vocabulary[token])


def _spelt(token: str) -> str:
    """As llama.cpp spells it: what begins a word is marked, and not what continues one."""
    if token.startswith("[") and token.endswith("]"):
        return token
    return token.removeprefix("##") if token.startswith("##") else "\u2581" + token


def _tensors(weights: bytes, layers: int) -> Iterator[tuple[str, NDArray[Any]]]:
    header_size = int.from_bytes(weights[:8], "little")
    header = json.loads(weights[8 : 8 + header_size])
    names = dict(_TENSORS)
    for layer in range(layers):
        for theirs, ours in _LAYER_TENSORS.items():
            names[f"encoder.layer.{layer}.{theirs}"] = f"blk.{layer}.{ours}"
    for theirs, ours in names.items():
        for kind in ("weight", "bias"):
            about = header.get(f"{theirs}.{kind}")
            if about is None:
                continue
            begin, end = (8 + header_size + offset for offset in about["data_offsets"])
            values = np.frombuffer(weights[begin:end], np.float32).reshape(about["shape"])
            is_matrix = values.ndim == 2 and ours.startswith(("blk.", "token_embd"))
            yield f"{ours}.{kind}", values.astype(np.float16) if is_matrix else values


if __name__ == "__main__":
    convert(Path(sys.argv[1]))
