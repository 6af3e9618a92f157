//! Answers that let a web page of an allowed origin use the server from a browser.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};

/// The seconds for which a browser may remember the answer to a preflight.
const MAX_AGE: &str = "600";
const METHODS: &str = "GET, POST, DELETE, OPTIONS";
const REQUEST_HEADERS: &str = "Authorization, Content-Type, Accept, Mcp-Session-Id, Mcp-Protocol-Version, Mcp-Method, Mcp-Name, Last-Event-ID";
const RESPONSE_HEADERS: &str = "Mcp-Session-Id, WWW-Authenticate, Retry-After";
/// A browser asks with these whether a page from the Internet may reach an address of a private
/// network.
const ASKS_FOR_PRIVATE: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOWS_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");

/// The answer if the request is a browser's question before the real one. It carries no token, and
/// needs none: it only learns what the page may send. The origin was checked before.
pub(super) fn preflight(request: &Request) -> Option<Response> {
    let headers = request.headers();
    let is_preflight = request.method() == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if !is_preflight {
        return None;
    }
    let mut response = StatusCode::NO_CONTENT.into_response();
    let answer = response.headers_mut();
    answer.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    answer.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
    answer.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    if headers.contains_key(ASKS_FOR_PRIVATE) {
        answer.insert(ALLOWS_PRIVATE, HeaderValue::from_static("true"));
    }
    Some(response)
}

/// Lets the page of `origin` read the answer. `origin` is that of the request, which was checked;
/// there is no `*`, and cookies are not allowed.
pub(super) fn allow(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        let exposed = HeaderValue::from_static(RESPONSE_HEADERS);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}
