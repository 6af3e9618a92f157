//! The hub over HTTP: the list of a repository's files, and their bytes from where a fetch broke
//! off.

use std::io::{self, Read};
use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use dgx_pixels_core::Reason;
use dgx_pixels_core::model::header::shown;
use dgx_pixels_core::model::hub::{self, HubName};
use serde::Deserialize;
use ureq::http::{HeaderMap, Response, StatusCode, Uri};
use ureq::tls::{Certificate, RootCerts, TlsConfig};
use ureq::{Agent, Body};

use crate::failure::{Failure, counted};
use crate::interrupt;
use crate::output::note;

/// The hub where `HF_ENDPOINT` names no other.
const ENDPOINT: &str = "https://huggingface.co";
/// The name of the bytes of a large file, which lie in the storage.
const LINKED_ETAG: &str = "x-linked-etag";
/// The most bytes of an answer that lists files.
const MAX_LIST_BYTES: u64 = 16 << 20;
/// The most files of a repository.
const MAX_FILES: usize = 20_000;
/// The most redirects for one file: the hub sends to its storage.
const MAX_REDIRECTS: usize = 5;
/// The most times that one request is made.
const ATTEMPTS: u32 = 4;
/// The longest wait that a busy hub may ask for.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// The time in which an answer must begin or go on, where `HF_HUB_DOWNLOAD_TIMEOUT` sets no other.
const PATIENCE: Duration = Duration::from_secs(20);

/// The hub, and the token for it.
pub(super) struct Hub {
    endpoint: Uri,
    agent: Agent,
    token: Option<String>,
}

/// A repository at a commit.
pub(super) struct Listing {
    /// The commit, 40 hexadecimal digits.
    pub(super) commit: String,
    /// The paths of all files.
    pub(super) files: Vec<String>,
}

/// The facts of one file at a commit.
pub(super) struct Remote {
    /// The name of its bytes in the cache: the hub's ETag.
    pub(super) etag: String,
    /// The number of bytes.
    pub(super) bytes: u64,
}

/// An answer with bytes of a file, from the byte `from` on.
pub(super) struct Part {
    pub(super) from: u64,
    pub(super) body: Box<dyn Read>,
}

impl Hub {
    /// The hub that `HF_ENDPOINT` names, by default `https://huggingface.co`, with the token of
    /// `HF_TOKEN` or of the file that `hf auth login` writes.
    pub(super) fn open() -> Result<Hub, Failure> {
        let named = text_of("HF_ENDPOINT").unwrap_or(ENDPOINT.into());
        let endpoint: Option<Uri> = named.trim_end_matches('/').parse().ok();
        let is_web = |uri: &Uri| uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"));
        let endpoint = endpoint.filter(is_web).ok_or_else(|| {
            let shown = shown(&named);
            Failure::Flags(format!("`HF_ENDPOINT` is `{shown}`; expected an address such as `{ENDPOINT}`"))
        })?;
        let patience = match text_of("HF_HUB_DOWNLOAD_TIMEOUT") {
            None => PATIENCE,
            Some(text) => match text.parse() {
                Ok(seconds @ 1..=3600) => Duration::from_secs(seconds),
                _ => {
                    let shown = shown(&text);
                    return Err(Failure::Flags(format!(
                        "`HF_HUB_DOWNLOAD_TIMEOUT` is `{shown}`; expected seconds, 1 to 3600"
                    )));
                }
            },
        };
        let is_secret = endpoint.scheme_str() == Some("https");
        let mut config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .user_agent(concat!("dgx-pixels/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity")
            .timeout_connect(Some(patience))
            .timeout_recv_response(Some(patience))
            .timeout_per_read(Some(patience));
        if is_secret {
            config = config.tls_config(tls()?);
        }
        // A token is a password, and would be read on its way.
        let may_tell = is_secret || endpoint.host().is_some_and(is_this_machine);
        let token = token().filter(|_| may_tell);
        Ok(Hub { endpoint, agent: config.build().new_agent(), token })
    }

    /// Lists the files of a repository at its revision.
    pub(super) fn list(&self, name: &HubName) -> Result<Listing, Failure> {
        #[derive(Deserialize)]
        struct About {
            sha: String,
            #[serde(default)]
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let revision = quoted(name.revision());
        let address = format!("{}/api/models/{}/revision/{revision}", self.base(), name.repository());
        let answer = self.follow("GET", &address, None, name)?.0;
        let text = answer.into_body().into_with_config().limit(MAX_LIST_BYTES).read_to_string();
        let text = text.map_err(|error| fault(name, ("its list of files cannot be read", broken(error))))?;
        let about: About = serde_json::from_str(&text)
            .map_err(|error| fault(name, ("the hub's answer is no list of files", error)))?;
        let is_commit = about.sha.len() == 40 && about.sha.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_commit {
            let reason =
                format!("the hub's commit is `{}`; expected 40 hexadecimal digits", shown(&about.sha));
            return Err(fault(name, reason));
        }
        if about.siblings.len() > MAX_FILES {
            let reason = format!("it has {} files; expected at most {MAX_FILES}", about.siblings.len());
            return Err(fault(name, reason));
        }
        let files = about.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        Ok(Listing { commit: about.sha.to_ascii_lowercase(), files })
    }

    /// The size of a file, and the name of its bytes.
    pub(super) fn about(&self, name: &HubName, commit: &str, file: &str) -> Result<Remote, Failure> {
        let (answer, first) = self.follow("HEAD", &self.address(name, commit, file), None, name)?;
        let header = |headers: &HeaderMap, name: &str| {
            headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        // Large files lie in a storage that has names of its own; the hub tells theirs.
        let etag = header(&first, LINKED_ETAG).or_else(|| header(&first, "etag"));
        let etag = etag.unwrap_or_default();
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if etag.is_empty() || etag.len() > 128 || !etag.bytes().all(is_name) {
            let reason =
                format!("the ETag of `{}` is `{}`; expected letters and digits", shown(file), shown(&etag));
            return Err(fault(name, reason));
        }
        let bytes = header(&first, "x-linked-size").or_else(|| header(answer.headers(), "content-length"));
        let bytes = bytes.and_then(|bytes| bytes.parse().ok());
        let bytes =
            bytes.ok_or_else(|| fault(name, format!("the hub tells no size of `{}`", shown(file))))?;
        Ok(Remote { etag, bytes })
    }

    /// The bytes of a file from `from` on, or from the beginning where the hub has no parts.
    pub(super) fn part(
        &self,
        name: &HubName,
        commit: &str,
        file: &str,
        from: u64,
        bytes: u64,
    ) -> Result<Part, Failure> {
        let range = (from > 0).then(|| format!("bytes={from}-"));
        let (answer, _) = self.follow("GET", &self.address(name, commit, file), range.as_deref(), name)?;
        let is_part = answer.status() == StatusCode::PARTIAL_CONTENT;
        let expected = format!("bytes {from}-{}/{bytes}", bytes.saturating_sub(1));
        let told = answer.headers().get("content-range").and_then(|value| value.to_str().ok());
        if is_part && told != Some(&*expected) {
            let reason = format!(
                "the hub sent `{}` of `{}`; expected `{expected}`",
                shown(told.unwrap_or("no range")),
                shown(file)
            );
            return Err(fault(name, reason));
        }
        let body = answer.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Part { from: if is_part { from } else { 0 }, body: Box::new(body) })
    }

    fn base(&self) -> String {
        self.endpoint.to_string().trim_end_matches('/').to_owned()
    }

    fn address(&self, name: &HubName, commit: &str, file: &str) -> String {
        let path: Vec<_> = file.split('/').map(quoted).collect();
        format!("{}/{}/resolve/{commit}/{}", self.base(), name.repository(), path.join("/"))
    }

    /// Asks, and follows redirects. Returns the last answer, and the headers of the hub's own last
    /// answer. The token goes to the hub alone, not to its storage.
    fn follow(
        &self,
        method: &str,
        address: &str,
        range: Option<&str>,
        name: &HubName,
    ) -> Result<(Response<Body>, HeaderMap), Failure> {
        let mut address: Uri = address.parse().map_err(|_| {
            fault(name, format!("`{}` is no address; is `HF_ENDPOINT` right?", shown(address)))
        })?;
        let mut first = None;
        for _ in 0..=MAX_REDIRECTS {
            let is_hub = address.scheme() == self.endpoint.scheme()
                && address.authority() == self.endpoint.authority();
            let answer = self.ask(method, &address, range, is_hub, name)?;
            // A hub may have its storage under its own address.
            if is_hub && first.as_ref().is_none_or(|first: &HeaderMap| !first.contains_key(LINKED_ETAG)) {
                first = Some(answer.headers().clone());
            }
            let status = answer.status();
            // The storage's addresses are signed for `GET` alone; the hub has said all of a file.
            let is_told = method == "HEAD" && status.is_redirection();
            if is_told && first.as_ref().is_some_and(|first| first.contains_key(LINKED_ETAG)) {
                return Ok((answer, first.unwrap_or_default()));
            }
            if status.is_success() {
                let headers = first.unwrap_or_else(|| answer.headers().clone());
                return Ok((answer, headers));
            }
            let target = answer.headers().get("location").and_then(|target| target.to_str().ok());
            let Some(target) = target.filter(|_| status.is_redirection()) else {
                return Err(refused(name, &answer, self.token.is_some()));
            };
            address = self.redirected(&address, target).ok_or_else(|| {
                fault(name, format!("the hub sends to `{}`; expected an `https` address", shown(target)))
            })?;
        }
        Err(fault(name, format!("the hub sends on and on; expected at most {MAX_REDIRECTS} redirects")))
    }

    /// The address that a redirect leads to, unless it leads from a safe way to an open one.
    fn redirected(&self, from: &Uri, target: &str) -> Option<Uri> {
        let whole = match target.strip_prefix('/') {
            Some(_) if !target.starts_with("//") => {
                format!("{}://{}{target}", from.scheme_str()?, from.authority()?)
            }
            _ => target.to_owned(),
        };
        let target: Uri = whole.parse().ok()?;
        let scheme = target.scheme_str()?;
        let is_as_safe = scheme == "https" || (scheme == "http" && from.scheme_str() == Some("http"));
        (is_as_safe && target.host().is_some()).then_some(target)
    }

    /// One answer, asked for again while the hub is busy.
    fn ask(
        &self,
        method: &str,
        address: &Uri,
        range: Option<&str>,
        is_hub: bool,
        name: &HubName,
    ) -> Result<Response<Body>, Failure> {
        let mut attempt = 1;
        loop {
            interrupt::check()?;
            let request = if method == "HEAD" { self.agent.head(address) } else { self.agent.get(address) };
            let mut request = request;
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(range) = range {
                request = request.header("range", range);
            }
            let answer = request.call().map_err(|error| {
                let base = self.base();
                fault(name, (format!("`{}` does not answer", shown(&base)), broken(error)))
            })?;
            let status = answer.status();
            let is_busy = status == StatusCode::TOO_MANY_REQUESTS || status.is_server_error();
            if !is_busy || attempt == ATTEMPTS {
                return Ok(answer);
            }
            let asked =
                answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
            let wait = asked.map_or(Duration::from_secs(1 << attempt), Duration::from_secs);
            if wait > MAX_WAIT {
                return Ok(answer);
            }
            note(format_args!("the hub is busy ({}); asking again in {} s", status.as_u16(), wait.as_secs()));
            thread::sleep(wait);
            attempt += 1;
        }
    }
}

/// A failure of a fetch.
pub(super) fn fault(name: &HubName, reason: impl Into<Reason>) -> Failure {
    Failure::Fetch { name: name.to_string(), reason: reason.into() }
}

/// The failure that an answer stands for.
fn refused(name: &HubName, answer: &Response<Body>, has_token: bool) -> Failure {
    let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
    let (code, repository) = (answer.status().as_u16(), name.repository());
    let reason = match (code, header("x-error-code")) {
        (401 | 403, Some("GatedRepo")) => format!(
            "its license must be accepted on the hub's page of `{repository}`, by the account of the token"
        ),
        (401 | 403, _) if has_token => {
            format!("the hub refuses the token ({code}); check that it may read `{repository}`")
        }
        (401 | 403, _) => {
            format!("it does not exist, or wants a token ({code}); set `HF_TOKEN`, or run `hf auth login`")
        }
        (404, Some("RevisionNotFound")) => format!("it has no revision `{}` (404)", name.revision()),
        (404, _) => "the hub has no such repository, revision or file (404)".into(),
        (429, _) => {
            let wait = header("retry-after").and_then(|text| text.parse::<usize>().ok());
            let wait = wait.map_or("later".into(), |seconds| format!("in {}", counted(seconds, "second")));
            format!("the hub gets too many requests from here (429); try again {wait}")
        }
        (500..=599, _) => format!("the hub has a fault of its own ({code}); try again later"),
        _ => format!("the hub answers with {code}; expected 200"),
    };
    fault(name, reason)
}

/// The cause of a broken connection, as a sentence.
pub(super) fn broken(error: ureq::Error) -> io::Error {
    match error {
        ureq::Error::Io(error) => error,
        ureq::Error::Timeout(_) => io::Error::new(io::ErrorKind::TimedOut, "no byte came in time"),
        error => io::Error::other(error),
    }
}

/// `true` for the names and addresses of this machine.
fn is_this_machine(host: &str) -> bool {
    let host = host.trim_matches(['[', ']']);
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// TLS by rustls, with the certificates that this machine trusts.
fn tls() -> Result<TlsConfig, Failure> {
    let found = rustls_native_certs::load_native_certs();
    let roots: Vec<_> =
        found.certs.iter().map(|root| Certificate::from_der(root.as_ref()).to_owned()).collect();
    if roots.is_empty() {
        return Err(Failure::Flags(
            "this machine has no certificates to know the hub by; install the package `ca-certificates`, or name a \
             file of them in `SSL_CERT_FILE`"
                .into(),
        ));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = TlsConfig::builder().root_certs(RootCerts::new_with_certs(&roots));
    Ok(config.unversioned_rustls_crypto_provider(provider).build())
}

/// The token in `HF_TOKEN`, or in the file that `HF_TOKEN_PATH` names, by default `$HF_HOME/token`.
fn token() -> Option<String> {
    let is_token = |text: &String| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let path = || {
        let named = env::var_os("HF_TOKEN_PATH").filter(|path| !path.is_empty()).map(Into::into);
        named.or_else(|| Some(hub::home()?.join("token")))
    };
    let in_file = || fs::read_to_string(path()?).ok();
    text_of("HF_TOKEN").or_else(in_file).map(|text| text.trim().to_owned()).filter(is_token)
}

/// `true` if `HF_HUB_OFFLINE` forbids the network.
pub(super) fn is_offline() -> bool {
    let text = text_of("HF_HUB_OFFLINE").unwrap_or_default().to_ascii_uppercase();
    matches!(&*text, "1" | "ON" | "YES" | "TRUE")
}

fn text_of(variable: &str) -> Option<String> {
    env::var(variable).ok().filter(|text| !text.is_empty())
}

/// A part of a path as an address has it.
fn quoted(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_path_keeps_no_sign_that_means_something() {
        assert_eq!(quoted("refs/pr/7"), "refs%2Fpr%2F7");
        assert_eq!(quoted("a b?#%ü.safetensors"), "a%20b%3F%23%25%C3%BC.safetensors");
    }

    #[test]
    fn a_redirect_never_leads_from_a_safe_way_to_an_open_one() {
        let hub = |endpoint: &str| Hub {
            endpoint: endpoint.parse().unwrap(),
            agent: Agent::new_with_defaults(),
            token: None,
        };
        let to = |from: &str, target: &str| {
            hub(from).redirected(&from.parse().unwrap(), target).map(|uri| uri.to_string())
        };
        assert_eq!(to("https://hub.example", "/new/name"), Some("https://hub.example/new/name".into()));
        assert_eq!(to("https://hub.example", "https://cdn.example/a"), Some("https://cdn.example/a".into()));
        for target in ["http://cdn.example/a", "file:///etc/passwd", "//cdn.example/a", "ftp://a/b", ""] {
            assert_eq!(to("https://hub.example", target), None, "{target}");
        }
        assert!(to("http://localhost:1", "http://localhost:2/a").is_some());
    }

    #[test]
    fn only_this_machine_is_told_the_token_over_an_open_way() {
        for (host, is_here) in [
            ("localhost", true),
            ("127.0.0.1", true),
            ("[::1]", true),
            ("10.0.0.1", false),
            ("localhost.evil", false),
        ] {
            assert_eq!(is_this_machine(host), is_here, "{host}");
        }
    }
}
