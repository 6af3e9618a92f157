//! Prompts: text, arguments, a resource, a picture, and one that asks back.

use rmcp::ErrorData;
use rmcp::model::{GetPromptRequestParams, GetPromptResponse, GetPromptResult, Prompt};
use serde_json::{Value, json};

use crate::input::{self, Rounds, elicitation};
use crate::{fixture, tools};

pub(crate) fn all() -> Vec<Prompt> {
    let argument = |name: &str| json!({ "name": name, "description": "Any text", "required": true });
    fixture(json!([
        { "name": "test_input_required_result_prompt", "description": "Asks back for a context" },
        { "name": "test_prompt_with_arguments", "description": "Repeats its arguments",
          "arguments": [argument("arg1"), argument("arg2")] },
        { "name": "test_prompt_with_embedded_resource", "description": "Holds a resource",
          "arguments": [argument("resourceUri")] },
        { "name": "test_prompt_with_image", "description": "Holds a picture" },
        { "name": "test_simple_prompt", "description": "A line of text" },
    ]))
}

pub(crate) fn get(rounds: &Rounds, request: GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let arguments = Value::from(request.arguments.unwrap_or_default());
    let argument = |name: &str| arguments[name].as_str().unwrap_or_default();
    let text = |text: &str| json!({ "role": "user", "content": { "type": "text", "text": text } });
    let messages = match request.name.as_str() {
        "test_simple_prompt" => json!([text("This is a simple prompt for testing.")]),
        "test_prompt_with_arguments" => {
            let (first, second) = (argument("arg1"), argument("arg2"));
            json!([text(&format!("Prompt with arguments: arg1='{first}', arg2='{second}'"))])
        }
        "test_prompt_with_embedded_resource" => {
            let resource = json!({
                "uri": argument("resourceUri"),
                "mimeType": "text/plain",
                "text": "Embedded resource content for testing.",
            });
            json!([
                { "role": "user", "content": { "type": "resource", "resource": resource } },
                text("Please process the embedded resource above."),
            ])
        }
        "test_prompt_with_image" => {
            json!([{ "role": "user", "content": tools::image() }, text("Please analyze the image above.")])
        }
        "test_input_required_result_prompt" => {
            let asked = json!({ "user_context": elicitation("What context should the prompt use?", "context", "string") });
            let answers = input::Answers::new(request.input_responses, request.request_state);
            match rounds.next(&[asked], false, &answers)? {
                Some(questions) => return Ok(questions.into()),
                None => {
                    json!([text(&format!("Context: {}", answers.of("user_context")["content"]["context"]))])
                }
            }
        }
        name => return Err(ErrorData::invalid_params(format!("there is no prompt `{name}`"), None)),
    };
    Ok(GetPromptResult::new(fixture(messages)).into())
}
