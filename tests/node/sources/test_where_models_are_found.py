"""From what people write to files: galleries, Hugging Face and Ollama, all played by a server on loopback."""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trio
import yaml

from ledger.records import ModelName
from node.models.demo_model import DEMO_CHAT_TEMPLATE, DEMO_MODEL_SHA256
from node.models.model_yaml import parse_model_yaml
from node.models.yaml_writer import write_yaml
from node.sources.errors import (
    BadGallery,
    BadReference,
    NotAtSource,
    NotInGallery,
    SourceError,
    SourceRefused,
    SourceUnavailable,
    TokenNeeded,
    UnsuitableModel,
)
from node.sources.galleries import Galleries
from node.sources.gallery_index import GalleryFile
from node.sources.gallery_source import GallerySource
from node.sources.reference import parse_reference
from node.sources.resolve import Resolver, Wishes
from node.sources.source_client import SourceClient
from node.sources.source_files import SourceFiles
from node.sources.source_settings import SourceSettings
from tests.node.sources.web import Asked, Handler, Reply, Web, always, serving

SHA256 = "009aba717c09d4a35890c7d35eb59d54e1dba884c7c526e7197d9c13ab5911d9"


@dataclass
class World:
    """A server that is Hugging Face, Ollama's registry and a gallery's host, and who looks there."""

    web: Web
    home: Path
    token: str = ""
    galleries: tuple[str, ...] = ()
    """As people write them."""
    mirror: Web | None = None
    """Asked first, if there is one."""

    async def find(self, text: str, wishes: Wishes | None = None) -> SourceFiles:
        endpoints = tuple(web.url("/") for web in (self.mirror, self.web) if web)
        settings = SourceSettings(endpoints, self.token, endpoints)
        sources = [GallerySource.parse(each) for each in self.galleries]
        async with SourceClient(silence_max=5.0) as client:
            galleries = Galleries(sources, client, self.home / "galleries")
            return await Resolver(client, settings, galleries).resolve(parse_reference(text), wishes)


def in_world(test: Callable[[World], Awaitable[None]], home: Path) -> None:
    async def main() -> None:
        with trio.fail_after(20):
            async with serving() as web:
                await test(World(web, home))

    trio.run(main)


def say(document: Any, **headers: str) -> Handler:
    return always(Reply(200, json.dumps(document).encode(), headers))


def linked(sha256: str, size: int) -> Handler:
    """Hugging Face's answer for a file: its hash, its size, and another address."""
    return always(
        Reply(
            302,
            b"",
            {"location": "http://x.invalid/", "x-linked-etag": f'"{sha256}"', "x-linked-size": str(size)},
        )
    )


def tree(*paths: str) -> list[dict[str, Any]]:
    files = [
        {
            "type": "file",
            "path": path,
            "size": 1000 + n,
            "oid": "ab" * 20,
            "lfs": {"oid": f"{n:064x}", "size": 1000 + n},
        }
        for n, path in enumerate(paths)
    ]
    return [
        {"type": "directory", "path": "sub", "size": 0},
        *files,
        {"type": "file", "path": "README.md", "size": 5},
    ]


def gallery(*names: str, **fields: Any) -> bytes:
    return yaml.safe_dump(
        [
            {
                "name": name,
                "files": [{"filename": "m.gguf", "uri": f"https://x.org/{name}.gguf", "sha256": SHA256}],
                **fields,
            }
            for name in names
        ]
    ).encode()


def test_a_file_of_hugging_face_comes_with_its_hash_and_size(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.token = "hf_t0ken"
        world.web.pages["/org/repo/resolve/v1/sub/m-Q4_K_M.gguf"] = linked(SHA256, 4711)
        found = await world.find("hf://org/repo@v1/sub/m-Q4_K_M.gguf")
        (file,) = found.files
        assert (found.name, found.settings, found.warnings) == ("m-Q4_K_M", {}, ())
        assert (file.name, file.size_bytes, file.sha256) == ("model.gguf", 4711, SHA256)
        assert file.canonical == "hf://org/repo@v1/sub/m-Q4_K_M.gguf"
        assert file.locations[0].token == "hf_t0ken"
        assert "t0ken" not in repr(found)
        assert [each.method for each in world.web.asked] == ["HEAD"]

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("hf://org/repo", "m-Q4_K_M.gguf"),
        ("hf://org/repo:Q8_0", "m-Q8_0.gguf"),
        ("hf://org/repo:f16", "m-F16.gguf"),
        ("hf://org/repo:BF16", "m-BF16.gguf"),
        ("hf://org/repo:UD-Q4_K_M", "m-UD-Q4_K_M.gguf"),
        ("hf://org/repo:IQ2_XXS", "sub/m-IQ2_XXS.gguf"),
    ],
)
def test_the_quantisation_that_was_meant_is_chosen(text: str, path: str, tmp_path: Path) -> None:
    names = (
        "m-BF16",
        "m-F16",
        "m-Q4_K_M",
        "m-UD-Q4_K_M",
        "m-Q8_0",
        "sub/m-IQ2_XXS",
        "mmproj-F16",
        "m.imatrix",
    )
    files = tree(*(f"{name}.gguf" for name in names))

    async def test(world: World) -> None:
        world.web.pages["/api/models/org/repo/tree/main"] = say(files)
        found = await world.find(text)
        (file,) = found.files
        assert file.canonical == f"hf://org/repo/{path}"
        assert str(file.locations[0].url).endswith(f"/org/repo/resolve/main/{path}")
        (listed,) = (each for each in files if each["path"] == path)
        assert (file.sha256, file.size_bytes) == (listed["lfs"]["oid"], listed["size"])

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    ("text", "paths", "words"),
    [
        ("hf://org/repo", ["m.safetensors"], "has no GGUF file"),
        ("hf://org/repo", ["mmproj-F16.gguf"], "has no GGUF file"),
        ("hf://org/repo", ["m-Q8_0.gguf", "m-Q2_K.gguf"], "nothing in Q4_K_M; there is Q2_K, Q8_0: write"),
        ("hf://org/repo:Q3_K", ["m-Q8_0.gguf", "m-Q3_K_S.gguf"], "nothing in Q3_K; there is Q3_K_S, Q8_0"),
        ("hf://org/repo:Q4", ["m-Q4_K_M.gguf"], "nothing in Q4; there is Q4_K_M"),
        ("hf://org/repo", ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"], "several files in Q4_K_M: a-Q4_K_M.gguf, b-Q4"),
        ("hf://org/repo", ["a.gguf", "b.gguf"], "there is a.gguf, b.gguf: write hf://org/repo/a.gguf"),
        ("hf://org/repo", ["m-Q4_K_M-00001-of-00002.gguf"], "has 2 parts, and part 2 is not there"),
    ],
)
def test_a_choice_that_cannot_be_made_is_left_to_a_person(
    text: str, paths: list[str], words: str, tmp_path: Path
) -> None:
    async def test(world: World) -> None:
        world.web.pages["/api/models/org/repo/tree/main"] = say(tree(*paths))
        with pytest.raises(UnsuitableModel, match=words):
            await world.find(text)

    in_world(test, tmp_path)


def test_the_only_model_of_a_repository_needs_no_choice(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.web.pages["/api/models/org/repo/tree/main"] = say(tree("tiny.gguf"))
        assert (await world.find("hf://org/repo")).name == "tiny"

    in_world(test, tmp_path)


def test_a_model_in_parts_is_found_by_any_of_them(tmp_path: Path) -> None:
    paths = [f"q/m-Q4_K_M-0000{n}-of-00002.gguf" for n in (1, 2)]

    async def test(world: World) -> None:
        world.web.pages["/api/models/org/repo/tree/main"] = say(tree(*reversed(paths)))
        for path in paths:
            world.web.pages[f"/org/repo/resolve/main/{path}"] = linked(SHA256, 7)
        for text in ("hf://org/repo", f"hf://org/repo/{paths[0]}", f"hf://org/repo/{paths[1]}"):
            found = await world.find(text)
            assert [file.canonical for file in found.files] == [f"hf://org/repo/{path}" for path in paths]
            assert [file.name for file in found.files] == [f"model-0000{n}-of-00002.gguf" for n in (1, 2)]
            assert found.name == "m-Q4_K_M"

    in_world(test, tmp_path)


def test_a_long_list_of_files_is_read_to_its_end(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        path = "/api/models/org/repo/tree/main"

        def pages(asked: Asked) -> Reply:
            if "cursor" in asked.target:
                return say(tree("m-Q4_K_M.gguf"))(asked)
            return say(tree("m-Q8_0.gguf"), link=f'<{world.web.root}{path}?cursor=2>; rel="next"')(asked)

        world.web.pages[path] = pages
        assert (await world.find("hf://org/repo")).name == "m-Q4_K_M"
        # A list without an end, and one that goes on elsewhere.
        for link in (f"{world.web.root}{path}", "http://x.invalid/"):
            world.web.pages[path] = say(tree("m-Q8_0.gguf"), link=f'<{link}>; rel="next"')
            with pytest.raises(SourceRefused, match="more files than can be looked through"):
                await world.find("hf://org/repo")

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    ("reply", "kind", "words"),
    [
        (
            Reply(401, headers={"x-error-code": "RepoNotFound"}),
            TokenNeeded,
            "check its name, or set HF_TOKEN",
        ),
        (Reply(404), NotAtSource, "check its name"),
        (Reply(200, b"<html>"), SourceRefused, "does not answer in JSON"),
        (Reply(200, b"{}"), SourceRefused, "is HF_ENDPOINT a mirror of it"),
        (Reply(200, b"[" * 100_000), SourceRefused, "does not answer in JSON"),
        (Reply(200, b'[1, {}, {"type": "file", "path": 3}]'), UnsuitableModel, "has no GGUF file"),
    ],
)
def test_what_hugging_face_says_instead_is_told(
    reply: Reply, kind: type[SourceError], words: str, tmp_path: Path
) -> None:
    async def test(world: World) -> None:
        world.web.pages["/api/models/org/repo/tree/main"] = always(reply)
        with pytest.raises(kind, match=words):
            await world.find("hf://org/repo")

    in_world(test, tmp_path)


def test_a_file_whose_hash_nobody_says_is_warned_about(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.web.pages["/org/repo/resolve/main/m.gguf"] = always(
            Reply(200, b"x", {"etag": f'"{"ab" * 20}"'})
        )
        found = await world.find("hf://org/repo/m.gguf")
        assert found.warnings == (
            "nobody says the sha256 of hf://org/repo/m.gguf: what comes is taken as it is",
        )
        found = await world.find("https://x.org/a%20b.gguf?sig=s3cret")
        assert (found.name, len(found.warnings)) == ("a b", 1)
        assert "s3cret" not in found.warnings[0]
        assert found.files[0].key.startswith("source:")

    in_world(test, tmp_path)


def test_a_web_file_in_parts_comes_whole(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        found = await world.find("https://x.org/m-00002-of-00002.gguf?k=1")
        urls = [file.locations[0].url.text for file in found.files]
        assert urls == [f"https://x.org/m-0000{n}-of-00002.gguf?k=1" for n in (1, 2)]
        with pytest.raises(BadReference, match="--name"):
            await world.find("https://x.org/")
        assert (await world.find("https://x.org/m.gguf", Wishes(name=ModelName("mine")))).name == "mine"

    in_world(test, tmp_path)


def ollama(world: World, params: Any = None, **layers: int) -> None:
    """A model `me/tiny:q8` with layers of these kinds, so many of each."""
    body = json.dumps(params).encode()
    digest = hashlib.sha256(body).hexdigest()
    kinds = [kind for kind, count in layers.items() for _ in range(count)]
    items = [
        {"mediaType": f"application/vnd.ollama.image.{kind}", "digest": f"sha256:{n:064x}", "size": 10 + n}
        for n, kind in enumerate(kinds)
    ]
    if params is not None:
        items.append(
            {"mediaType": "application/vnd.ollama.image.params", "digest": f"sha256:{digest}", "size": 1}
        )
        world.web.pages[f"/v2/me/tiny/blobs/sha256:{digest}"] = always(Reply(200, body))
    world.web.pages["/v2/me/tiny/manifests/q8"] = say({"schemaVersion": 2, "layers": items})


def test_a_model_of_ollama_comes_with_its_parameters(tmp_path: Path) -> None:
    params = {
        "stop": ["<|end|>", 3],
        "temperature": 0.3,
        "num_ctx": 2048,
        "num_predict": -1,
        "top_k": 10,
        "repeat_last_n": 64,
    }

    async def test(world: World) -> None:
        ollama(world, params, model=1, template=1, license=2, projector=1, system=1)
        found = await world.find("ollama://me/tiny:q8")
        assert found.name == "tiny:q8"
        assert [(file.name, file.sha256, file.size_bytes) for file in found.files] == [
            ("model.gguf", f"{0:064x}", 10),
            ("mmproj.gguf", f"{4:064x}", 14),
        ]
        assert str(found.files[0].locations[0].url).endswith(f"/v2/me/tiny/blobs/sha256:{0:064x}")
        settings = parse_model_yaml(write_yaml(found.settings), source="tiny")
        assert (settings.name, settings.stop, settings.context_size) == ("tiny:q8", ("<|end|>",), 2048)
        assert (settings.sampling.temperature, settings.sampling.top_k, settings.max_tokens) == (
            0.3,
            10,
            None,
        )
        assert found.warnings == ("ollama://me/tiny:q8: its system prompt has no effect here",)
        assert "manifest.v2+json" in world.web.asked[0].headers["accept"]

    in_world(test, tmp_path)


def test_parameters_that_cannot_be_are_left_out_and_the_model_comes(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ollama(world, {"num_ctx": 2048.5, "temperature": 0.3}, model=1)
        found = await world.find("ollama://me/tiny:q8")
        assert found.settings == {"name": "tiny:q8"}
        (warning,) = found.warnings
        assert "its parameters are left out: ollama://me/tiny:q8: context_size must be a whole" in warning

    in_world(test, tmp_path)


def test_what_its_source_calls_as_no_model_can_be_called_needs_another_name(tmp_path: Path) -> None:
    long = f"hf://org/repo/{'m' * 200}.gguf"

    async def test(world: World) -> None:
        world.web.pages[f"/org/repo/resolve/main/{'m' * 200}.gguf"] = linked(SHA256, 7)
        for text in ("https://x.org/?file=7", long):
            with pytest.raises(BadReference, match="give it a name with --name"):
                await world.find(text)
            assert (await world.find(text, Wishes(name=ModelName("mine")))).name == "mine"

    in_world(test, tmp_path)


def test_a_path_that_no_url_can_hold_is_said(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        with pytest.raises(UnsuitableModel, match="cannot be written: a URL is at most 4096"):
            await world.find(f"hf://org/repo/{'é' * 1000}.gguf")

    in_world(test, tmp_path)


def test_files_that_have_no_use_are_warned_about(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        extra = [GalleryFile("draft.gguf", "https://x.org/draft.gguf")]
        found = await world.find("demo", Wishes(files=extra))
        assert found.warnings == ("'draft.gguf' has no use here and is left out",)

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    ("layers", "words"),
    [
        ({"model": 1, "adapter": 1}, "with an adapter"),
        ({"tensor": 3}, "has 0 GGUF files"),
        ({"model": 2}, "has 2 GGUF files"),
    ],
)
def test_a_model_of_ollama_that_does_not_run_here_is_said(
    layers: dict[str, int], words: str, tmp_path: Path
) -> None:
    async def test(world: World) -> None:
        ollama(world, **layers)
        with pytest.raises(UnsuitableModel, match=words):
            await world.find("ollama://me/tiny:q8")

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    "document",
    [
        [],
        {},
        {"layers": []},
        {"layers": {}},
        {"layers": [1]},
        {"layers": [{"mediaType": "x", "digest": "sha256:../../etc", "size": 1}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": -1}]},
        {"layers": [{"mediaType": 1, "digest": "sha256:" + "0" * 64, "size": 1}]},
        {"layers": [{"mediaType": "x", "digest": "sha256:" + "0" * 64, "size": 1}] * 300},
    ],
)
def test_what_is_no_manifest_of_ollama_is_refused(document: Any, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.web.pages["/v2/me/tiny/manifests/q8"] = say(document)
        with pytest.raises(SourceRefused, match="ollama://me/tiny:q8"):
            await world.find("ollama://me/tiny:q8")

    in_world(test, tmp_path)


def test_parameters_that_are_not_what_the_manifest_says_are_refused(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        ollama(world, {"num_ctx": 1}, model=1)
        for path in list(world.web.pages):
            if "blobs" in path:
                world.web.pages[path] = always(Reply(200, b'{"num_ctx": 2}'))
        with pytest.raises(SourceRefused, match="is not what the model's manifest"):
            await world.find("ollama://me/tiny:q8")

    in_world(test, tmp_path)


def test_an_index_comes_again_only_when_it_changed(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        def index(asked: Asked) -> Reply:
            if asked.headers.get("if-none-match") == '"1"':
                return Reply(304)
            return Reply(200, gallery("tiny"), {"etag": '"1"'})

        world.galleries = (f"home={world.web.root}/index.yaml",)
        world.web.pages["/index.yaml"] = index
        first = await world.find("tiny")
        again = await world.find("HOME@Tiny")
        assert first == again
        assert (first.name, first.warnings) == ("tiny", ())
        assert world.web.sent_bytes == len(gallery("tiny"))
        world.web.pages["/index.yaml"] = always(Reply(200, gallery("tiny", "small"), {"etag": '"2"'}))
        assert (await world.find("small")).name == "small"

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    "reply", [Reply(503), Reply(404), Reply(200, b"<html>log in</html>"), Reply(200, b"[]")]
)
def test_where_no_index_is_given_the_last_one_is_used_with_a_warning(reply: Reply, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        world.galleries = (f"home={world.web.root}/index.yaml?key=s3cret",)
        world.web.pages["/index.yaml"] = always(reply)
        with pytest.raises((SourceError, BadGallery)):
            await world.find("tiny")
        world.web.pages["/index.yaml"] = always(Reply(200, gallery("tiny"), {"etag": '"1"'}))
        await world.find("tiny")
        world.web.pages["/index.yaml"] = always(reply)
        for _ in range(2):
            found = await world.find("tiny")
            assert found.files[0].sha256 == SHA256
            assert len(found.warnings) == 1
            assert "had before is used" in found.warnings[0]
            assert "s3cret" not in found.warnings[0]
        kept = b"".join(path.read_bytes() for path in sorted((tmp_path / "galleries").iterdir()))
        assert b"s3cret" not in kept

    in_world(test, tmp_path)


def test_a_copy_that_the_disk_has_spoilt_costs_only_time(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        def index(asked: Asked) -> Reply:
            if asked.headers.get("if-none-match") == '"1"':
                return Reply(304)
            return Reply(200, gallery("tiny"), {"etag": '"1"'})

        def spoil() -> None:
            (copy,) = (tmp_path / "galleries").glob("*.yaml")
            copy.write_bytes(b"- {name")

        world.galleries = (f"home={world.web.root}/index.yaml",)
        world.web.pages["/index.yaml"] = index
        await world.find("tiny")
        spoil()
        assert (await world.find("tiny")).warnings == ()
        sent = world.web.sent_bytes
        await world.find("tiny")
        assert world.web.sent_bytes == sent, "it was not kept again"
        spoil()
        world.web.pages["/index.yaml"] = always(Reply(404))
        with pytest.raises(NotAtSource):
            await world.find("tiny")

    in_world(test, tmp_path)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "galleries").write_text("a file where the folder should be")
        world.galleries = (f"home={world.web.root}/index.yaml",)
        world.web.pages["/index.yaml"] = always(Reply(200, gallery("tiny"), {"etag": '"1"'}))
        assert (await world.find("tiny")).name == "tiny"

    in_world(test, tmp_path)


def test_the_first_gallery_that_has_a_model_gives_it(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        for name, models in (("one", ["tiny", "small"]), ("two", ["tiny", "large"])):
            (tmp_path / f"{name}.yaml").write_bytes(gallery(*models, license=name))
        world.galleries = (f"{tmp_path}/one.yaml", f"{tmp_path}/two.yaml")
        assert (await world.find("tiny")).license == "one"
        assert (await world.find("two@tiny")).license == "two"
        assert (await world.find("large")).license == "two"
        with pytest.raises(NotInGallery, match="did you mean small"):
            await world.find("smal")
        with pytest.raises(NotInGallery, match="'one@large'"):
            await world.find("one@large")
        with pytest.raises(NotInGallery, match="no gallery is called 'three'; there is one, two"):
            await world.find("three@tiny")

    in_world(test, tmp_path)


def test_a_name_that_was_not_found_is_not_compared_with_all_of_a_huge_gallery(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        others = "".join(f"- {{name: x{n}}}\n" for n in range(3000))
        world.galleries = (f"{tmp_path}/home.yaml",)
        (tmp_path / "home.yaml").write_text(f"- {{name: small}}\n{others}")
        with pytest.raises(NotInGallery, match="did you mean small"):
            await world.find("smal")
        (tmp_path / "home.yaml").write_text(f"{others}- {{name: small}}\n")
        with pytest.raises(NotInGallery, match=r"'smal'$"):
            await world.find("smal")

    in_world(test, tmp_path)


def test_one_gallery_that_cannot_be_read_is_a_warning(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        (tmp_path / "one.yaml").write_bytes(gallery("tiny"))
        world.galleries = (f"{tmp_path}/none.yaml", f"{tmp_path}/one.yaml")
        found = await world.find("tiny")
        assert "none.yaml cannot be read" in found.warnings[0]
        assert (await world.find("one@tiny")).warnings == (), "another gallery was looked into"
        with pytest.raises(BadGallery, match=r"none\.yaml cannot be read"):
            await world.find("none@tiny")
        with pytest.raises(NotInGallery, match=r"none\.yaml cannot be read"):
            await world.find("other")
        world.galleries = world.galleries[:1]
        with pytest.raises(BadGallery, match=r"none\.yaml cannot be read"):
            await world.find("tiny")

    in_world(test, tmp_path)


def test_what_is_wrong_with_one_model_is_told_to_who_wants_it_and_not_to_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(world: World) -> None:
        (tmp_path / "home.yaml").write_bytes(gallery("tiny") + b"- {name: broken, files: 1}\n")
        world.galleries = (f"{tmp_path}/home.yaml",)
        assert (await world.find("tiny")).warnings == ()
        assert "count=1 first=gallery 'home': model 2 (broken) is left out: its files" in caplog.text
        with pytest.raises(NotInGallery, match=r"model 2 .broken. is left out: its files must be a list"):
            await world.find("Broken")
        with pytest.raises(NotInGallery, match=r"'other'$"):
            await world.find("other")

    in_world(test, tmp_path)


def test_base_configs_come_from_where_the_gallery_is(tmp_path: Path) -> None:
    base = b"config_file: {context_size: 512, parameters: {model: m.gguf}}"

    async def test(world: World) -> None:
        world.web.pages["/g/index.yaml"] = always(Reply(200, gallery("tiny", url="base/b.yaml")))
        world.web.pages["/g/base/b.yaml"] = always(Reply(200, base))
        world.galleries = (f"home={world.web.root}/g/index.yaml",)
        assert (await world.find("tiny")).settings["context_size"] == 512
        del world.web.pages["/g/index.yaml"], world.web.pages["/g/base/b.yaml"]
        assert (await world.find("tiny")).settings["context_size"] == 512, "not kept"
        # LocalAI's gallery, copied to this machine as a whole: nobody is asked.
        (tmp_path / "g").mkdir()
        (tmp_path / "g" / "index.yaml").write_bytes(
            gallery("tiny", url="github:mudler/LocalAI/gallery/b.yaml@master")
        )
        (tmp_path / "g" / "b.yaml").write_bytes(base)
        world.galleries = (f"{tmp_path}/g/index.yaml",)
        assert (await world.find("g@tiny")).settings["context_size"] == 512

    in_world(test, tmp_path)


def test_a_gallery_may_leave_hashes_to_hugging_face(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        files = [{"filename": "m.gguf", "uri": "huggingface://org/repo/m.gguf"}]
        (tmp_path / "home.yaml").write_bytes(yaml.safe_dump([{"name": "tiny", "files": files}]).encode())
        world.galleries = (f"{tmp_path}/home.yaml",)
        world.web.pages["/org/repo/resolve/main/m.gguf"] = linked(SHA256, 4711)
        found = await world.find("tiny")
        assert (found.files[0].sha256, found.files[0].size_bytes, found.warnings) == (SHA256, 4711, ())
        del world.web.pages["/org/repo/resolve/main/m.gguf"]
        assert len((await world.find("tiny")).warnings) == 1
        names = [f"m-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
        parts = [{"filename": name, "uri": f"huggingface://org/repo/{name}"} for name in names]
        (tmp_path / "home.yaml").write_bytes(yaml.safe_dump([{"name": "big", "files": parts}]).encode())
        world.web.pages[f"/org/repo/resolve/main/{names[1]}"] = linked(SHA256, 4711)
        found = await world.find("big")
        assert [file.sha256 for file in found.files] == ["", SHA256, ""], "one that is not there"
        for name in names:
            world.web.pages[f"/org/repo/resolve/main/{name}"] = always(Reply(500))
        world.web.asked.clear()
        assert len((await world.find("big")).warnings) == 3
        # For its hash, and what is there for its version.
        assert len(world.web.asked) == 2, "who is out of reach was asked for each part"

    in_world(test, tmp_path)


def test_a_config_at_an_address_of_its_own_is_a_model(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        base = {
            "name": "tiny",
            "config_file": "context_size: 512\nparameters:\n  model: m.gguf\n",
            "files": [{"filename": "m.gguf", "uri": "https://x.org/m.gguf", "sha256": SHA256}],
        }
        world.web.pages["/tiny.yaml"] = always(Reply(200, yaml.safe_dump(base).encode()))
        found = await world.find(f"{world.web.root}/tiny.yaml", Wishes(overrides={"threads": 2}))
        assert (found.name, found.files[0].sha256) == ("tiny", SHA256)
        settings = parse_model_yaml(write_yaml(found.settings), source="tiny")
        assert (settings.context_size, settings.threads) == (512, 2)

    in_world(test, tmp_path)


def test_a_file_of_this_machine_is_used_where_it_is(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        path = tmp_path / "m.gguf"
        path.write_bytes(struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(50))
        (tmp_path / "m.yaml").write_text("name: mine\ncontext_size: 512\nparameters: {model: m.gguf}\n")
        for text in (str(path), str(tmp_path / "m.yaml")):
            found = await world.find(text)
            (file,) = found.files
            assert (file.path, file.size_bytes) == (path, path.stat().st_size)
            assert (found.name, found.warnings) == ("mine", ())
            assert found.settings == {"name": "mine", "context_size": 512}
        (tmp_path / "no.gguf").write_bytes(b"no")
        with pytest.raises(UnsuitableModel):
            await world.find(str(tmp_path / "no.gguf"))
        with pytest.raises(UnsuitableModel):
            await world.find(str(tmp_path / "nothing.gguf"))

    in_world(test, tmp_path)


def test_all_files_that_a_yaml_of_this_machine_names_come_along(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        gguf = struct.pack("<4sIQQ", b"GGUF", 3, 0, 0) + bytes(50)
        (tmp_path / "w").mkdir()
        paths = [tmp_path / "w" / f"big-0000{n}-of-00002.gguf" for n in (1, 2)]
        for path in (*paths, tmp_path / "eye.gguf"):
            path.write_bytes(gguf)
        settings = 'mmproj: eye.gguf\nparameters: {model: w/big-00002-of-00002.gguf}\nstopwords: ["a\\Nb"]\n'
        (tmp_path / "big.yaml").write_text(settings)
        found = await world.find(str(tmp_path / "big.yaml"))
        assert [(file.name, file.path) for file in found.files] == [
            ("model-00001-of-00002.gguf", paths[0]),
            ("model-00002-of-00002.gguf", paths[1]),
            ("mmproj.gguf", tmp_path / "eye.gguf"),
        ]
        assert found.settings == {"stopwords": ["a\x85b"]}
        assert found.warnings == ()
        (tmp_path / "eye.gguf").unlink()
        blind = await world.find(str(tmp_path / "big.yaml"))
        assert len(blind.files) == 2
        assert "eye.gguf, which is not there" in blind.warnings[0]

    in_world(test, tmp_path)


@pytest.mark.parametrize(
    "text", ["demo", "https://x.org/m.gguf", "hf://org/repo/m.gguf", "ollama://me/tiny:q8"]
)
def test_settings_that_cannot_be_wished_for_are_refused_before_anything_comes(
    text: str, tmp_path: Path
) -> None:
    async def test(world: World) -> None:
        world.web.pages["/org/repo/resolve/main/m.gguf"] = linked(SHA256, 7)
        ollama(world, model=1)
        with pytest.raises(UnsuitableModel, match="threads must be a whole number"):
            await world.find(text, Wishes(overrides={"threads": "many"}))
        with pytest.raises(UnsuitableModel, match="must be"):
            await world.find(text, Wishes(overrides={"stopwords": ["\ud800"]}))

    in_world(test, tmp_path)


def test_the_bundled_model_is_used_where_it_is(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        found = await world.find("demo")
        (file,) = found.files
        assert found.name == "smollm2-135m-instruct"
        assert file.sha256 == DEMO_MODEL_SHA256
        assert file.path is not None
        assert file.path.is_file()
        assert parse_model_yaml(write_yaml(found.settings), source="demo").chat_template == DEMO_CHAT_TEMPLATE
        assert world.web.asked == []

    in_world(test, tmp_path)


@pytest.mark.parametrize("reply", [Reply(404), Reply(500), Reply(200, b"<html>")])
def test_where_one_mirror_cannot_help_the_next_one_is_asked(reply: Reply, tmp_path: Path) -> None:
    async def test(world: World) -> None:
        async with serving() as mirror:
            world.mirror = mirror
            for path in ("/api/models/org/repo/tree/main", "/v2/me/tiny/manifests/q8"):
                mirror.pages[path] = always(reply)
            world.web.pages["/api/models/org/repo/tree/main"] = say(tree("m-Q4_K_M.gguf"))
            ollama(world, {"num_ctx": 512}, model=1)
            model = await world.find("ollama://me/tiny:q8")
            assert model.settings["context_size"] == 512
            for found in (model, await world.find("hf://org/repo")):
                origins = [location.url.origin for location in found.files[0].locations]
                assert origins == [mirror.root, world.web.root]
            # Without a hash nothing says that both have the same.
            world.web.pages["/org/repo/resolve/main/m.gguf"] = always(Reply(200, b"x"))
            assert len((await world.find("hf://org/repo/m.gguf")).files[0].locations) == 1

    in_world(test, tmp_path)


def test_without_a_network_that_is_said(tmp_path: Path) -> None:
    async def test(world: World) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        world.web = Web(listeners[0].socket.getsockname()[1])
        await listeners[0].aclose()
        for text in ("hf://org/repo", "ollama://tiny", "hf://org/repo/m.gguf"):
            with pytest.raises(SourceUnavailable, match="is there a network"):
                await world.find(text)

    in_world(test, tmp_path)
