"""An HTTP server in twenty lines: `GET /a%20green%20slime?seed=7` answers with a PNG file.

All clients share one engine, so that requests at the same time share steps. A client that goes away
cancels its job.

python examples/python/async_server.py --port 8000, then open http://127.0.0.1:8000/a%20green%20slime
"""

from __future__ import annotations

import argparse
import asyncio
from urllib.parse import parse_qsl, unquote, urlsplit

import dgx_pixels as dp


def response(status: str, kind: str, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


async def serve(engine: dp.Engine, port: int) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gone = job = None
        try:
            _, target, _ = (await reader.readline()).decode().split()
            url = urlsplit(target)
            fields = {**dict(parse_qsl(url.query)), "prompt": unquote(url.path[1:])}
            if not {"output", "palette"}.isdisjoint(fields):
                raise dp.InvalidRequestError("`output` and `palette` may name files of the server")
            job = asyncio.ensure_future(engine.submit(fields))
            gone = asyncio.ensure_future(reader.read())  # It ends when the client goes away.
            await asyncio.wait({job, gone}, return_when=asyncio.FIRST_COMPLETED)
            if job.done():
                writer.write(response("200 OK", "image/png", (await job).png()))
        except ValueError as error:
            writer.write(response("400 Bad Request", "text/plain", str(error).encode()))
        except dp.DgxPixelsError as error:
            writer.write(response("503 Service Unavailable", "text/plain", str(error).encode()))
        finally:
            for task in filter(None, (job, gone)):
                task.cancel()
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Serve sprites over HTTP.")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model")
    arguments = parser.parse_args()
    with dp.Engine(arguments.model) as engine:
        asyncio.run(serve(engine, arguments.port))
