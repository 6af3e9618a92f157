//! The entry that each client needs in its configuration.

use serde_json::json;

/// A client whose configuration is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Client {
    /// Claude Code: `.mcp.json` in the project.
    Claude,
    /// Claude Desktop: `claude_desktop_config.json`.
    ClaudeDesktop,
    /// Codex: `~/.codex/config.toml`.
    Codex,
    /// Cursor: `.cursor/mcp.json` in the project.
    Cursor,
    /// Gemini CLI: `~/.gemini/settings.json`.
    Gemini,
    /// Visual Studio Code: `.vscode/mcp.json` in the project.
    Vscode,
    /// Zed: `settings.json`.
    Zed,
}

impl Client {
    /// The file that the block goes into.
    pub fn file(self) -> &'static str {
        match self {
            Client::Claude => ".mcp.json in the project",
            Client::ClaudeDesktop => "claude_desktop_config.json (Settings, Developer, Edit Config)",
            Client::Codex => "~/.codex/config.toml",
            Client::Cursor => ".cursor/mcp.json in the project",
            Client::Gemini => "~/.gemini/settings.json",
            Client::Vscode => ".vscode/mcp.json in the project",
            Client::Zed => "settings.json (Zed: open settings file)",
        }
    }

    /// The block that has the client start `program` with `arguments`, and talk to it by its
    /// standard streams.
    ///
    /// # Example
    /// ```
    /// use dgx_pixels_mcp::clients::Client;
    /// let block = Client::Vscode.block("/usr/bin/dgx-pixels-mcp", &["stdio".into()]);
    /// let block: serde_json::Value = serde_json::from_str(&block)?;
    /// assert_eq!(block["servers"]["dgx-pixels"]["type"], "stdio");
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    pub fn block(self, program: &str, arguments: &[String]) -> String {
        let server = json!({ "command": program, "args": arguments });
        let block = match self {
            Client::Claude | Client::ClaudeDesktop | Client::Cursor | Client::Gemini => {
                json!({ "mcpServers": { "dgx-pixels": server } })
            }
            Client::Vscode => {
                json!({ "servers": { "dgx-pixels": { "type": "stdio", "command": program, "args": arguments } } })
            }
            Client::Zed => json!({ "context_servers": { "dgx-pixels": server } }),
            // A JSON string and list of strings are TOML's too.
            Client::Codex => {
                return format!(
                    "[mcp_servers.dgx-pixels]\ncommand = {}\nargs = {}\ntool_timeout_sec = 120",
                    json!(program),
                    json!(arguments)
                );
            }
        };
        serde_json::to_string_pretty(&block).expect("plain data turns into JSON; this is a bug")
    }
}
