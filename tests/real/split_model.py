"""The demo model in three files, as `llama-gguf-split` makes them."""

from __future__ import annotations

from pathlib import Path

import gguf

PARTS = 3


def write_split(folder: Path, source: Path, stem: str) -> list[Path]:
    """Write the model at `source` into `folder`, its tensors shared among the parts; returns their paths."""
    reader = gguf.GGUFReader(source)
    per_part = -(-len(reader.tensors) // PARTS)
    writer = gguf.GGUFWriter(folder / f"{stem}.gguf", "llama", split_max_tensors=per_part)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        element = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, element)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{stem}-*.gguf"))
