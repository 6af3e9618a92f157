//! `docs/mcp.md` says what the schemas say. `UPDATE_DOCS=1` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use dgx_pixels_mcp::{Server, styles};
use serde_json::Value;

const MARK: &str = "--test reference -->\n";

fn reference() -> String {
    let mut text = String::from("\n## Tools\n");
    for tool in Server::tools() {
        let hints = tool.annotations.clone().unwrap_or_default();
        let effect = match (hints.read_only_hint, hints.destructive_hint) {
            (Some(true), _) => "Changes nothing.",
            (_, Some(false)) => "Adds, and loses nothing.",
            _ if tool.name == "cancel_job" => "Ends work that is under way.",
            _ if tool.name == "deploy_to_bevy" => "Replaces sprites of the same name in the game.",
            _ => "Adds, and with `project` replaces sprites of the same name in the game.",
        };
        let description = tool.description.clone().unwrap_or_default().replace('\n', " ");
        let _ = write!(text, "\n### `{}`\n\n{}\n", tool.name, wrapped(&format!("{description} {effect}")));
        let required =
            tool.input_schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
        let fields = tool.input_schema.get("properties").and_then(Value::as_object);
        for (place, (name, schema)) in fields.into_iter().flatten().enumerate() {
            if place == 0 {
                text += "\n| argument | type | |\n|---|---|---|\n";
            }
            let needed = if required.iter().any(|field| field == name) { "**required.** " } else { "" };
            let description = schema["description"].as_str().unwrap_or_default().replace('\n', " ");
            let _ = writeln!(text, "| `{name}` | {} | {needed}{description} |", kind(schema));
        }
        if let Some(output) = &tool.output_schema {
            let fields = output.get("properties").and_then(Value::as_object);
            let names: Vec<_> = fields.into_iter().flatten().map(|(name, _)| format!("`{name}`")).collect();
            let answer = format!("Answers with {}, also as structured content.", names.join(", "));
            let _ = write!(text, "\n{}\n", wrapped(&answer));
        }
    }
    text += "\n## Styles\n\n| `style` | |\n|---|---|\n";
    for style in styles::all() {
        let _ = writeln!(text, "| `{}` | {} |", style.name, style.description);
    }
    text += "\nThey are data, [`styles.json`](../dgx-pixels-mcp/src/styles.json), and the resource\n\
        `dgx-pixels://styles`. Words are added to prompts of models that draw other things too; a model\n\
        that was made for sprites needs none.\n";
    text
}

/// The words of `text` in lines of at most 100 characters.
fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("it begins with a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= 100 {
            line.push(' ');
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// Returns the type in words, for example `whole number, 1 to 1000`.
fn kind(schema: &Value) -> String {
    let types = match schema["anyOf"].as_array() {
        Some(branches) => branches.iter().map(|branch| branch["type"].clone()).collect(),
        None => vec![schema["type"].clone()],
    };
    let names = types.iter().map(|name| match name.as_str().unwrap_or_default() {
        "integer" => "whole number",
        "number" => "number",
        "boolean" => "`true` or `false`",
        "array" => match schema["items"]["type"].as_str() {
            Some("number") if schema["maxItems"] == 2 => "list of two numbers",
            Some("number") => "list of numbers",
            Some("integer") => "list of whole numbers",
            Some("string") => "list of texts",
            _ => "list of objects",
        },
        "string" => "text",
        other => panic!("no word for the type `{other}`"),
    });
    let name = names.collect::<Vec<_>>().join(" or ");
    match (&schema["minimum"], &schema["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!("{name}, {least} to {most}"),
        _ => name.to_owned(),
    }
}

#[test]
fn the_reference_says_what_the_schemas_say() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/mcp.md");
    let text = fs::read_to_string(&path).unwrap();
    let (written, generated) = text.split_once(MARK).expect("the mark is there");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{written}{MARK}{}", reference())).unwrap();
    } else {
        assert!(
            generated == reference(),
            "run UPDATE_DOCS=1 cargo test --package dgx-pixels-mcp --test reference"
        );
    }
}
