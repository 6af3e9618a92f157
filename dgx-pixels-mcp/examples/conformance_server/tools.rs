//! Tools that answer at once, or ask the client while they run, as revisions before 2026-07-28 have
//! it.

use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ProgressNotificationParam, ServerNotification, ServerRequest, Tool,
};
use rmcp::service::{Peer, RequestContext};
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};

use crate::input::{elicitation, sampling};
use crate::{Change, Fixtures, fixture};

/// A PNG of one red pixel, in base64.
pub(crate) const RED_PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
/// A WAV of one silent sample, in base64.
const SILENCE: &str = "UklGRiYAAABXQVZFZm10IBAAAAABAAEARKwAAIhYAQACABAAZGF0YQIAAAAAAA==";
/// Between two things that a client hears of.
const PAUSE: Duration = Duration::from_millis(50);

/// All tools. The first is the one that the suite tries its headers on, so it has to work for every
/// client.
pub(crate) fn all() -> Vec<Tool> {
    serde_json::from_str(include_str!("tools.json")).expect("tools.json is not a list of tools")
}

pub(crate) async fn call(
    fixtures: &Fixtures,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<CallToolResult, ErrorData> {
    let arguments = Value::from(request.arguments.clone().unwrap_or_default());
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let content = match request.name.as_ref() {
        "test_simple_text" => json!([text("This is a simple text response for testing.")]),
        "greet" => json!([text(format!("Hello, {}!", argument("name")))]),
        "json_schema_2020_12_tool" | "test_custom_header" => json!([text(arguments.to_string())]),
        "test_image_content" => json!([image()]),
        "test_audio_content" => json!([{ "type": "audio", "data": SILENCE, "mimeType": "audio/wav" }]),
        "test_embedded_resource" => {
            let words = "This is an embedded resource content.";
            json!([resource("test://embedded-resource", "text/plain", words)])
        }
        "test_multiple_content_types" => {
            let data = json!({ "test": "data", "value": 123 }).to_string();
            let resource = resource("test://mixed-content-resource", "application/json", &data);
            json!([text("Multiple content types test:"), image(), resource])
        }
        "test_error_handling" => {
            let content = json!([text("This tool intentionally returns an error for testing")]);
            return Ok(CallToolResult::error(fixture(content)));
        }
        "test_tool_with_progress" => {
            progress(context).await?;
            json!([text("done")])
        }
        "test_tool_with_logging" => {
            log(&context.peer).await?;
            json!([text("done")])
        }
        "test_logging_tool" => {
            if context.meta.log_level().is_some() {
                log(&context.peer).await?;
            }
            json!([text("done")])
        }
        "test_reconnection" => {
            tokio::time::sleep(PAUSE).await;
            json!([text("done")])
        }
        "test_missing_capability" => {
            if context.client_capabilities().is_none_or(|client| client.sampling.is_none()) {
                let required = fixture(json!({ "sampling": {} }));
                return Err(ErrorData::missing_required_client_capability(required));
            }
            json!([text("done")])
        }
        "test_trigger_tool_change" => {
            // An error says that nobody listens.
            let _ = fixtures.changes.send(Change::Tools);
            json!([text("done")])
        }
        "test_trigger_prompt_change" => {
            let _ = fixtures.changes.send(Change::Prompts);
            json!([text("done")])
        }
        "test_sampling" => {
            let answer = ask(&context.peer, sampling(argument("prompt"))).await?;
            json!([text(format!("LLM response: {}", answer["content"]["text"]))])
        }
        "test_elicitation" => {
            let mut question = elicitation(argument("message"), "username", "string");
            let schema = &mut question["params"]["requestedSchema"];
            schema["properties"]["email"] =
                json!({ "type": "string", "description": "User's email address" });
            schema["required"] = json!(["username", "email"]);
            json!([text(format!("User response: {}", ask(&context.peer, question).await?))])
        }
        "test_elicitation_sep1034_defaults" => {
            let answer = ask(
                &context.peer,
                form(json!({
                    "name": { "type": "string", "default": "John Doe" },
                    "age": { "type": "integer", "default": 30 },
                    "score": { "type": "number", "default": 95.5 },
                    "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
                    "verified": { "type": "boolean", "default": true },
                })),
            );
            json!([text(format!("Elicitation completed: {}", answer.await?))])
        }
        "test_elicitation_sep1330_enums" => {
            let answer = ask(
                &context.peer,
                form(json!({
                    "untitledSingle": { "type": "string", "enum": ["option1", "option2", "option3"] },
                    "titledSingle": { "type": "string", "oneOf": titled() },
                    "legacyEnum": {
                        "type": "string",
                        "enum": ["opt1", "opt2", "opt3"],
                        "enumNames": ["Option One", "Option Two", "Option Three"],
                    },
                    "untitledMulti": {
                        "type": "array",
                        "items": { "type": "string", "enum": ["option1", "option2", "option3"] },
                    },
                    "titledMulti": { "type": "array", "items": { "anyOf": titled() } },
                })),
            );
            json!([text(format!("Elicitation completed: {}", answer.await?))])
        }
        name => return Err(ErrorData::invalid_params(format!("there is no tool `{name}`"), None)),
    };
    Ok(CallToolResult::success(fixture(content)))
}

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

pub(crate) fn image() -> Value {
    json!({ "type": "image", "data": RED_PIXEL, "mimeType": "image/png" })
}

fn resource(uri: &str, mime_type: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime_type, "text": text } })
}

fn titled() -> Value {
    json!([
        { "const": "value1", "title": "First" },
        { "const": "value2", "title": "Second" },
        { "const": "value3", "title": "Third" },
    ])
}

/// A question to the user for several fields.
fn form(properties: Value) -> Value {
    let schema = json!({ "type": "object", "properties": properties });
    json!({
        "method": "elicitation/create",
        "params": { "mode": "form", "message": "Please fill in", "requestedSchema": schema },
    })
}

/// What the client answers to a request of ours.
async fn ask(client: &Peer<RoleServer>, request: Value) -> Result<Value, ErrorData> {
    let failed = |error: &dyn std::fmt::Display| ErrorData::internal_error(error.to_string(), None);
    let answer =
        client.send_request(fixture::<ServerRequest>(request)).await.map_err(|error| failed(&error))?;
    serde_json::to_value(answer).map_err(|error| failed(&error))
}

async fn progress(context: &RequestContext<RoleServer>) -> Result<(), ErrorData> {
    for done in [0.0, 50.0, 100.0] {
        if let Some(token) = context.meta.get_progress_token() {
            let progress = ProgressNotificationParam::new(token, done).with_total(100.0);
            let told = context.peer.notify_progress(progress).await;
            told.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

async fn log(client: &Peer<RoleServer>) -> Result<(), ErrorData> {
    for line in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
        let params = json!({ "level": "info", "data": line });
        let notification = json!({ "method": "notifications/message", "params": params });
        let told = client.send_notification(fixture::<ServerNotification>(notification)).await;
        told.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}
