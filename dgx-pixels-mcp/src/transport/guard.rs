//! Access control: the right Host and Origin, which keep web pages out, and the token.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header, uri::Authority};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::cors;
use super::token::Token;

/// The conditions that every request must meet.
pub(super) struct Guard {
    pub(super) token: Option<Token>,
    /// Names by which this machine is called, lower case; the loopback's own are always allowed.
    pub(super) hosts: Vec<String>,
    /// Web pages that may ask, as `https://example.org`.
    pub(super) origins: Vec<String>,
}

/// Lets a request through, or says why not.
pub(super) async fn check(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    if let Some(mut refusal) = guard.refusal_of_place(&request) {
        cors::allow(refusal.headers_mut(), None);
        return refusal;
    }
    // A page that may ask may also read why it is refused.
    let origin = request.headers().get(header::ORIGIN).cloned();
    let mut response = match cors::preflight(&request).or_else(|| guard.refusal_of_token(&request)) {
        Some(response) => response,
        None => next.run(request).await,
    };
    cors::allow(response.headers_mut(), origin);
    response
}

impl Guard {
    /// The answer to a request that was made by a name or a web page that is not allowed.
    fn refusal_of_place(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let text = |name| headers.get_all(name).iter().map(HeaderValue::to_str).collect::<Vec<_>>();

        // 1. Host: a page of another name that is led to this address by DNS is no client
        let uri_host = request.uri().authority().map(Authority::as_str);
        match (text(header::HOST).as_slice(), uri_host) {
            ([Ok(host)], _) if self.is_own(host) => {}
            ([], Some(host)) if self.is_own(host) => {}
            _ => return Some(refuse(StatusCode::FORBIDDEN, "Host is not allowed; see --allow-host")),
        }

        // 2. Origin: only web pages send one
        match text(header::ORIGIN).as_slice() {
            [] => {}
            [Ok(origin)] if self.may_ask(origin) => {}
            _ => return Some(refuse(StatusCode::FORBIDDEN, "Origin is not allowed; see --allow-origin")),
        }
        None
    }

    /// The answer to a request without the token. Everybody may ask whether the server lives.
    fn refusal_of_token(&self, request: &Request) -> Option<Response> {
        let headers = request.headers();
        let token = self.token.as_ref().filter(|_| request.uri().path() != "/healthz")?;
        let given = headers.get(header::AUTHORIZATION).is_some_and(|value| token.is_in(value.as_bytes()));
        (!given).then(|| {
            let mut refusal = refuse(StatusCode::UNAUTHORIZED, "expected Authorization: Bearer TOKEN");
            refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            refusal
        })
    }

    fn is_own(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = authority.host().to_ascii_lowercase();
        is_loopback(&host) || self.hosts.contains(&host)
    }

    fn may_ask(&self, origin: &str) -> bool {
        let rest = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
        let local = rest.and_then(|rest| rest.parse::<Authority>().ok());
        local.is_some_and(|local| is_loopback(local.host()))
            || self.origins.iter().any(|known| known == origin)
    }
}

fn is_loopback(host: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].contains(&host)
}

fn refuse(status: StatusCode, reason: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], reason).into_response()
}
