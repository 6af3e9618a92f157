//! Tools of revision 2026-07-28 that ask back: they answer with questions, and are called again
//! with the answers.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, InputRequiredResult,
    InputResponses,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::fixture;

/// The states that were handed out and have not come back, with the number of rounds asked by then.
#[derive(Default)]
pub(crate) struct Rounds(Mutex<HashMap<String, usize>>);

/// What a client sends with its second call.
pub(crate) struct Answers {
    responses: InputResponses,
    state: Option<String>,
}

impl Answers {
    pub(crate) fn new(responses: Option<InputResponses>, state: Option<String>) -> Answers {
        Answers { responses: responses.unwrap_or_default(), state }
    }

    pub(crate) fn of(&self, key: &str) -> &Value {
        self.responses.get(key).unwrap_or(&Value::Null)
    }

    fn has_all(&self, questions: &Value) -> bool {
        let keys = questions.as_object().into_iter().flat_map(serde_json::Map::keys);
        keys.into_iter().all(|key| self.of(key).is_object())
    }
}

impl Rounds {
    /// What is to be asked next of `rounds`, each a map of questions; `None` when all has been
    /// answered. With `has_state` the client brings a state from round to round.
    ///
    /// # Errors
    /// A state that was not handed out, or has come back before.
    pub(crate) fn next(
        &self,
        rounds: &[Value],
        has_state: bool,
        answers: &Answers,
    ) -> Result<Option<InputRequiredResult>, ErrorData> {
        let mut states = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = match &answers.state {
            Some(state) => {
                let unknown =
                    || ErrorData::invalid_params("`requestState` is not one of this server's", None);
                states.remove(state).ok_or_else(unknown)?
            }
            None if has_state => 0,
            None => 1,
        };
        let answered = if asked > 0 && !answers.has_all(&rounds[asked - 1]) { asked - 1 } else { asked };
        let Some(questions) = rounds.get(answered) else { return Ok(None) };
        let state = has_state.then(|| Uuid::now_v7().to_string());
        if let Some(state) = &state {
            states.insert(state.clone(), answered + 1);
        }
        Ok(Some(InputRequiredResult::new(Some(fixture(questions.clone())), state)))
    }
}

/// A question to the user for one field.
pub(crate) fn elicitation(message: &str, field: &str, kind: &str) -> Value {
    let schema = json!({ "type": "object", "properties": { field: { "type": kind } }, "required": [field] });
    json!({
        "method": "elicitation/create",
        "params": { "mode": "form", "message": message, "requestedSchema": schema },
    })
}

/// A question to the client's model.
pub(crate) fn sampling(question: &str) -> Value {
    let messages = json!([{ "role": "user", "content": { "type": "text", "text": question } }]);
    json!({ "method": "sampling/createMessage", "params": { "messages": messages, "maxTokens": 100 } })
}

/// The answer of a tool that asks back; `None` if it is none.
pub(crate) fn call(
    rounds: &Rounds,
    request: &CallToolRequestParams,
    context: &RequestContext<RoleServer>,
) -> Result<Option<CallToolResponse>, ErrorData> {
    let user_name = || elicitation("What is your name?", "name", "string");
    let confirm = || json!({ "confirm": elicitation("Please confirm", "ok", "boolean") });
    let client_roots = || json!({ "method": "roots/list", "params": {} });
    let (questions, has_state) = match request.name.as_ref() {
        "test_input_required_result_elicitation" | "test_streaming_elicitation" => {
            (vec![json!({ "user_name": user_name() })], false)
        }
        "test_input_required_result_sampling" => {
            (vec![json!({ "capital_question": sampling("What is the capital of France?") })], false)
        }
        "test_input_required_result_list_roots" => (vec![json!({ "client_roots": client_roots() })], false),
        "test_input_required_result_capabilities" => {
            let client = context.client_capabilities().unwrap_or_default();
            let mut asked = json!({});
            if client.elicitation.is_some() {
                asked["user_name"] = user_name();
            }
            if client.sampling.is_some() {
                asked["capital_question"] = sampling("What is the capital of France?");
            }
            (vec![asked], false)
        }
        "test_input_required_result_request_state" | "test_input_required_result_tampered_state" => {
            (vec![confirm()], true)
        }
        "test_input_required_result_multiple_inputs" => {
            let asked = json!({
                "user_name": user_name(),
                "greeting": sampling("Generate a greeting"),
                "client_roots": client_roots(),
            });
            (vec![asked], true)
        }
        "test_input_required_result_multi_round" => {
            let first = elicitation("Step 1: What is your name?", "name", "string");
            let second = elicitation("Step 2: What is your favorite color?", "color", "string");
            (vec![json!({ "step1": first }), json!({ "step2": second })], true)
        }
        _ => return Ok(None),
    };
    let answers = Answers::new(request.input_responses.clone(), request.request_state.clone());
    Ok(Some(match rounds.next(&questions, has_state, &answers)? {
        Some(questions) => questions.into(),
        None => CallToolResult::success(vec![ContentBlock::text(said(&answers, has_state))]).into(),
    }))
}

/// What came back, in words.
fn said(answers: &Answers, has_state: bool) -> String {
    let state = if has_state { "state-ok: " } else { "" };
    match answers.of("user_name")["content"]["name"].as_str() {
        Some(name) => format!("{state}Hello, {name}!"),
        None => format!("{state}{}", json!(answers.responses)),
    }
}
