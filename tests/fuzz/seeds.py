"""Valid messages of every kind, the smallest and the largest among them: what near misses are made from."""

from __future__ import annotations

from collections.abc import Iterable

import msgpack

from federation import load_feed
from federation.backend import (
    Chunk,
    Constraint,
    Delivered,
    Done,
    InferenceRequest,
    Progress,
    RequestId,
    Resume,
    Sampling,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from federation.infer import (
    CREDIT_MAX,
    TOKEN_ID_MAX,
    Accepted,
    Credit,
    Failure,
    FrontMessage,
    Refusal,
    Request,
    WorkerMessage,
)
from federation.slot_gate import WANTED_MAX
from ledger import probe, sync_messages
from ledger.claims_digest import DIGEST_SIZE
from ledger.entry import sign_entry, sign_shared_entry
from ledger.floor import floor_key, floor_value
from ledger.record_fields import encode_value
from ledger.records import (
    AliasRecord,
    LeaveRecord,
    Load,
    ModelName,
    ModelRecord,
    NodeRecord,
    PlacementRecord,
    Record,
    encode_record,
    key_of,
)
from ledger.rumour import INCARNATION_MAX, Claim, Rumour, Status
from ledger.version import VERSION_PART_MAX, Version
from node.engine import wire
from p2p import hello
from p2p.blobs import blob_messages
from p2p.blobs.manifest import (
    CHUNK_SIZE,
    CHUNKS_MAX,
    ENCODED_SIZE_MAX,
    ManifestFile,
    ManifestId,
    file_key,
    manifest_of,
    source_key,
)
from p2p.credential import NEVER, Invite
from p2p.identity import Identity
from p2p.membership import found_swarm, join_swarm
from p2p.peer import PeerAddress, peer_id_of
from p2p.token import Token
from tests.ledger.people import FOUNDER, author

ALICE, ADMIN = author(1), author(2, "admin")
PEERS = [peer_id_of(bytes([number]) * 32) for number in range(1, 250)]
LAN = PeerAddress(ALICE.peer, "/ip4/192.168.1.7/tcp/4747")
IPV6 = PeerAddress(ALICE.peer, "/ip6/fd12:3456:789a:1:1c2d:3e4f:5a6b:7c8d/tcp/4747")
NAMED = PeerAddress(ADMIN.peer, "/dns4/swarm.example.org/tcp/4747")

INVITE = Invite.issue(FOUNDER, Identity(bytes([7]) * 32), "admin", NEVER)
LONG_INVITE = INVITE.delegate(Identity(bytes([8]) * 32), "worker", 1_900_000_000)
for _number in (9, 10):
    LONG_INVITE = LONG_INVITE.delegate(Identity(bytes([_number]) * 32), "client", 1_800_000_000)
CREDENTIALS = [INVITE.credential_for(ALICE.peer), LONG_INVITE.credential_for(ALICE.peer)]

TOKENS = [
    Token("home", bytes(16), (LAN,), INVITE),
    Token("Küche", bytes(16), (LAN, IPV6, NAMED), LONG_INVITE),
]
MEMBERSHIPS = [
    found_swarm("home", FOUNDER, ALICE.peer),
    join_swarm(TOKENS[0], ALICE.peer),
    join_swarm(TOKENS[1], ALICE.peer),
]

_FAR = "/dns4/" + "x" * (hello.MULTIADDR_LENGTH_MAX - 6)
_MANY_ADDRESSES = [
    (peer, (_FAR,) * hello.ADDRESSES_PER_PEER_MAX) for peer in PEERS[: hello.ADDRESS_PEERS_MAX]
]
HELLOS: list[hello.Message] = [
    *(hello.Hello("kitchen", "0.1.0", "b1", each, (LAN.multiaddr, IPV6.multiaddr)) for each in CREDENTIALS),
    hello.Hello("x" * 64, "y" * 64, "z" * 64, CREDENTIALS[0], (_FAR,) * hello.ADDRESSES_PER_PEER_MAX),
    hello.Addresses(()),
    hello.Addresses((LAN, IPV6, NAMED)),
    *hello.in_frames(_MANY_ADDRESSES),
    hello.Bye(hello.LEAVE),
    hello.Bye(hello.REFUSED, "x" * hello.BYE_TEXT_LENGTH_MAX),
]

_NODE = NodeRecord(
    name="attic",
    role="worker",
    version="0.1.0",
    presence="draining",
    addresses=(LAN.multiaddr, IPV6.multiaddr),
    hardware={"cores": 8, "gpu": None, "devices": [{"name": "cpu", "share": 0.5}]},
    extra={"later": {"deep": [1, 2]}},
)
_MODEL = ModelRecord(
    name=ModelName("smollm2-135m-instruct"),
    state="loaded",
    capabilities=("chat", "completion"),
    context_size=2048,
    size_bytes=2**63 - 1,
    sha256="ab" * 32,
    slots=4,
    extra={"later": True},
)
RECORDS: list[Record] = [
    _NODE,
    _MODEL,
    LeaveRecord("attic"),
    AliasRecord(ModelName("fast"), ModelName("smollm2-135m-instruct")),
    PlacementRecord(ModelName("smollm2-135m-instruct"), 2, tuple(PEERS[:3]), "ab" * 32),
]
_VALUES = [(key_of(record), encode_value(encode_record(record))) for record in RECORDS]
ENTRIES = [
    *(sign_entry(ALICE, key, Version(1, 1), value) for key, value in _VALUES),
    sign_entry(ALICE, "m", Version(1, 2), None),
    sign_entry(ALICE, "k" * 160, Version(VERSION_PART_MAX, VERSION_PART_MAX), b"\xc4" * 16_384),
    sign_entry(ALICE, floor_key(3), Version(3, 9), floor_value(2)),
    sign_shared_entry(ADMIN, *("alias/fast", 7), _VALUES[3][1]),
    sign_shared_entry(ADMIN, "alias/fast", 2**32, None),
]

_LEDGER_DIGEST = bytes(range(16))
_HELD = tuple(
    sync_messages.Held(f"model/{number:0>150}", Version(2**53, number), _LEDGER_DIGEST)
    for number in range(1024)
)
LEDGER_MESSAGES: list[sync_messages.Message] = [
    sync_messages.Root(_LEDGER_DIGEST),
    sync_messages.Buckets((_LEDGER_DIGEST,) * 32),
    sync_messages.Owners((), {}),
    sync_messages.Owners((1, 2, 31), {PEERS[0]: _LEDGER_DIGEST, PEERS[1]: _LEDGER_DIGEST}),
    sync_messages.Owners(tuple(range(32)), dict.fromkeys(PEERS, _LEDGER_DIGEST)),
    sync_messages.Holdings({PEERS[0]: _HELD[:2], PEERS[1]: ()}),
    sync_messages.Holdings({PEERS[0]: _HELD}),
    sync_messages.Wanted({PEERS[0]: ("node",), PEERS[1]: ("model/a", "model/b")}),
    sync_messages.Wanted({peer: tuple("abcdefgh") for peer in PEERS}),
    sync_messages.Entries(()),
    sync_messages.Entries((ENTRIES[0].encoded, ENTRIES[1].encoded)),
    sync_messages.Entries(tuple(entry.encoded for entry in ENTRIES[:6]) * 40),
    sync_messages.News((ENTRIES[2].encoded,)),
]

_CLAIM = Claim(INCARNATION_MAX, Status.SUSPECT)
_RUMOURS = tuple(Rumour(peer, _CLAIM) for peer in PEERS[: probe.CLAIMS_MAX])
_LOAD = Load(4, 2, 1, prefill_speed=812.5, decode_speed=33.3, is_loaded=True)
_LOADS = {ModelName("m"): _LOAD, ModelName("other"): Load(1, 0)}
_MANY_LOADS = {ModelName(f"{number:0>120}"): _LOAD for number in range(probe.MODELS_MAX)}
_PROBES: list[tuple[probe.Message, probe.Loads]] = [
    (probe.Ping(1, 0), _LOADS),
    (probe.Ping(2**62, INCARNATION_MAX, _CLAIM, _RUMOURS[: probe.RUMOURS_MAX]), _MANY_LOADS),
    (probe.Ack(1, 0, _RUMOURS[:2]), _LOADS),
    (probe.PingRequest(1, PEERS[0]), {}),
    (probe.PingRequest(1, PEERS[0], _CLAIM, _RUMOURS[:1]), {}),
    (probe.RelayedAck(1, PEERS[0], 3), {}),
    (probe.Nack(1, has_asked=False), {}),
    (probe.Gossip(_RUMOURS[:3]), {}),
    (probe.Summary(bytes(DIGEST_SIZE), is_answer=True), {}),
    (probe.Claims(_RUMOURS[:3], _RUMOURS[:1]), {}),
    (probe.Claims(_RUMOURS), {}),
]
PROBES = [msgpack.packb(probe.to_frame(message, loads)) for message, loads in _PROBES]

WAITING = [
    load_feed.WaitingTold(ModelName("m"), 0),
    load_feed.WaitingTold(ModelName("x" * probe.MODEL_NAME_BYTES_MAX), WANTED_MAX),
]
LOAD_NEWS: list[load_feed.PeerMessage] = [
    load_feed.LoadsTold({}),
    load_feed.LoadsTold(_LOADS),
    load_feed.LoadsTold(_MANY_LOADS),
    load_feed.Offered(ModelName("m")),
    load_feed.Offered(ModelName("ü" * (probe.MODEL_NAME_BYTES_MAX // 2))),
]

REQUESTS = [
    InferenceRequest(
        kind="chat",
        request_id=RequestId("r-1"),
        model=ModelName("tiny"),
        messages=({"role": "user", "content": "Grüße 🙂"}, {"role": "assistant", "content": ""}),
        sampling=Sampling(temperature=0.5, top_k=40, top_p=0.9, min_p=0.05, seed=-(2**63)),
        max_tokens=16,
        stop=("\n\n", "END"),
        ignore_eos=True,
        timeout=12.5,
        priority=-1,
    ),
    InferenceRequest(
        kind="chat",
        request_id=RequestId("r-5"),
        model=ModelName("tiny"),
        messages=({"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {}}]},),
        sampling=Sampling(
            typical_p=0.9,
            repeat_penalty=1.1,
            repeat_last_n=-1,
            presence_penalty=-2.0,
            frequency_penalty=2.0,
            logit_bias={7: -100.0, TOKEN_ID_MAX: 0.5},
        ),
        choices=128,
        top_logprobs=20,
        constraint=Constraint("json_schema", '{"type": "object"}'),
        suffix="the end",
        is_echoed=True,
        tools=({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},),
        tool_choice="function:f",
        allows_parallel_tool_calls=False,
        resume=Resume(bytes(32), (Delivered((1, 2), "stop"), Delivered()), is_replayed=True),
    ),
    InferenceRequest("embeddings", RequestId("r-6"), ModelName("tiny"), inputs=("text", (1, 2), "")),
    InferenceRequest("tokenize", RequestId("r-7"), ModelName("tiny"), prompt="text", adds_special=True),
    InferenceRequest("completion", RequestId("r-2"), ModelName("tiny"), prompt="Once"),
    InferenceRequest("completion", RequestId("r-3"), ModelName("tiny"), prompt=(1, 2, TOKEN_ID_MAX)),
    InferenceRequest("completion", RequestId("r-4"), ModelName("tiny"), prompt=tuple(range(10_000))),
]
FROM_FRONT: list[FrontMessage] = [*(Request(request, CREDIT_MAX) for request in REQUESTS), Credit(1)]
FROM_WORKER: list[WorkerMessage] = [
    Accepted(bytes(range(32)), 9, mark=7),
    Chunk(0, (1, 2), "two tokens"),
    Chunk(127, tuple(range(4096)), "x" * 4096),
    Chunk(
        1,
        (1, 2),
        "text",
        reasoning="thought",
        tool_calls=(ToolCallDelta(0, "c", "f", "{"), ToolCallDelta(1, arguments="}")),
        logprobs=(TokenLogprob(b"\xf0\x9f", -0.5, ((b"a", -0.5), (b"", -9.0))), TokenLogprob(b"", 0.0)),
    ),
    Chunk(2047, (), "", vector=bytes(4096)),
    Progress(128, 512),
    Done((), Usage(9, 0), Timings()),
    Done(("length", "stop"), Usage(9, 3, 2), Timings(0.1, 0.25, 2), Load(4, 2, 1)),
    Done(("stop",), Usage(9, 3), Timings()),
    Refusal("bad_request", "top_k is wrong", "top_k", Load(4, 2)),
    Refusal("busy", "no slot"),
    Failure("the engine died", Load(4, 2)),
    Failure("the engine died"),
    Failure("too complex", is_bad_request=True, param="grammar"),
]

_GGUF = ManifestFile("model.gguf", 2 * CHUNK_SIZE + 1, "ab" * 32, bytes(range(96)))
MANIFESTS = [
    manifest_of([_GGUF]),
    manifest_of([_GGUF, ManifestFile("model.yaml", 12, "cd" * 32, bytes(range(32)))]),
    manifest_of(
        ManifestFile(f"{n:05}-of-00300.gguf", n + 1, f"{n:064x}", bytes([n % 256] * 32)) for n in range(300)
    ),
]
_FILE, _GROWING, _MANIFEST = file_key("ab" * 32), source_key("cd" * 32), ManifestId("ef" * 32)
FROM_FETCHER: list[blob_messages.FetcherMessage] = [
    blob_messages.WantManifest(_MANIFEST),
    blob_messages.Follow(_FILE),
    blob_messages.Follow(_GROWING, with_hashes=True),
    blob_messages.Unfollow(_GROWING),
    blob_messages.Request(0, _FILE, 0),
    blob_messages.Request(2**32 - 1, _GROWING, CHUNKS_MAX - 1),
    blob_messages.Cancel(7),
]
FROM_SEEDER: list[blob_messages.SeederMessage] = [
    blob_messages.ManifestPiece(_MANIFEST, 0, 3, b"abc"),
    blob_messages.ManifestPiece(_MANIFEST, ENCODED_SIZE_MAX - 1, ENCODED_SIZE_MAX, b"x"),
    blob_messages.NoManifest(_MANIFEST),
    blob_messages.Have(_FILE, 1, b"\x80", "ab" * 32, is_growing=False),
    blob_messages.Have(_GROWING, CHUNKS_MAX * CHUNK_SIZE, b"\xff" * (CHUNKS_MAX // 8), "", is_growing=True),
    blob_messages.Gained(_FILE, ()),
    blob_messages.Gained(_FILE, (0, 1, CHUNKS_MAX - 1)),
    blob_messages.Gained(_GROWING, (1, 2), bytes(range(64))),
    blob_messages.Gained(
        _GROWING,
        tuple(range(CHUNKS_MAX - blob_messages.GAINED_MAX, CHUNKS_MAX)),
        b"h" * (32 * blob_messages.GAINED_MAX),
    ),
    blob_messages.NoFile(_FILE),
    blob_messages.Data(0, 0, b"x"),
    blob_messages.Data(
        2**32 - 1, CHUNK_SIZE - blob_messages.PIECE_SIZE_MAX, b"d" * blob_messages.PIECE_SIZE_MAX
    ),
    blob_messages.Refused(1, "busy"),
    blob_messages.Refused(1, "gone"),
    blob_messages.Refused(1, "no_chunk"),
]

_FACTS = wire.ModelFacts(4096, 49152, None, "<s>", "</s>", ("<s>", "</s>"), (1, 2))
_GENERATE = wire.GenerateRequest(
    prompt=(wire.PromptPart("hi\0🙂", parse_special=False), 7),
    sampling=wire.FilledSampling(temperature=0.5, seed=2**40),
    max_tokens=5,
    stop=("\n", "🙂"),
)
TO_CHILD: list[wire.ToChild] = [
    wire.Load(wire.EngineParams("m.gguf")),
    wire.Generate(1, _GENERATE),
    wire.Credit(1, 0, 16),
    wire.Cancel(1),
    wire.Ping(),
]
FROM_CHILD: list[wire.FromChild] = [
    wire.Loading(0.5),
    wire.Loaded(_FACTS, 98_000_000),
    wire.Ready(0.5),
    wire.Pong(),
    wire.LoadFailed("no room"),
    wire.Accepted(1, bytes(32), 9),
    wire.Refused(1, "too long", "too_long", "prompt"),
    wire.Prefilled(1, 128, 512),
    wire.Piece(1, 0, (7,), "x"),
    wire.Finished(1, ("stop",), 9, 3, 0, 0.1, 0.2, 2.0),
]


def packed(maps: Iterable[object]) -> list[bytes]:
    """Each as the body of a frame."""
    return [msgpack.packb(each) for each in maps]
