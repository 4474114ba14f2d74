//! Where the cache and the hub are, and who asks: given, or read from the environment as Python does.

use crate::{Error, Result};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The hub that everybody uses.
pub const HUGGING_FACE: &str = "https://huggingface.co";

/// Everything that a [`Hub`](crate::Hub) needs to know.
#[derive(Clone, PartialEq)]
pub struct Settings {
    /// The folder of the cache, such as `~/.cache/huggingface/hub`. It is made when something is downloaded.
    pub cache: PathBuf,
    /// The address of the hub, such as [`HUGGING_FACE`].
    pub endpoint: String,
    /// The token that is sent to this address, and to no other.
    pub token: Option<String>,
    /// Whether only the cache may be used. Then no connection is opened.
    pub offline: bool,
    /// A file of the PEM certificates to trust, if not those of Mozilla.
    pub certificates: Option<PathBuf>,
    /// How long to wait and how often to try.
    pub patience: Patience,
}

/// How long to wait for the hub, and how often to try again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Patience {
    /// How often one thing is tried in a row without any progress; at least once.
    pub tries: u32,
    /// The pause after the first failure. It doubles with each further one, up to [`Patience::longest`].
    pub pause: Duration,
    /// The longest pause of our own.
    pub longest: Duration,
    /// The longest pause that the hub can ask for. If it asks for more, that is an error.
    pub asked: Duration,
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long nothing may come over a connection.
    pub stall: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        let seconds = Duration::from_secs;
        Patience {
            tries: 5,
            pause: seconds(1),
            longest: seconds(16),
            asked: seconds(300), // the hub counts requests in windows of five minutes
            connect: seconds(10),
            stall: seconds(30),
        }
    }
}

impl Settings {
    /// A cache, the hub of Hugging Face, and no token.
    pub fn new(cache: impl Into<PathBuf>) -> Settings {
        Settings {
            cache: cache.into(),
            endpoint: HUGGING_FACE.into(),
            token: None,
            offline: false,
            certificates: None,
            patience: Patience::default(),
        }
    }

    /// What the environment says, read as Python's `huggingface_hub` reads it. `get` gives the value of a variable.
    ///
    /// - the cache: `HF_HUB_CACHE`, or `HUGGINGFACE_HUB_CACHE`, or `hub` in `HF_HOME`, or `huggingface/hub` in
    ///   `XDG_CACHE_HOME`, or `~/.cache/huggingface/hub`. A leading `~` is the home folder.
    /// - the address: `HF_ENDPOINT`.
    /// - the token: `HF_TOKEN`, or `HUGGING_FACE_HUB_TOKEN`, or the file that `HF_TOKEN_PATH` names, or `token` in
    ///   `HF_HOME`. None with `HF_HUB_DISABLE_IMPLICIT_TOKEN`.
    /// - offline: `HF_HUB_OFFLINE` or `TRANSFORMERS_OFFLINE`.
    /// - the certificates: `SSL_CERT_FILE` or `REQUESTS_CA_BUNDLE`.
    ///
    /// A proxy is taken from `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` of the process when a hub is made.
    ///
    /// A variable that is empty counts as not set. True is `1`, `on`, `yes` or `true`.
    ///
    /// # Errors
    /// If no folder is known because there is no `HOME`, or the file of the token cannot be read.
    pub fn from_env(get: impl Fn(&str) -> Option<OsString>) -> Result<Settings> {
        let environment = Environment { get };
        let mut settings = Settings::new(environment.cache()?);
        if let Some(endpoint) = environment.text("HF_ENDPOINT") {
            settings.endpoint = endpoint;
        }
        if !environment.is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            settings.token = environment.token()?;
        }
        settings.offline = environment.is_true("HF_HUB_OFFLINE") || environment.is_true("TRANSFORMERS_OFFLINE");
        let certificates = environment.path("SSL_CERT_FILE").or_else(|| environment.path("REQUESTS_CA_BUNDLE"));
        settings.certificates = certificates.transpose()?;
        Ok(settings)
    }
}

/// The token is a secret: what is printed says only whether there is one.
impl fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Settings { cache, endpoint, token, offline, certificates, patience } = self;
        let token = token.as_ref().map(|_| "(hidden)");
        formatter
            .debug_struct("Settings")
            .field("cache", cache)
            .field("endpoint", endpoint)
            .field("token", &token)
            .field("offline", offline)
            .field("certificates", certificates)
            .field("patience", patience)
            .finish()
    }
}

struct Environment<F> {
    get: F,
}

impl<F: Fn(&str) -> Option<OsString>> Environment<F> {
    fn value(&self, name: &str) -> Option<OsString> {
        (self.get)(name).filter(|value| !value.is_empty())
    }

    fn text(&self, name: &str) -> Option<String> {
        self.value(name).map(|value| value.to_string_lossy().trim().to_owned()).filter(|value| !value.is_empty())
    }

    fn is_true(&self, name: &str) -> bool {
        let value = self.text(name).map(|value| value.to_uppercase());
        value.is_some_and(|value| ["1", "ON", "YES", "TRUE"].contains(&value.as_str()))
    }

    fn path(&self, name: &str) -> Option<Result<PathBuf>> {
        self.value(name).map(|value| self.expanded(value.as_ref()))
    }

    /// A path in which a leading `~` is the home folder: no shell has replaced it in a file of settings.
    fn expanded(&self, path: &Path) -> Result<PathBuf> {
        match path.strip_prefix("~") {
            Ok(rest) => Ok(self.user()?.join(rest)),
            Err(_) => Ok(path.to_owned()),
        }
    }

    fn user(&self) -> Result<PathBuf> {
        self.value("HOME").map(PathBuf::from).ok_or_else(|| Error::Setting {
            name: "HOME",
            cause: "not set, so the folder of the cache is not known".into(),
            hint: "set HF_HUB_CACHE to the folder of the cache",
        })
    }

    fn home(&self) -> Result<PathBuf> {
        if let Some(home) = self.path("HF_HOME") {
            return home;
        }
        let caches = self.path("XDG_CACHE_HOME").unwrap_or_else(|| Ok(self.user()?.join(".cache")));
        Ok(caches?.join("huggingface"))
    }

    fn cache(&self) -> Result<PathBuf> {
        let named = self.path("HF_HUB_CACHE").or_else(|| self.path("HUGGINGFACE_HUB_CACHE"));
        named.unwrap_or_else(|| Ok(self.home()?.join("hub")))
    }

    fn token(&self) -> Result<Option<String>> {
        if let Some(token) = self.text("HF_TOKEN").or_else(|| self.text("HUGGING_FACE_HUB_TOKEN")) {
            return Ok(Some(token));
        }
        let Some(file) = self.token_file() else { return Ok(None) };
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|token| !token.is_empty())),
            Err(cause) if cause.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(Error::reading(&file)(cause)),
        }
    }

    /// None if there is no home folder: then there is nobody who could have logged in.
    fn token_file(&self) -> Option<PathBuf> {
        self.path("HF_TOKEN_PATH").unwrap_or_else(|| Ok(self.home()?.join("token"))).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Settings> {
        Settings::from_env(|name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| value.into()))
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        read(variables).unwrap().cache.display().to_string()
    }

    #[test]
    fn the_cache_is_where_python_has_it() {
        let all = [
            ("HF_HUB_CACHE", "/1"),
            ("HUGGINGFACE_HUB_CACHE", "/2"),
            ("HF_HOME", "/3"),
            ("XDG_CACHE_HOME", "/4"),
            ("HOME", "/5"),
        ];
        let expected = ["/1", "/2", "/3/hub", "/4/huggingface/hub", "/5/.cache/huggingface/hub"];
        for (from, expected) in expected.iter().enumerate() {
            assert_eq!(cache(&all[from..]), *expected);
        }
        assert_eq!(cache(&[("HF_HUB_CACHE", ""), ("HF_HOME", "~/models"), ("HOME", "/home/a")]), "/home/a/models/hub");
        let error = read(&[]).unwrap_err().to_string();
        assert_eq!(
            error,
            "HOME: not set, so the folder of the cache is not known\nhint: set HF_HUB_CACHE to the folder of the cache"
        );
    }

    #[test]
    fn the_token_is_the_one_that_python_sends() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let token = |more: &[(&str, &str)]| read(&[&[("HF_HOME", home)], more].concat()).unwrap().token;
        assert_eq!(token(&[]), None);
        std::fs::write(folder.path().join("token"), " in-home\n").unwrap();
        std::fs::write(folder.path().join("other"), "other\n").unwrap();
        assert_eq!(token(&[]).unwrap(), "in-home");
        let other = folder.path().join("other");
        assert_eq!(token(&[("HF_TOKEN_PATH", other.to_str().unwrap())]).unwrap(), "other");
        assert_eq!(token(&[("HUGGING_FACE_HUB_TOKEN", "older")]).unwrap(), "older");
        assert_eq!(token(&[("HF_TOKEN", " new\n"), ("HUGGING_FACE_HUB_TOKEN", "older")]).unwrap(), "new");
        assert_eq!(token(&[("HF_TOKEN", "new"), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn offline_and_the_address_are_read() {
        for (value, offline) in [("1", true), ("on", true), ("True", true), ("YES", true), ("0", false), ("no", false)]
        {
            let settings = read(&[("HOME", "/"), ("HF_HUB_OFFLINE", value)]).unwrap();
            assert_eq!((settings.offline, settings.endpoint.as_str()), (offline, HUGGING_FACE), "{value}");
        }
        let settings = read(&[("HOME", "/"), ("HF_ENDPOINT", "https://hub.example/")]).unwrap();
        assert_eq!((settings.endpoint.as_str(), settings.certificates), ("https://hub.example/", None));
        let bundles = [("HOME", "/a"), ("SSL_CERT_FILE", "~/1"), ("REQUESTS_CA_BUNDLE", "/2")];
        assert_eq!(read(&bundles).unwrap().certificates.unwrap(), Path::new("/a/1"));
        assert_eq!(read(&[bundles[0], bundles[2]]).unwrap().certificates.unwrap(), Path::new("/2"));
    }

    #[test]
    fn a_token_is_never_printed() {
        let mut settings = Settings::new("/cache");
        settings.token = Some("hf_secret".into());
        let printed = format!("{settings:?}");
        assert!(!printed.contains("hf_secret") && printed.contains("hidden"), "{printed}");
    }
}
