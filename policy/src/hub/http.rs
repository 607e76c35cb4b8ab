//! Requests to the hub: with time-outs, limited answers, and a token that goes to the hub itself only.

use std::io::Read;
use std::time::Duration;

use serde_json::Value;
use ureq::http::{Method, Request, Response};
use ureq::{Agent, AsSendBody, Body};

use super::Token;
use crate::error::PolicyError;

/// Time to connect, and to wait for an answer or for the next bytes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Redirects of one request.
const REDIRECTS_MAX: usize = 5;
/// Bytes of an answer in JSON.
const JSON_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Characters of the hub's own words in an error.
const WORDS_MAX: usize = 200;

/// The kind of JSON that the LFS protocol speaks.
pub(super) const LFS: &str = "application/vnd.git-lfs+json";

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// There was no answer.
    Unreachable(String),
    /// The hub said no: status and its words.
    Refused(u16, String),
    /// The answer makes no sense.
    Strange(String),
}

/// A client.
#[derive(Clone, Debug)]
pub(super) struct Http {
    agent: Agent,
    endpoint: String,
    pub(super) token: Option<Token>,
}

impl Http {
    pub(super) fn new(endpoint: &str) -> Self {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Followed here: the first answer has the headers, and the token must not travel.
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_resolve(Some(PATIENCE))
            .timeout_connect(Some(PATIENCE))
            .timeout_recv_response(Some(PATIENCE))
            .timeout_per_read(Some(PATIENCE))
            .timeout_per_write(Some(PATIENCE))
            .user_agent(concat!("murmur/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Self { agent, endpoint: endpoint.trim_end_matches('/').to_owned(), token: None }
    }

    /// An address of the hub.
    pub(super) fn url(&self, path: &str) -> String {
        format!("{}/{path}", self.endpoint)
    }

    pub(super) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// One request without redirects; any status is an answer.
    pub(super) fn send(
        &self,
        method: Method,
        url: &str,
        headers: &[(&str, &str)],
        body: impl AsSendBody,
    ) -> Result<Response<Body>, Failure> {
        let mut request = Request::builder().method(method).uri(url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(Token(token)) = self.token.as_ref().filter(|_| self.owns(url)) {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body).map_err(|error| Failure::Strange(error.to_string()))?;
        self.agent.run(request).map_err(|error| Failure::Unreachable(error.to_string()))
    }

    /// Whether an address is the hub's own.
    fn owns(&self, url: &str) -> bool {
        url.strip_prefix(&self.endpoint).is_some_and(|rest| rest.starts_with('/'))
    }

    /// GET or HEAD. A redirect within the hub (a renamed model) is followed; one to a file store is followed only
    /// by GET, so that HEAD shows the hub's own headers.
    pub(super) fn get(
        &self,
        method: &Method,
        url: &str,
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS_MAX {
            let answer = self.send(method.clone(), &url, headers, ())?;
            let status = answer.status();
            if !status.is_redirection() {
                return if status.is_success() { Ok(answer) } else { Err(self.refusal(answer)) };
            }
            let target = header(&answer, "location")
                .and_then(|location| absolute(&url, location))
                .ok_or_else(|| Failure::Strange(format!("status {status} without a usable location")))?;
            if *method == Method::HEAD && !self.owns(&target) {
                return Ok(answer);
            }
            url = target;
        }
        Err(Failure::Strange(format!("more than {REDIRECTS_MAX} redirects")))
    }

    /// POSTs JSON of a kind (lines of it, or that of LFS) and reads the JSON of the answer; `null` for an empty one.
    pub(super) fn post(&self, url: &str, kind: &str, body: &[u8]) -> Result<Value, Failure> {
        // The LFS protocol demands its own kind; everything else is answered with plain JSON.
        let accept = if kind == LFS { LFS } else { "application/json" };
        let answer = self.send(Method::POST, url, &[("content-type", kind), ("accept", accept)], body)?;
        if !answer.status().is_success() {
            return Err(self.refusal(answer));
        }
        json(answer)
    }

    /// What the hub says about a refusal, should it repeat the token without the token.
    pub(super) fn refusal(&self, answer: Response<Body>) -> Failure {
        let status = answer.status().as_u16();
        let spoken = header(&answer, "x-error-message").map(str::to_owned);
        let words = spoken.or_else(|| json(answer).ok()?.get("error")?.as_str().map(str::to_owned));
        let mut words: String =
            words.unwrap_or_default().chars().filter(|c| !c.is_control()).take(WORDS_MAX).collect();
        if let Some(Token(token)) = &self.token {
            words = words.replace(token, "…");
        }
        Failure::Refused(status, words)
    }

    /// The failure in words for the user.
    pub(super) fn error(&self, id: &str, doing: &str, failure: Failure) -> PolicyError {
        let endpoint = &self.endpoint;
        let (what, hint) = match failure {
            Failure::Unreachable(why) => (
                format!("{doing}: no connection to {endpoint}: {why}"),
                "check the network and HF_ENDPOINT; a model directory, or one that is in the cache, needs none".into(),
            ),
            Failure::Refused(status, words) => (
                format!("{doing}: the hub answers {status} {words}").trim_end().to_owned(),
                self.advice(status, id),
            ),
            Failure::Strange(why) => (
                format!("{doing}: {endpoint} does not answer like the hub: {why}"),
                "check HF_ENDPOINT".into(),
            ),
        };
        PolicyError::Hub { id: id.to_owned(), what, hint }
    }

    fn advice(&self, status: u16, id: &str) -> String {
        let repo = id.split('@').next().unwrap_or(id);
        match status {
            401 | 403 if self.has_token() => {
                format!("see that the token may use it, and accept its terms at {}/{repo}", self.endpoint)
            }
            401 | 403 => "check the name; if it is private or gated, set HF_TOKEN".into(),
            404 => "check the name and the revision".into(),
            429 => "wait some minutes, or set HF_TOKEN".into(),
            _ => "try again later".into(),
        }
    }
}

/// The text of a header.
pub(super) fn header<'a, T>(answer: &'a Response<T>, name: &str) -> Option<&'a str> {
    answer.headers().get(name)?.to_str().ok()
}

/// Reads a limited body as JSON; `null` for an empty one.
pub(super) fn json(answer: Response<Body>) -> Result<Value, Failure> {
    let mut text = Vec::new();
    let mut body = answer.into_body().into_reader().take(JSON_BYTES_MAX + 1);
    body.read_to_end(&mut text).map_err(|error| Failure::Unreachable(error.to_string()))?;
    if text.len() as u64 > JSON_BYTES_MAX {
        return Err(Failure::Strange(format!("an answer of more than {JSON_BYTES_MAX} bytes")));
    }
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&text).map_err(|error| Failure::Strange(error.to_string()))
}

/// Where a redirect leads from an address.
fn absolute(from: &str, location: &str) -> Option<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Some(location.to_owned());
    }
    let host = from.find("://")? + 3;
    let origin = from.get(..from.get(host..)?.find('/').map_or(from.len(), |end| host + end))?;
    (location.starts_with('/') && !location.starts_with("//")).then(|| format!("{origin}{location}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_goes_to_the_hub_only() {
        let http = Http::new("https://huggingface.co/");
        assert!(http.owns("https://huggingface.co/api/models/a/b"));
        for other in
            ["https://huggingface.co.evil.org/a", "https://huggingface.co", "http://huggingface.co/a"]
        {
            assert!(!http.owns(other), "{other}");
        }
    }

    #[test]
    fn redirects_lead_to_addresses() {
        let from = "https://hub.org/a/b?c";
        assert_eq!(absolute(from, "/d/e").as_deref(), Some("https://hub.org/d/e"));
        assert_eq!(absolute(from, "https://store.org/x").as_deref(), Some("https://store.org/x"));
        for bad in ["//evil.org/x", "d", "", "file:///etc/passwd"] {
            assert_eq!(absolute(from, bad), None, "{bad}");
        }
    }
}
