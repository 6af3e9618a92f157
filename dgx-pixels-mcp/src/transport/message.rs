//! JSON-RPC messages from clients, and the errors that answer what is not one.
//!
//! Every transport reads through [`read`], so that the same mistake gets the same answer on all of
//! them.

use std::fmt;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolRequestParams, CancelTaskParams, ClientJsonRpcMessage, ClientRequest, CompleteRequestParams,
    ErrorCode, GetMeta as _, GetPromptRequestParams, GetTaskParams, InitializeRequestParams, JsonRpcMessage,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, RequestId, ServerJsonRpcMessage,
    UpdateTaskParams,
};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// The most messages that one batch may hold.
const MAX_BATCH: usize = 64;
/// The most values that a message may hold. Each takes up to a hundred times its text in memory.
const MAX_VALUES: usize = 50_000;
const BYTE_ORDER_MARK: &[u8] = b"\xEF\xBB\xBF";

/// The content of one HTTP body or of one line.
pub(super) enum Incoming {
    One(Box<ClientJsonRpcMessage>),
    /// The messages of a batch, each as its own text.
    Batch(Vec<Vec<u8>>),
}

/// The error that answers a message, with the id of the message if it could be found.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) id: Option<RequestId>,
    pub(super) error: ErrorData,
}

impl Fault {
    pub(super) fn invalid(id: Option<RequestId>, reason: impl Into<String>) -> Fault {
        Fault { id, error: ErrorData::invalid_request(reason.into(), None) }
    }

    fn unparsable(id: Option<RequestId>, reason: impl fmt::Display) -> Fault {
        let reason = format!("this is not JSON: {reason}");
        Fault { id, error: ErrorData::new(ErrorCode::PARSE_ERROR, reason, None) }
    }

    /// `true` if the message was a request that is well-formed but for its `params`.
    pub(super) fn is_about_params(&self) -> bool {
        self.error.code == ErrorCode::INVALID_PARAMS
    }

    pub(super) fn message(self) -> ServerJsonRpcMessage {
        ServerJsonRpcMessage::error(self.error, self.id)
    }
}

/// Reads what a client sent at once: a message, or a batch of them.
pub(super) fn read(bytes: &[u8]) -> Result<Incoming, Fault> {
    let bytes = bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes);
    let values = count_values(bytes);
    if values > MAX_VALUES {
        let frame: Option<Frame> = serde_json::from_slice(bytes).ok();
        let id = frame.and_then(|frame| serde_json::from_value(frame.id?).ok());
        let reason = format!("the message has more than {MAX_VALUES} values; expected fewer");
        return Err(Fault::invalid(id, reason));
    }
    if bytes.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'[') {
        return read_one(bytes).map(|message| Incoming::One(Box::new(message)));
    }
    let batch: Vec<Value> =
        serde_json::from_slice(bytes).map_err(|error| Fault::unparsable(None, explain(&error)))?;
    match batch.len() {
        0 => Err(Fault::invalid(None, "the batch is empty; expected at least one message")),
        count if count > MAX_BATCH => {
            let reason = format!("the batch has {count} messages; expected at most {MAX_BATCH}");
            Err(Fault::invalid(None, reason))
        }
        _ => Ok(Incoming::Batch(batch.iter().map(|message| message.to_string().into_bytes()).collect())),
    }
}

/// The number of values in a text of JSON, or some more.
fn count_values(bytes: &[u8]) -> usize {
    let (mut count, mut in_string, mut is_escaped) = (1, false, false);
    for byte in bytes {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b',' | b'[' | b'{' | b':' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

/// Reads one message.
pub(super) fn read_one(bytes: &[u8]) -> Result<ClientJsonRpcMessage, Fault> {
    // 1. the frame, which can be read where `params` cannot
    let frame: Frame = match serde_json::from_slice(bytes) {
        Ok(frame) => frame,
        Err(error) if error.is_data() => {
            return Err(Fault::invalid(None, "this is no JSON-RPC message; expected an object"));
        }
        Err(error) => return Err(Fault::unparsable(None, explain(&error))),
    };
    if let Some(name) = frame.twice {
        return Err(Fault::invalid(None, format!("`{name}` is given twice; expected it once")));
    }
    let id = match &frame.id {
        None | Some(Value::Null) => None,
        Some(id) => match serde_json::from_value(id.clone()) {
            Ok(id) => Some(id),
            Err(_) => {
                let reason = format!("`id` is `{id}`; expected a text or a whole number");
                return Err(Fault::invalid(None, reason));
            }
        },
    };

    // 2. the whole
    let error = match serde_json::from_slice(bytes) {
        Ok(JsonRpcMessage::Request(request)) => {
            let fault = match &request.request {
                // rmcp takes `_meta` out of the `params` that it keeps.
                ClientRequest::CustomRequest(custom) => {
                    let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
                    fault_of_params(&custom.method, whole.get("params"))
                }
                // rmcp takes optional `params` that are wrong for none.
                ClientRequest::ListToolsRequest(_)
                | ClientRequest::ListPromptsRequest(_)
                | ClientRequest::ListResourcesRequest(_)
                | ClientRequest::ListResourceTemplatesRequest(_) => {
                    let whole: Value = serde_json::from_slice(bytes).unwrap_or_default();
                    let params = whole.get("params").filter(|params| !params.is_null());
                    params.and_then(|params| fault_of_pages(request.request.method(), params))
                }
                _ => None,
            };
            return match fault {
                Some(reason) => Err(Fault { id, error: ErrorData::invalid_params(reason, None) }),
                None => Ok(JsonRpcMessage::Request(request)),
            };
        }
        Ok(message) => return Ok(message),
        Err(error) => error,
    };

    // 3. why not
    let whole: Value =
        serde_json::from_slice(bytes).map_err(|error| Fault::unparsable(id.clone(), explain(&error)))?;
    let reason = match (&frame.version, &frame.method) {
        (None, _) => "`jsonrpc` is missing; expected `2.0`".to_owned(),
        (Some(version), _) if version != "2.0" => format!("`jsonrpc` is `{version}`; expected `2.0`"),
        (_, Some(_)) if whole.get("result").or(whole.get("error")).is_some() => {
            "`method` stands beside `result` or `error`; expected a request or a response".to_owned()
        }
        (_, Some(Value::String(method))) if id.is_some() => {
            if let Some(reason) = fault_of_params(method, whole.get("params")) {
                return Err(Fault { id, error: ErrorData::invalid_params(reason, None) });
            }
            "this is no JSON-RPC request; expected `method`, `id` and an object as `params`".to_owned()
        }
        (_, Some(method)) if !method.is_string() => format!("`method` is `{method}`; expected a text"),
        (_, Some(_)) if frame.id == Some(Value::Null) => {
            "`id` is `null`; expected a text or a whole number, or none in a notification".to_owned()
        }
        _ => format!("this is no JSON-RPC request, notification or response: {}", explain(&error)),
    };
    Err(Fault::invalid(id, reason))
}

/// The text of an error, with the words that help where serde_json's own do not.
fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let hint = if text.contains("surrogate") || text.contains("end of hex escape") {
        "; a character beyond U+FFFF takes two `\\u` escapes, a high and a low surrogate"
    } else if text.contains("recursion limit") {
        "; expected at most 127 levels of nesting"
    } else if text.contains("number out of range") {
        "; expected a number below 1.8e308"
    } else {
        ""
    };
    text + hint
}

/// The fields of a message that do not depend on its method. Everything else is skipped unread, so
/// lone surrogates, deep nesting and huge numbers elsewhere do not hide the `id`.
#[derive(Default)]
struct Frame {
    id: Option<Value>,
    method: Option<Value>,
    version: Option<Value>,
    /// The name of a field that was given twice.
    twice: Option<String>,
}

impl<'de> Deserialize<'de> for Frame {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Frame, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Frame;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Frame, A::Error> {
                const NAMES: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];
                let mut frame = Frame::default();
                let mut seen = [false; NAMES.len()];
                while let Some(key) = map.next_key::<String>()? {
                    if let Some(place) = NAMES.iter().position(|name| *name == key)
                        && std::mem::replace(&mut seen[place], true)
                    {
                        frame.twice = Some(key.clone());
                    }
                    match key.as_str() {
                        "id" => frame.id = Some(map.next_value()?),
                        "method" => frame.method = Some(map.next_value()?),
                        "jsonrpc" => frame.version = Some(map.next_value()?),
                        _ => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(frame)
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The methods that revision 2026-07-28 has removed.
const REMOVED: [&str; 5] =
    ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe"];

/// The place in `params` where a request names its revision, since 2026-07-28.
const REVISION: &str = "/_meta/io.modelcontextprotocol~1protocolVersion";

/// The fault in the `params` of a request that rmcp did not recognize, or `None` if its method is
/// one that rmcp does not know either.
fn fault_of_params(method: &str, params: Option<&Value>) -> Option<String> {
    let params = params.unwrap_or(&Value::Null);
    // Since 2026-07-28 a request names its revision, which does not have these any more: they are
    // as unknown as any other, whatever their `params` are.
    if REMOVED.contains(&method) && params.pointer(REVISION).is_some() {
        return None;
    }
    let fault = match method {
        "initialize" => fault_as::<InitializeRequestParams>(params),
        "tools/call" => fault_as::<CallToolRequestParams>(params),
        "prompts/get" => fault_as::<GetPromptRequestParams>(params),
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            fault_as::<ReadResourceRequestParams>(params)
        }
        "completion/complete" => fault_as::<CompleteRequestParams>(params),
        "tasks/get" => fault_as::<GetTaskParams>(params),
        "tasks/update" => fault_as::<UpdateTaskParams>(params),
        "tasks/cancel" => fault_as::<CancelTaskParams>(params),
        "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            return fault_of_pages(method, params);
        }
        "ping" | "server/discover" | "subscriptions/listen" | "logging/setLevel" => None,
        _ => return None,
    };
    Some(match (params, fault) {
        (Value::Null, _) => format!("`params` is missing; `{method}` needs it"),
        (Value::Object(_), Some(fault)) => fault,
        (Value::Object(_), None) => format!("`params` is not what `{method}` takes"),
        (other, _) => format!("`params` is `{other:.60}`; expected an object"),
    })
}

/// The fault in the `params` of a list.
fn fault_of_pages(method: &str, params: &Value) -> Option<String> {
    match params {
        Value::Object(_) => fault_as::<PaginatedRequestParams>(params),
        other => Some(format!("`params` of `{method}` is `{other:.60}`; expected an object")),
    }
}

fn fault_as<T: DeserializeOwned>(params: &Value) -> Option<String> {
    let error = serde_path_to_error::deserialize::<_, T>(params).err()?;
    let path = error.path().to_string();
    let place = if path == "." { String::new() } else { format!(".{path}") };
    Some(format!("`params{place}`: {}", error.inner()))
}

/// Decides which messages of a new connection are passed on. Before its first request a client has
/// said nothing about itself, and rmcp ends the connection where something else comes first.
#[derive(Default)]
pub(super) struct Opening {
    has_begun: bool,
}

impl Opening {
    pub(super) fn may_pass(&mut self, message: &ClientJsonRpcMessage) -> bool {
        if let JsonRpcMessage::Request(request) = message {
            self.has_begun |= match &request.request {
                ClientRequest::InitializeRequest(_) => true,
                ClientRequest::DiscoverRequest(_) => false,
                request => request.get_meta().protocol_version().is_some(),
            };
            return true;
        }
        self.has_begun
    }
}

/// The fault of a batch in a revision that has none; they were removed with 2025-06-18.
pub(super) fn fault_of_batch(version: Option<&str>) -> Option<Fault> {
    let version = version.filter(|version| *version > ProtocolVersion::V_2025_03_26.as_str())?;
    let reason = format!("revision {version} has no batches; send each message alone");
    Some(Fault::invalid(None, reason))
}

/// The fault of a message that may not be part of a batch.
pub(super) fn fault_in_batch(message: &ClientJsonRpcMessage) -> Option<Fault> {
    match message {
        JsonRpcMessage::Request(request)
            if matches!(request.request, ClientRequest::InitializeRequest(_)) =>
        {
            Some(Fault::invalid(Some(request.id.clone()), "`initialize` may not be part of a batch"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// The code and the id of the error for `text`.
    fn fault(text: &str) -> (i32, Value) {
        let fault = match read(text.as_bytes()) {
            Err(fault) => fault,
            Ok(Incoming::One(message)) => panic!("{message:?}"),
            Ok(Incoming::Batch(_)) => panic!("a batch"),
        };
        (fault.error.code.0, serde_json::to_value(fault.id).unwrap())
    }

    fn call(arguments: &str) -> String {
        format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"t","arguments":{arguments}}}}}"#
        )
    }

    #[test]
    fn what_is_no_json_is_a_parse_error_with_the_id_where_there_is_one() {
        for text in ["", " ", "{", "[1,", "\u{0}", "{\"jsonrpc\":\"2.0\",\"id\":7", "nul", "{'a':1}"] {
            assert_eq!(fault(text), (-32700, json!(null)), "{text}");
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(500), "]".repeat(500));
        for arguments in [
            r#"{"prompt":"\ud800"}"#,
            r#"{"prompt":"\udc00 x"}"#,
            r#"{"prompt":"\ud800\u0041"}"#,
            r#"{"\ud800":1}"#,
            &deep,
            r#"{"seed":1e999}"#,
        ] {
            assert_eq!(fault(&call(arguments)), (-32700, json!("a")), "{arguments:.60}");
        }
    }

    #[test]
    fn what_is_no_message_is_an_invalid_request() {
        for text in ["7", "null", "\"a\"", "true", "[]", "{}", r#"{"jsonrpc":"2.0"}"#] {
            assert_eq!(fault(text), (-32600, json!(null)), "{text}");
        }
        for (text, id) in [
            (r#"{"id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"1.0","id":7,"method":"ping"}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":7,"method":7}"#, json!(7)),
            (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":123456789012345678901234567890,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":{},"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/list"}"#, json!(null)),
            (r#"{"jsonrpc":"2.0","id":1,"method":"ping","result":{}}"#, json!(1)),
            (r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":7}"#, json!(null)),
        ] {
            assert_eq!(fault(text), (-32600, id), "{text}");
        }
        let values = format!("[{}1]", "1,".repeat(60_000));
        assert_eq!(fault(&call(&values)), (-32600, json!("a")));
        let words = format!(r#"{{"prompt":"{}\\\",{}"}}"#, ",".repeat(60_000), "[".repeat(60_000));
        assert!(read(call(&words).as_bytes()).is_ok());
        let many = format!("[{}]", vec![r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#; 65].join(","));
        assert_eq!(fault(&many), (-32600, json!(null)));
    }

    #[test]
    fn wrong_params_are_told_with_their_place() {
        for (method, params, told) in [
            ("tools/call", "7", "`params` is `7`; expected an object"),
            ("tools/call", "[]", "`params` is `[]`; expected an object"),
            ("tools/call", "{}", "`params`: missing field `name`"),
            ("tools/call", r#"{"name":7}"#, "`params.name`: invalid type: integer `7`, expected a string"),
            ("tools/list", r#"{"cursor":7}"#, "`params.cursor`: invalid type: integer `7`"),
            ("prompts/get", "null", "`params` is missing; `prompts/get` needs it"),
            ("resources/read", r#"{"uri":[]}"#, "`params.uri`: invalid type: sequence"),
            ("completion/complete", r#"{"argument":{"name":"a"}}"#, "`params"),
            ("initialize", r#"{"protocolVersion":7}"#, "`params.protocolVersion`: "),
        ] {
            let text = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{params}}}"#);
            let Err(fault) = read_one(text.as_bytes()) else { panic!("{text}") };
            assert_eq!((fault.error.code.0, &fault.id), (-32602, &Some(RequestId::Number(7))), "{text}");
            assert!(fault.error.message.starts_with(told), "{}", fault.error.message);
        }
    }

    #[test]
    fn messages_and_unknown_methods_are_passed_on() {
        for text in [
            "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}",
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1.0,\"method\":\"tools/list\"}",
            r#"{"jsonrpc":"2.0","id":1,"method":"nothing/known","params":{"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28"}}}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}"#,
            &call(r#"{"a":1,"a":2,"prompt":"\ud83d\ude00"}"#),
        ] {
            assert!(matches!(read(text.as_bytes()), Ok(Incoming::One(_))), "{text}");
        }
    }
}
