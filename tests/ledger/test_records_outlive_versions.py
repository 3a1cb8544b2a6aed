"""Records travel as maps: what a version does not know it keeps, what it cannot read it leaves."""

from __future__ import annotations

import math
from typing import Any

import pytest

from ledger.errors import BadRecord
from ledger.record_fields import decode_value_untrusted, encode_value
from ledger.records import (
    NODE_KEY,
    ModelName,
    ModelRecord,
    NodeRecord,
    PlacementRecord,
    Record,
    decode_record,
    encode_record,
    key_of,
)

NODE = NodeRecord(
    name="attic",
    role="worker",
    version="0.1.0",
    presence="draining",
    addresses=("/ip4/192.168.1.7/tcp/4747",),
    hardware={"cores": 8, "gpu": None, "devices": [{"name": "cpu", "share": 0.5}]},
    labels=("gpu", "quiet"),
    weight=2.5,
    models_size_max=50_000_000_000,
    extra={"later": {"deep": [1, 2]}},
)
MODEL = ModelRecord(
    name=ModelName("smollm2-135m-instruct"),
    state="loaded",
    capabilities=("chat", "completion"),
    context_size=2048,
    size_bytes=98_000_000,
    sha256="ab" * 32,
    slots=4,
    reason="",
    extra={"later": True},
)


def carry(record: Record) -> Record | None:
    return decode_record(key_of(record), decode_value_untrusted(encode_value(encode_record(record))))


ATTACHED = ModelRecord(ModelName("llama3"), "failed", reason="no server answers", program="Ollama")


FETCHED = ModelRecord(
    ModelName("gemma"), "fetching", manifest="cd" * 32, source="ef" * 32, is_origin=True, is_placed=True
)
PLACEMENT = PlacementRecord(
    ModelName("gemma"), replicas=2, sha256="ef" * 32, manifest="cd" * 32, size_bytes=253_000_000
)
EVERYWHERE = PlacementRecord(ModelName("tiny"), is_everywhere=True)


@pytest.mark.parametrize("record", [NODE, MODEL, ATTACHED, FETCHED, PLACEMENT, EVERYWHERE])
def test_a_record_arrives_as_it_was_written(record: Record) -> None:
    assert carry(record) == record


def test_what_is_not_said_has_its_default() -> None:
    said = {"name": "attic", "role": "front", "version": "0.1.0"}
    assert decode_record(NODE_KEY, said) == NodeRecord("attic", "front", "0.1.0")
    assert decode_record("model/m", {"state": "cold"}) == ModelRecord(ModelName("m"), "cold")


def test_labels_and_weights_beyond_all_use_are_cut() -> None:
    said = {**encode_record(NODE), "labels": [str(number) for number in range(99)], "weight": 1e9}
    record = decode_record(NODE_KEY, said)
    assert isinstance(record, NodeRecord)
    assert (len(record.labels), record.weight) == (16, 100.0)
    again = decode_record(NODE_KEY, {**said, "weight": -3})
    assert isinstance(again, NodeRecord)
    assert again.weight == 0.01


def test_a_capability_of_a_later_version_is_left_out() -> None:
    record = decode_record("model/m", {"state": "cold", "capabilities": ["chat", "paint"]})
    assert record == ModelRecord(ModelName("m"), "cold", capabilities=("chat",))


def test_a_key_without_a_type_has_no_record() -> None:
    assert decode_record("later/m", {}) is None


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("node", {"name": 1}),
        ("node", {"name": None}),
        ("node", {"role": "queen"}),
        ("node", {"presence": "asleep"}),
        ("node", {"addresses": "/ip4/1.2.3.4/tcp/1"}),
        ("node", {"addresses": [1]}),
        ("node", {"labels": "gpu"}),
        ("node", {"weight": "heavy"}),
        ("node", {"weight": True}),
        ("node", {"weight": math.nan}),
        ("node", {"hardware": []}),
        ("node", {"hardware": {"gpu": b"bytes"}}),
        ("node", {"hardware": {"memory_bytes": math.inf}}),
        ("node", {"hardware": {"a": {"b": {"c": {"d": {}}}}}}),
        ("model/m", {"state": "molten"}),
        ("model/m", {"slots": -1}),
        ("model/m", {"slots": True}),
        ("model/m", {"size_bytes": 2**63}),
        ("model/m", {"context_size": 1.5}),
        ("model/m", {"is_placed": 1}),
    ],
)
def test_a_record_with_a_wrong_field_is_refused(key: str, change: dict[str, Any]) -> None:
    good = encode_record(NODE if key == "node" else MODEL)
    with pytest.raises(BadRecord):
        decode_record(key, {**good, **change})


@pytest.mark.parametrize("missing", ["name", "role", "version"])
def test_a_node_record_without_what_it_needs_is_refused(missing: str) -> None:
    value = encode_record(NODE)
    del value[missing]
    with pytest.raises(BadRecord):
        decode_record(NODE_KEY, value)


def test_equal_maps_are_equal_bytes() -> None:
    assert encode_value({"a": {"x": 1, "y": 2}, "b": 3}) == encode_value({"b": 3, "a": {"y": 2, "x": 1}})


def test_what_another_version_says_is_written_again_whatever_its_keys_are() -> None:
    said = {"later": {"b": 1, b"a": [2], "a": {b"x": 3}}}
    record = decode_record(NODE_KEY, {**encode_record(NODE), **said})
    assert record is not None
    assert encode_record(record)["later"] == said["later"]
    assert decode_value_untrusted(encode_value(encode_record(record)))["later"] == said["later"]


@pytest.mark.parametrize("depth", [40, 400, 900])
def test_what_is_nested_too_deep_to_be_written_again_is_refused(depth: int) -> None:
    value = decode_value_untrusted(b"\x82\xa5later" + b"\x91" * depth + b"\xc0" + b"\xa4name\xa1x")
    with pytest.raises(BadRecord):
        decode_record("leave", value)
