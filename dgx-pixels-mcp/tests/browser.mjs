// Two web pages, of an allowed origin and of another, which use the MCP server from Chromium and report what they could.
// tools/browser_check.sh starts it.

import { spawn } from "node:child_process";
import { createServer } from "node:http";

const { URL: server, TOKEN: token, PAGE_PORT: port, PROFILE: profile } = process.env;
const SECONDS = 60;

// Runs in the page. It returns a line for each thing that it tried.
async function page(server, token) {
    const told = [];
    const attempt = async (name, work) => {
        try {
            told.push(`${name}: ${await work()}`);
        } catch (error) {
            told.push(`${name}: ${error.name}`);
        }
    };
    const headers = {
        "Content-Type": "application/json",
        Accept: "application/json, text/event-stream",
    };
    const post = (message, more) =>
        fetch(server, { method: "POST", headers: { ...headers, ...more }, body: JSON.stringify(message) });
    const bearer = { Authorization: `Bearer ${token}` };
    const begin = {
        jsonrpc: "2.0",
        id: 1,
        method: "initialize",
        params: { protocolVersion: "2025-06-18", capabilities: {}, clientInfo: { name: "page", version: "1" } },
    };
    let session = {};
    await attempt("without the token", async () => (await post(begin, {})).status);
    await attempt("initialize", async () => {
        const response = await post(begin, bearer);
        session = { ...bearer, "Mcp-Session-Id": response.headers.get("mcp-session-id"), "Mcp-Protocol-Version": "2025-06-18" };
        return (await response.text()).includes("serverInfo") && session["Mcp-Session-Id"].length > 8;
    });
    await attempt("tools/call", async () => {
        const call = { jsonrpc: "2.0", id: 2, method: "tools/call", params: { name: "list_models", arguments: {} } };
        return (await (await post(call, session)).text()).includes("sketch");
    });
    await attempt("stream", async () => {
        const gone = new AbortController();
        const stream = await fetch(server, {
            headers: { Accept: "text/event-stream", "Last-Event-ID": "0", ...session },
            signal: gone.signal,
        });
        gone.abort();
        return stream.status;
    });
    await attempt("DELETE", async () => (await fetch(server, { method: "DELETE", headers: session })).ok);
    return told;
}

const EXPECTED = {
    "game.example": ["without the token: 401", "initialize: true", "tools/call: true", "stream: 200", "DELETE: true"],
    "evil.example": ["without the token", "initialize", "tools/call", "stream", "DELETE"].map((name) => `${name}: TypeError`),
};

let reported = () => {};
const pages = createServer((request, response) => {
    if (request.method !== "POST") {
        const script = `(${page})(${JSON.stringify(server)}, ${JSON.stringify(token)})`;
        response.setHeader("Content-Type", "text/html");
        response.end(`<script>${script}.then((told) => fetch("/", { method: "POST", body: JSON.stringify(told) }))</script>`);
        return;
    }
    let body = "";
    request.on("data", (part) => (body += part));
    request.on("end", () => {
        response.end();
        reported(JSON.parse(body));
    });
});

// Opens the page of a host, and resolves to its report.
async function visit(host) {
    const browser = spawn(
        "chromium",
        [
            ..."--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-dev-shm-usage".split(" "),
            ..."--disable-background-networking --disable-component-update --disable-sync".split(" "),
            `--user-data-dir=${profile}/${host}`,
            // It then stays until it is ended.
            "--remote-debugging-port=0",
            "--host-resolver-rules=MAP *.example 127.0.0.1",
            `http://${host}:${port}/`,
        ],
        { stdio: ["ignore", "ignore", "pipe"] },
    );
    let log = "";
    browser.stderr.on("data", (part) => (log += part));
    const ended = new Promise((resolve) => browser.once("close", resolve));
    const told = await Promise.race([
        new Promise((resolve) => (reported = resolve)),
        ended.then(() => ["the browser ended", log]),
        new Promise((resolve) => setTimeout(() => resolve(["the page said nothing", log]), SECONDS * 1000).unref()),
    ]);
    browser.kill();
    await ended;
    return told;
}

await new Promise((resolve) => pages.listen(Number(port), "127.0.0.1", resolve));
for (const [host, expected] of Object.entries(EXPECTED)) {
    const told = await visit(host);
    const is_right = JSON.stringify(told) === JSON.stringify(expected);
    if (!is_right) process.exitCode = 1;
    console.log(`browser, page of http://${host}:${port}: ${is_right ? "as expected" : "WRONG"}; ${told.join(", ")}`);
}
pages.close();
pages.closeAllConnections();
