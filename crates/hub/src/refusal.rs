//! What an answer of the hub means that is not what was asked for.

use crate::remote::Remote;
use crate::retry::Failure;
use crate::{Error, Id};
use std::time::Duration;
use ureq::Body;
use ureq::http::{HeaderMap, Response};

/// What was asked for.
pub(crate) struct Asked<'a> {
    pub(crate) id: &'a Id,
    pub(crate) revision: &'a str,
    pub(crate) file: Option<&'a str>,
}

/// The error that a status and the hub's own headers mean. The hub answers 401 also for models that do not exist, to
/// tell nobody which private ones do; the headers tell the cases apart as in Python's `hf_raise_for_status`.
pub(crate) fn refusal(remote: &Remote, asked: &Asked, url: &str, response: &Response<Body>) -> Failure {
    let status = response.status().as_u16();
    let (code, said) = (text(response.headers(), "x-error-code"), text(response.headers(), "x-error-message"));
    let (id, url, count) = (asked.id.to_string(), url.to_owned(), 1);
    let page = remote.page(asked.id);
    let not_found = |id, url| Error::NotFound { id, url, moved: asked.id.moved(), token: remote.has_token() };
    let lasting = match (status, code, asked.file) {
        (429, ..) => {
            let wait = wait(response.headers());
            return Failure::Passing(Error::RateLimited { url, wait, count }, wait);
        }
        (408 | 500.., ..) => {
            return Failure::Passing(Error::Server { url, status, count }, wait(response.headers()));
        }
        (_, "RevisionNotFound", _) => {
            let (revision, page) = (asked.revision.to_owned(), format!("{page}/tree/main"));
            Error::UnknownRevision { id, revision, url, page }
        }
        (_, "GatedRepo", _) => Error::Gated { id, url, page, token: remote.has_token() },
        (_, "RepoNotFound", _) => not_found(id, url),
        (_, "EntryNotFound", Some(file)) | (404, _, Some(file)) => Error::NoFile { id, file: file.to_owned(), url },
        (401, ..) if remote.has_token() => {
            let said = if said.is_empty() { "401".to_owned() } else { said.to_owned() };
            Error::Token { id, url, endpoint: remote.endpoint().to_owned(), said }
        }
        (401 | 404, ..) => not_found(id, url),
        _ => Error::Refused { id, url, status, said: said.to_owned() },
    };
    Failure::Lasting(lasting)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// How long the hub asks to wait: `Retry-After: 12`, or `RateLimit: "api";r=0;t=12`.
fn wait(headers: &HeaderMap) -> Option<Duration> {
    let after = text(headers, "retry-after").parse();
    let seconds = after.ok().or_else(|| {
        let mut fields = text(headers, "ratelimit").split(';');
        fields.find_map(|field| field.trim().strip_prefix("t=")?.parse().ok())
    });
    seconds.map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_that_the_hub_asks_for_is_read() {
        for (name, value, seconds) in [
            ("retry-after", "12", Some(12)),
            ("ratelimit", "\"api\";r=0;t=55", Some(55)),
            ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT", None),
            ("x", "1", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(name, value.parse().unwrap());
            assert_eq!(wait(&headers), seconds.map(Duration::from_secs), "{name}: {value}");
        }
    }
}
