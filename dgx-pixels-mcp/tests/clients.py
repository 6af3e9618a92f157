"""The server as Python's two MCP clients see it: `clients.py PROGRAM LIBRARY`, over stdio, HTTP and SSE, both eras."""

import asyncio
import base64
import re
import struct
import subprocess
import sys
from contextlib import contextmanager

from fastmcp import Client as FastClient
from mcp import Client, StdioServerParameters
from mcp.client.sse import sse_client

PROGRAM, LIBRARY = sys.argv[1:3]
SERVING = ["--model", "sketch", "--library", LIBRARY]


@contextmanager
def http_server():
    command = [PROGRAM, "http", "--bind", "127.0.0.1:0", *SERVING]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        try:
            for line in server.stderr:
                if found := re.search(r"http://([0-9.:]+)/mcp", line):
                    yield found[1]
                    break
        finally:
            server.terminate()
            server.stderr.close()
    assert server.returncode == 0, f"exit code {server.returncode} after SIGTERM"


def size(png: bytes) -> tuple[int, ...]:
    return struct.unpack(">II", png[16:24])


async def use(client, is_error):
    """What every client must be able to do."""
    async with client:
        tools = await client.list_tools()
        names = [tool.name for tool in getattr(tools, "tools", tools)]
        assert "generate_sprite" in names and len(names) <= 12, names

        told = []

        async def on_progress(done, of, message):
            told.append(done)

        wanted = {"prompt": "a green slime", "width": 32, "height": 32, "max_colors": 8}
        try:
            answer = await client.call_tool("generate_sprite", wanted, progress_callback=on_progress)
        except TypeError:
            answer = await client.call_tool("generate_sprite", wanted, progress_handler=on_progress)
        text, image = answer.content
        path = re.search(r'"path":"([^"]+)"', text.text)[1]
        with open(path, "rb") as file:
            assert size(file.read()) == (32, 32)
        assert size(base64.b64decode(image.data)) == (512, 512)
        assert told == sorted(set(told)), told

        refused = await is_error(client, "generate_sprite", {"prompt": "a key", "steps": 0})
        assert refused.startswith("`steps` is 0; expected 1 to 1000"), refused


async def plain_error(client, name, arguments):
    answer = await client.call_tool(name, arguments)
    assert answer.is_error
    return answer.content[0].text


async def fast_error(client, name, arguments):
    answer = await client.call_tool(name, arguments, raise_on_error=False)
    assert answer.is_error
    return answer.content[0].text


async def main():
    stdio = StdioServerParameters(command=PROGRAM, args=["stdio", *SERVING])
    with http_server() as address:
        mcp, sse = f"http://{address}/mcp", f"http://{address}/sse"
        ways = [
            ("mcp, stdio", Client(stdio), plain_error),
            ("mcp, stdio, legacy", Client(stdio, mode="legacy"), plain_error),
            ("mcp, http", Client(mcp), plain_error),
            ("mcp, http, legacy", Client(mcp, mode="legacy"), plain_error),
            ("mcp, sse", Client(sse_client(sse), mode="legacy"), plain_error),
            ("fastmcp, http", FastClient(mcp), fast_error),
            ("fastmcp, sse", FastClient(sse), fast_error),
        ]
        for name, client, is_error in ways:
            await asyncio.wait_for(use(client, is_error), 30)
            print(f"{name}: ok", flush=True)


asyncio.run(main())
