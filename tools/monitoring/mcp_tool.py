"""One call of a tool of the MCP server, with nothing but Python's standard library."""

import json
import urllib.request

REVISION = "2026-07-28"


def call(url, tool, arguments, *, client, token="", seconds=60):
    """The result of a tool, as the protocol has it.

    `urllib.error.URLError` or `TimeoutError` if the server refuses the call or takes longer than
    `seconds`. A tool that fails is a result with `isError`.
    """
    about = {
        "io.modelcontextprotocol/protocolVersion": REVISION,
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": client, "version": "1"},
    }
    params = {"name": tool, "arguments": arguments, "_meta": about}
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    headers = {
        "Content-Type": "application/json",
        "Accept": "application/json",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": tool,
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=seconds) as answer:
        return json.load(answer).get("result")
