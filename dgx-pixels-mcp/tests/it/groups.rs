//! Servers with some tools only.

use serde_json::{Value, json};

use crate::desk::{Desk, Stdin};

fn list(client: &mut Stdin, method: &str, of: &str) -> Vec<Value> {
    client.ask(method, json!({}))["result"][of].as_array().unwrap().clone()
}

#[test]
fn a_server_that_only_reads_lists_and_takes_nothing_else() {
    let desk = Desk::new();
    desk.stdio(&[]).facts("generate_sprite", json!({ "prompt": "a key" }));
    let mut client = desk.stdio(&["--read-only"]);
    let expected = [
        "game_screenshot",
        "game_status",
        "get_asset",
        "get_job",
        "list_assets",
        "list_models",
        "validate_assets",
    ];
    assert_eq!(client.tools(), expected);
    for tool in list(&mut client, "tools/list", "tools") {
        assert_eq!(tool["annotations"]["readOnlyHint"], true, "{tool}");
    }
    for tool in ["generate_sprite", "generate_batch", "pixelize_image", "cancel_job", "deploy_to_bevy"] {
        let refused = client.ask("tools/call", json!({ "name": tool, "arguments": { "prompt": "a key" } }));
        assert_eq!(refused["error"]["code"], -32602);
        let message = refused["error"]["message"].as_str().unwrap();
        let expected = format!("there is no tool `{tool}`, as the server was started without it");
        assert!(message.starts_with(&expected), "{message}");
    }
    assert_eq!(list(&mut client, "prompts/list", "prompts"), Vec::<Value>::new());
    let prompt = json!({ "name": "make_character", "arguments": { "character": "a goblin" } });
    assert!(
        client.ask("prompts/get", prompt)["error"]["message"].as_str().unwrap().contains("`--read-only`")
    );
    assert_eq!(list(&mut client, "resources/list", "resources").len(), 2);
    assert_eq!(client.facts("list_assets", json!({}))["assets"][0]["asset_id"], "a-key");
}

#[test]
fn groups_bring_their_resources_and_prompts() {
    let desk = Desk::new();
    desk.stdio(&[]).facts("generate_sprite", json!({ "prompt": "a key" }));
    let uri = json!({ "uri": "sprite://a-key/sprite.png" });

    let mut client = desk.stdio(&["--tools", "pixelize,game"]);
    let expected = ["deploy_to_bevy", "game_screenshot", "game_status", "pixelize_image"];
    assert_eq!(client.tools(), expected);
    assert_eq!(list(&mut client, "resources/list", "resources"), Vec::<Value>::new());
    assert_eq!(list(&mut client, "resources/templates/list", "resourceTemplates"), Vec::<Value>::new());
    assert_eq!(client.ask("resources/read", uri.clone())["error"]["code"], -32602);
    let styles = json!({ "uri": "dgx-pixels://styles" });
    assert_eq!(client.ask("resources/read", styles)["error"]["code"], -32602);
    let asset = json!({ "ref": { "type": "ref/resource", "uri": "sprite://{asset_id}/sprite.png" },
        "argument": { "name": "asset_id", "value": "a" } });
    assert_eq!(client.ask("completion/complete", asset.clone())["result"]["completion"]["values"], json!([]));

    let mut client = desk.stdio(&["--tools", "library"]);
    assert_eq!(client.tools(), ["get_asset", "list_assets", "validate_assets"]);
    assert!(client.ask("resources/read", uri)["result"]["contents"].is_array());
    assert_eq!(client.ask("completion/complete", asset)["result"]["completion"]["values"], json!(["a-key"]));
}

#[test]
fn without_the_group_game_nothing_is_put_into_a_game() {
    let desk = Desk::new();
    let game = desk.path("game");
    std::fs::create_dir_all(&game).unwrap();
    std::fs::write(game.join("Cargo.toml"), "[package]\nname = \"game\"\n").unwrap();
    let mut client = desk.stdio(&["--tools", "generate", "--tools", "library"]);
    for tool in list(&mut client, "tools/list", "tools") {
        let arguments = &tool["inputSchema"]["properties"];
        assert!(arguments.get("project").is_none() && arguments.get("category").is_none(), "{tool}");
        assert!(tool["annotations"]["destructiveHint"] == json!(tool["name"] == "cancel_job"), "{tool}");
    }
    for (tool, what) in [("generate_sprite", "prompt"), ("generate_batch", "prompts")] {
        let mut arguments = json!({ "project": game, "category": "item", "name": "key" });
        arguments[what] = if what == "prompt" { json!("a key") } else { json!(["a key"]) };
        let fault = client.fault(tool, arguments);
        assert!(fault.contains("and there is no such field"), "{fault}");
    }
    assert!(!game.join("assets").exists());
}

#[test]
fn an_unknown_group_is_named() {
    let desk = Desk::new();
    for (tools, named) in [("libary", "'libary'"), ("", "a value is required"), ("game,draw", "'draw'")] {
        let mut program = desk.command(&["stdio", "--model", "sketch", "--tools", tools]);
        let said = program.stderr(std::process::Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&said.stderr);
        assert_eq!(said.status.code(), Some(2));
        assert!(text.contains(named) && text.contains("generate, pixelize, library, game"), "{text}");
    }
}
