"""Programs that people use, through the proxy, against an aiohttp server: bodies whole, nothing rewritten."""

import asyncio
import gzip
import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
import requests
from aiohttp import web

from tests.http1.recording import KeptLog, entrance, keep_log, one_record
from tests.http1.staging import Stage, answering, policy_text, staged

DATA = hashlib.shake_256(b"some megabytes").digest(3_000_001)
DIGEST = hashlib.sha256(DATA).hexdigest()
ZIPPED = gzip.compress(b"text " * 10_000, mtime=0)
ETAG = '"v1"'


@dataclass
class Origin:
    """seen: (method, raw target, protocol, header fields) of each request, in order."""

    seen: list[tuple[str, str, tuple[int, int], list[tuple[str, str]]]] = field(default_factory=list)
    transports: set[object] = field(default_factory=set)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        fields = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.raw_headers]
        self.seen.append((request.method, request.raw_path, tuple(request.version), fields))
        self.transports.add(request.transport)
        if request.headers.get("Expect") == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        match request.path:
            case "/data":
                return self._data(request)
            case "/zipped":
                return web.Response(body=ZIPPED, headers={"Content-Encoding": "gzip", "ETag": ETAG})
            case "/chunks":
                response = web.StreamResponse()
                response.enable_chunked_encoding()
                await response.prepare(request)
                for at in range(0, len(DATA), 100_003):
                    await response.write(DATA[at : at + 100_003])
                return response
            case _:
                digest = hashlib.sha256()
                async for piece in request.content.iter_chunked(65_536):
                    digest.update(piece)
                return web.Response(text=digest.hexdigest())

    def _data(self, request: web.Request) -> web.Response:
        if request.headers.get("If-None-Match") == ETAG:
            return web.Response(status=304, headers={"ETag": ETAG})
        headers = {"ETag": ETAG, "Accept-Ranges": "bytes"}
        if "Range" not in request.headers:
            return web.Response(body=DATA, headers=headers)
        part = request.http_range
        start, stop, _ = part.indices(len(DATA))
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(DATA)}"
        return web.Response(status=206, body=DATA[start:stop], headers=headers)

    def values(self, name: str, at: int = -1) -> list[str]:
        return [value for key, value in self.seen[at][3] if key.lower() == name.lower()]


@dataclass
class Scene:
    stage: Stage
    log: KeptLog
    origin: Origin
    url: str


@asynccontextmanager
async def before_origin() -> AsyncIterator[Scene]:
    """A plane before an aiohttp server, and a URL at which a mainland client meets it."""
    origin = Origin()
    server = web.Server(origin.serve, access_log=None)
    runner = web.ServerRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with staged({"cn": answering()}) as stage:
            stage.plane.swap(stage.line(policy_text({"cn": runner.addresses[0][1]}), stage.plane.line))
            async with entrance(stage, "1.2.4.9") as connect:
                client = await connect()
                port = client.writer.get_extra_info("peername")[1]
                client.close()
                yield Scene(stage, keep_log(stage), origin, f"http://127.0.0.1:{port}")
    finally:
        await runner.cleanup()


async def curl(*arguments: str, data: bytes = b"") -> bytes:
    """What curl prints; it must succeed."""
    environment = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    process = await asyncio.create_subprocess_exec(
        # Where a 100 is expected it waits for one longer than it may take in all.
        *("curl", "--disable", "--silent", "--show-error", "--fail", "--max-time", "60", "--expect100-timeout", "90"),
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, error = await process.communicate(data)
    assert process.returncode == 0, error
    return out


@pytest.mark.debian
@pytest.mark.parametrize("version", ["--http1.1", "--http1.0"])
@pytest.mark.parametrize("path", ["/data", "/chunks"])
async def test_curl_downloads(version: str, path: str) -> None:
    async with before_origin() as scene:
        assert hashlib.sha256(await curl(version, scene.url + path)).hexdigest() == DIGEST
        assert scene.origin.seen[-1][2] == (1, 1)
        record = await one_record(scene.stage, scene.log)
        assert (record["status"], record["to_client"]) == (200, len(DATA))


@pytest.mark.debian
@pytest.mark.parametrize(
    ("arguments", "framing"),
    [
        (["--http1.1"], ("Content-Length", str(len(DATA)))),
        (["--http1.0"], ("Content-Length", str(len(DATA)))),
        (["--http1.1", "--header", "Transfer-Encoding: chunked"], ("Transfer-Encoding", "chunked")),
        (["--http1.1", "--header", "Expect: 100-continue"], ("Expect", "100-continue")),
        (
            ["--http1.1", "--header", "Expect: 100-continue", "--header", "Transfer-Encoding: chunked"],
            ("Expect", "100-continue"),
        ),
        (["--http1.1", "--header", "Expect:"], ("Content-Length", str(len(DATA)))),
    ],
)
@pytest.mark.parametrize("method", ["PUT", "POST"])
async def test_curl_uploads(tmp_path: Path, method: str, arguments: list[str], framing: tuple[str, str]) -> None:
    file = tmp_path / "data"
    file.write_bytes(DATA)
    async with before_origin() as scene:
        said = await curl(*arguments, "--request", method, "--data-binary", f"@{file}", scene.url + "/up")
        assert said.decode() == DIGEST
        assert scene.origin.values(framing[0]) == [framing[1]]
        record = await one_record(scene.stage, scene.log)
        assert (record["method"], record["to_provider"]) == (method, len(DATA))


@pytest.mark.debian
async def test_curl_keeps_one_connection_and_its_targets() -> None:
    targets = ["/a//b", "/%2e%2e/x", "/x?q=%20&r=[]", "/..;/x", "/%E4%B8%AD"]
    async with before_origin() as scene:
        out = await curl(
            *(
                "--path-as-is",
                "--globoff",
                "--write-out",
                "%{num_connects}\\n",
                "--output",
                "/dev/null",
                "--remote-name-all",
            ),
            *(part for target in targets for part in ("--output", "/dev/null", scene.url + target)),
        )
        assert out.split() == [b"1", b"0", b"0", b"0", b"0"]
        assert [target for _, target, _, _ in scene.origin.seen] == targets
        assert len(scene.origin.transports) == 1
        await one_record(scene.stage, scene.log, len(targets))


@pytest.mark.debian
async def test_curl_resumes_by_ranges_and_revalidates_by_etag(tmp_path: Path) -> None:
    file, etag = tmp_path / "data", tmp_path / "etag"
    file.write_bytes(DATA[:1_000_000])
    async with before_origin() as scene:
        await curl("--continue-at", "-", "--output", str(file), scene.url + "/data")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == DIGEST
        assert scene.origin.values("Range") == ["bytes=1000000-"]
        await curl("--etag-save", str(etag), "--output", str(file), scene.url + "/data")
        assert etag.read_text().strip() == ETAG
        assert await curl("--etag-compare", str(etag), scene.url + "/data", "--write-out", "%{http_code}") == b"304"
        assert scene.origin.values("If-None-Match") == [ETAG]
        await one_record(scene.stage, scene.log, 3)


@pytest.mark.debian
async def test_curl_gets_heads_zipped_bodies_and_denials() -> None:
    async with before_origin() as scene:
        head = await curl("--head", scene.url + "/data")
        assert f"content-length: {len(DATA)}".encode() in head.lower()
        assert await curl(scene.url + "/zipped") == ZIPPED
        assert await curl("--compressed", scene.url + "/zipped") == b"text " * 10_000
        async with entrance(scene.stage, "8.8.8.8") as connect:
            client = await connect()
            port = client.writer.get_extra_info("peername")[1]
            client.close()
            body = await curl("--no-fail", "--write-out", "%{http_code}", f"http://127.0.0.1:{port}/data")
            assert b'"reason":"no-provider"' in body
            assert body.endswith(b"451")
        await one_record(scene.stage, scene.log, 4)


async def test_aiohttp_uploads_and_downloads_over_kept_connections() -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 77_777):
            yield DATA[at : at + 77_777]

    async with before_origin() as scene, aiohttp.ClientSession(scene.url, auto_decompress=False) as session:
        for _ in range(3):
            for path in ("/data", "/chunks"):
                async with session.get(path) as response:
                    assert hashlib.sha256(await response.read()).hexdigest() == DIGEST
            async with session.put("/up", data=BytesIO(DATA)) as response:
                assert await response.text() == DIGEST
            async with session.post("/up", data=pieces()) as response:
                assert await response.text() == DIGEST
            async with session.put("/up", data=BytesIO(DATA), expect100=True) as response:
                assert await response.text() == DIGEST
        assert len(scene.origin.transports) == 1
        async with session.get("/zipped") as response:
            assert (await response.read(), response.headers["Content-Encoding"]) == (ZIPPED, "gzip")
            assert response.headers["ETag"] == ETAG
        async with session.get("/data", headers={"Range": "bytes=5-9"}) as response:
            assert (response.status, await response.read()) == (206, DATA[5:10])
            assert response.headers["Content-Range"] == f"bytes 5-9/{len(DATA)}"
        async with session.head("/data") as response:
            assert response.headers["Content-Length"] == str(len(DATA))
        await one_record(scene.stage, scene.log, 18)


async def test_aiohttp_asks_many_things_at_once() -> None:
    async with before_origin() as scene, aiohttp.ClientSession(scene.url) as session:

        async def one(number: int) -> str:
            async with session.post(f"/up?{number}", data=b"%d" % number * 1000) as response:
                return await response.text()

        digests = await asyncio.gather(*map(one, range(200)))
        assert digests == [hashlib.sha256(b"%d" % number * 1000).hexdigest() for number in range(200)]
        await one_record(scene.stage, scene.log, 200)


async def test_requests_uploads_and_downloads() -> None:
    def talk(url: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for path in ("/data", "/chunks"):
                assert hashlib.sha256(session.get(url + path, timeout=60).content).hexdigest() == DIGEST
            assert session.put(url + "/up", data=DATA, timeout=60).text == DIGEST
            halves = iter([DATA[:1_500_000], DATA[1_500_000:]])
            assert session.post(url + "/up", data=halves, timeout=60).text == DIGEST
            form = session.post(url + "/up", files={"file": ("name", b"x" * 100_000)}, timeout=60)
            assert form.status_code == 200
            part = session.get(url + "/data", headers={"Range": "bytes=-3"}, timeout=60)
            assert (part.status_code, part.content) == (206, DATA[-3:])
            same = session.get(url + "/data", headers={"If-None-Match": ETAG}, timeout=60)
            assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", ETAG)
            assert session.get(url + "/zipped", timeout=60).content == b"text " * 10_000
            assert session.head(url + "/data", timeout=60).headers["Content-Length"] == str(len(DATA))

    async with before_origin() as scene:
        await asyncio.to_thread(talk, scene.url)
        assert len(scene.origin.transports) == 1
        await one_record(scene.stage, scene.log, 9)
