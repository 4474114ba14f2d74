//! The hub as a server: the list of a model's files, and the bytes of one of them.

use crate::certificates;
use crate::listing::Listing;
use crate::names::{Revision, escaped, escaped_path};
use crate::refusal::{Asked, refusal};
use crate::retry::Failure;
use crate::settings::Patience;
use crate::{Error, Id, Result, Settings};
use hf_hub::api::sync::{Api, ApiBuilder};
use hf_hub::{Cache, Repo, RepoType};
use std::io;
use ureq::http::{Response, Uri};
use ureq::tls::TlsConfig;
use ureq::{Agent, Body};

/// Names, addresses and the list of files are hf-hub's; the bytes are asked for here, because hf-hub's requests for them
/// cannot be made from outside, and its download neither checks nor resumes reliably.
pub(crate) struct Remote {
    api: Api,
    agent: Agent,
    endpoint: String,
    token: Option<String>,
    patience: Patience,
    tls: TlsConfig,
    /// A hub on this machine, which no proxy can reach.
    is_local: bool,
}

/// The largest list of files that is read. That of a model with a hundred thousand files has about 20 MB.
const MOST_LISTED: u64 = 1 << 27;
const MOST_REDIRECTS: usize = 10;
const AGENT: &str = concat!("latentrace/", env!("CARGO_PKG_VERSION"));

impl Remote {
    /// Opens no connection yet.
    pub(crate) fn new(settings: &Settings) -> Result<Remote> {
        let endpoint = settings.endpoint.trim_end_matches('/').to_owned();
        let is_local = is_local(&address(&endpoint)?);
        let token = settings.token.clone();
        if token.as_deref().is_some_and(|token| !token.bytes().all(|byte| byte.is_ascii_graphic())) {
            let cause = "the token has spaces or other characters that no token has".into();
            return Err(Error::Setting { name: "HF_TOKEN", cause, hint: "a token is one word, such as hf_abc123" });
        }
        let api = ApiBuilder::from_cache(Cache::new(settings.cache.clone()))
            .with_endpoint(endpoint.clone())
            .with_token(token.clone())
            .with_progress(false)
            .with_user_agent("latentrace", env!("CARGO_PKG_VERSION"))
            .build()
            .map_err(|cause| Error::Unreachable { url: endpoint.clone(), cause: cause.to_string() })?;
        let patience = settings.patience;
        let tls = certificates::trusting(settings.certificates.as_deref())?;
        let agent = agent(&patience, &tls, is_local);
        Ok(Remote { api, agent, endpoint, token, patience, tls, is_local })
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// The page of a model, for people.
    pub(crate) fn page(&self, id: &Id) -> String {
        format!("{}/{id}", self.endpoint)
    }

    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    pub(crate) fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Where a file of a commit is.
    pub(crate) fn url(&self, id: &Id, commit: &str, file: &str) -> String {
        self.api.repo(repo(id, commit)).url(&escaped_path(file))
    }

    /// One try to get the list of files.
    pub(crate) fn listing(&self, id: &Id, revision: &Revision) -> Result<Listing, Failure> {
        let url = format!("{}/api/models/{id}/revision/{}", self.endpoint, escaped(revision.as_str()));
        let api = self.api.repo(repo(id, &escaped(revision.as_str())));
        let request = api.info_request().query("blobs", "true").config();
        let request = request
            .http_status_as_error(false)
            .tls_config(self.tls.clone())
            .timeout_resolve(Some(self.patience.connect))
            .timeout_connect(Some(self.patience.connect))
            .timeout_per_read(Some(self.patience.stall))
            .timeout_per_write(Some(self.patience.stall));
        let request = if self.is_local { request.proxy(None) } else { request };
        let mut response = request.build().call().map_err(|cause| match self.failed(cause, &url) {
            // Nothing has been reached yet: whoever has no network is told so at once.
            Failure::Passing(error @ Error::Unreachable { .. }, _) => Failure::Lasting(error),
            failure => failure,
        })?;
        if !response.status().is_success() {
            let asked = Asked { id, revision: revision.as_str(), file: None };
            return Err(refusal(self, &asked, &url, &response));
        }
        let body = response.body_mut().with_config().limit(MOST_LISTED).lossy_utf8(true);
        let text = body.read_to_string().map_err(|cause| self.failed(cause, &url))?;
        not_a_page(&response, &text, &url)?;
        Ok(Listing::parse(&text, &url)?)
    }

    /// One try to get the bytes of a file from an offset on; also the address that sends them.
    pub(crate) fn get(&self, asked: &Asked, url: &str, from: u64) -> Result<(Response<Body>, String), Failure> {
        let mut at = url.to_owned();
        for _ in 0..=MOST_REDIRECTS {
            let is_hub = origin(&at) == origin(&self.endpoint);
            let mut request = self.agent.get(&at);
            if let Some(token) = self.token.as_ref().filter(|_| is_hub) {
                request = request.header("Authorization", format!("Bearer {token}"));
            }
            if from > 0 {
                request = request.header("Range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|cause| self.failed(cause, &at))?;
            let status = response.status();
            if status.is_redirection() {
                at = redirected(&at, &response)?;
            } else if status.is_success() {
                return Ok((response, shown(&at)));
            } else if is_hub || status.is_server_error() {
                return Err(refusal(self, asked, &shown(&at), &response));
            } else {
                // The address that the hub gives is valid for some time only; the next try gets another.
                let (id, status) = (asked.id.to_string(), status.as_u16());
                let refused = Error::Refused { id, url: shown(&at), status, said: String::new() };
                return Err(Failure::Passing(refused, None));
            }
        }
        let cause = format!("more than {MOST_REDIRECTS} redirects");
        Err(Error::Answer { url: url.to_owned(), cause }.into())
    }

    /// Why the rest of an answer did not come.
    pub(crate) fn broken(&self, cause: io::Error, url: &str) -> Failure {
        match cause.downcast::<ureq::Error>() {
            Ok(cause) => self.failed(cause, url),
            Err(cause) => lost(url, cause.to_string()),
        }
    }

    fn failed(&self, cause: ureq::Error, url: &str) -> Failure {
        let url = shown(url);
        match cause {
            ureq::Error::Timeout(kind) => {
                let is_early = matches!(kind, ureq::Timeout::Connect | ureq::Timeout::Resolve);
                let limit = if is_early { self.patience.connect } else { self.patience.stall };
                Failure::Passing(Error::Timeout { url, limit, count: 1 }, None)
            }
            ureq::Error::Io(cause) if is_loss(&cause) => lost(&url, cause.to_string()),
            ureq::Error::Io(cause) => Failure::Passing(Error::Unreachable { url, cause: cause.to_string() }, None),
            ureq::Error::HostNotFound | ureq::Error::ConnectionFailed => {
                Failure::Passing(Error::Unreachable { url, cause: cause.to_string() }, None)
            }
            cause => Failure::Lasting(Error::Unreachable { url, cause: cause.to_string() }),
        }
    }
}

/// What every failure of a connection that existed becomes.
pub(crate) fn lost(url: &str, cause: String) -> Failure {
    Failure::Passing(Error::Lost { url: url.to_owned(), cause, count: 1 }, None)
}

/// Fails if an answer is a page for people. The hub answers programs with JSON and with files.
pub(crate) fn not_a_page(response: &Response<Body>, text: &str, url: &str) -> Result<()> {
    let kind = response.headers().get("content-type").and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if kind.contains("html") || text.trim_start().starts_with('<') {
        return Err(Error::NotHub { url: url.to_owned(), found: "a page (HTML)".into(), expected: "JSON" });
    }
    Ok(())
}

fn agent(patience: &Patience, tls: &TlsConfig, is_local: bool) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .tls_config(tls.clone())
        .max_redirects(0) // followed by hand, to send the token to the hub only
        .user_agent(AGENT)
        .accept_encoding("identity") // a range of a compressed file is not a range of the file
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_per_read(Some(patience.stall))
        .timeout_per_write(Some(patience.stall));
    let config = if is_local { config.proxy(None) } else { config };
    config.build().new_agent()
}

/// A model at a revision, which hf-hub puts into addresses as it is.
fn repo(id: &Id, revision: &str) -> Repo {
    Repo::with_revision(id.to_string(), RepoType::Model, revision.to_owned())
}

fn is_loss(cause: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(cause.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | UnexpectedEof)
}

fn address(endpoint: &str) -> Result<Uri> {
    let fail = || Error::Setting {
        name: "HF_ENDPOINT",
        cause: format!("{endpoint:?} is not the address of a hub"),
        hint: "an address is such as https://huggingface.co",
    };
    let uri: Uri = endpoint.parse().map_err(|_| fail())?;
    let is_known = matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some();
    if is_known && uri.query().is_none() { Ok(uri) } else { Err(fail()) }
}

fn is_local(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    host == "localhost" || host == "[::1]" || host.starts_with("127.")
}

/// The scheme, host and port of an address.
fn origin(url: &str) -> Option<(String, String)> {
    let uri: Uri = url.parse().ok()?;
    Some((uri.scheme_str()?.to_lowercase(), uri.authority()?.as_str().to_lowercase()))
}

/// An address without what follows `?`: where the hub redirects to, that is a secret for some time.
fn shown(url: &str) -> String {
    url.split('?').next().unwrap_or_default().to_owned()
}

fn redirected(from: &str, response: &Response<Body>) -> Result<String> {
    let location = response.headers().get("location").and_then(|location| location.to_str().ok());
    let to = location.and_then(|location| joined(from, location));
    to.ok_or_else(|| {
        let cause = format!("a redirect ({}) to no address: {location:?}", response.status().as_u16());
        Error::Answer { url: shown(from), cause }
    })
}

/// The address that a redirect names: a whole one, or a path on the same host.
fn joined(from: &str, location: &str) -> Option<String> {
    if location.starts_with("https://") || location.starts_with("http://") {
        return Some(location.to_owned());
    }
    let uri: Uri = from.parse().ok()?;
    let (scheme, host) = (uri.scheme_str()?, uri.authority()?);
    match location {
        _ if location.starts_with("//") => Some(format!("{scheme}:{location}")),
        _ if location.starts_with('/') => Some(format!("{scheme}://{host}{location}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_are_resolved_and_the_token_stays_at_its_host() {
        let from = "https://hub.example:8443/a/b?c";
        assert_eq!(joined(from, "/x?y").unwrap(), "https://hub.example:8443/x?y");
        assert_eq!(joined(from, "//cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(joined(from, "https://cdn.example/x").unwrap(), "https://cdn.example/x");
        assert_eq!(joined(from, "ftp://x"), None);
        let hub = origin("https://hub.example");
        assert!(hub.is_some() && origin("https://HUB.example/a/b") == hub);
        for other in ["http://hub.example/a", "https://hub.example:444/a", "https://hub.example.org/a", "x"] {
            assert_ne!(origin(other), hub, "{other}");
        }
    }

    #[test]
    fn what_is_shown_of_an_address_is_no_secret() {
        assert_eq!(shown("https://cdn/x?Signature=s"), "https://cdn/x");
    }

    #[test]
    fn settings_that_cannot_work_are_refused() {
        let mut settings = Settings::new("/cache");
        for endpoint in ["huggingface.co", "ftp://huggingface.co", "", "https://", "https://a b"] {
            settings.endpoint = endpoint.into();
            let error = Remote::new(&settings).err().expect(endpoint).to_string();
            assert!(error.starts_with("HF_ENDPOINT: ") && error.contains("\nhint: "), "{error}");
        }
        let mut settings = Settings::new("/cache");
        settings.token = Some("hf_a\r\nX: y".into());
        let error = Remote::new(&settings).err().expect("a token of two lines").to_string();
        assert!(error.starts_with("HF_TOKEN: ") && !error.contains("hf_a\r"), "{error}");
    }
}
