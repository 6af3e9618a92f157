//! Resources: a text, some bytes, one that is watched, and a template.

use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceTemplate};
use serde_json::{Value, json};

use crate::{fixture, tools};

pub(crate) fn all() -> Vec<Resource> {
    fixture(json!([
        { "uri": "test://static-text", "name": "static-text", "mimeType": "text/plain" },
        { "uri": "test://static-binary", "name": "static-binary", "mimeType": "image/png" },
        { "uri": "test://watched-resource", "name": "watched-resource", "mimeType": "text/plain" },
    ]))
}

pub(crate) fn templates() -> Vec<ResourceTemplate> {
    fixture(
        json!([{ "uriTemplate": "test://template/{id}/data", "name": "template", "mimeType": "application/json" }]),
    )
}

pub(crate) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let text = |text: &str| json!({ "uri": uri, "mimeType": "text/plain", "text": text });
    let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
    let content: Value = match (uri, id) {
        ("test://static-text", _) => text("This is the content of the static text resource."),
        ("test://static-binary", _) => {
            json!({ "uri": uri, "mimeType": "image/png", "blob": tools::RED_PIXEL })
        }
        ("test://watched-resource", _) => text("This resource is watched."),
        (_, Some(id)) => {
            let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
            json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
        }
        (_, None) => {
            return Err(ErrorData::resource_not_found(format!("there is no resource `{uri}`"), None));
        }
    };
    Ok(ReadResourceResult::new(vec![fixture(content)]))
}
