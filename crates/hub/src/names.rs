//! Names that come from outside and become paths and addresses: revisions, and files as the server names them.

use crate::{Error, Result};
use std::fmt::Write;

/// The branch, tag or commit of a model. Checked, so that `refs/<revision>` stays below `refs`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Revision(String);

impl Revision {
    /// Checks a revision by the rules that git has for names of branches and tags.
    pub(crate) fn parse(text: &str) -> Result<Revision> {
        let fail = |cause| Error::RevisionName { revision: text.to_owned(), cause };
        path(text).map_err(fail)?;
        if text.contains(|letter: char| " ~^:?*[".contains(letter)) || text.contains("..") {
            return Err(fail("it has a space, .., or one of ~^:?*["));
        }
        if text.split('/').any(|part| part.starts_with('.')) {
            return Err(fail("a part of it begins with a full stop"));
        }
        Ok(Revision(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a whole commit, which never means anything else and so has no file in `refs`.
    pub(crate) fn is_commit(&self) -> bool {
        is_hex(&self.0, 40)
    }
}

/// Whether a text is a number of so many digits in lower-case hexadecimal, as git and the hub write hashes.
pub(crate) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// The longest name of a file that common file systems have.
const MOST_BYTES: usize = 255;

/// Checks that a relative path with slashes stays below its folder, and can be the name of a file.
pub(crate) fn path(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        _ if name.contains('\\') => Err("it has a backslash"),
        _ if name.contains(char::is_control) => Err("it has a control character"),
        _ if name.starts_with('/') => Err("it begins with a slash"),
        _ if name.split('/').any(str::is_empty) => Err("a part of it is empty"),
        _ if name.split('/').any(|part| part == "." || part == "..") => Err("a part of it is . or .."),
        _ if name.split('/').any(|part| part.len() > MOST_BYTES) => Err("a part of it has more than 255 bytes"),
        _ => Ok(()),
    }
}

/// A revision as one part of an address.
pub(crate) fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'_' | b'.' | b'~' => escaped.push(byte as char),
            _ => {
                let _ = write!(escaped, "%{byte:02X}"); // writing to a String does not fail
            }
        }
    }
    escaped
}

/// A file's name as the end of an address, with its slashes.
pub(crate) fn escaped_path(name: &str) -> String {
    name.split('/').map(escaped).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::path::{Component, Path};

    #[test]
    fn files_that_would_leave_their_folder_are_refused() {
        for good in ["model_index.json", "unet/diffusion_pytorch_model.safetensors", "a b/ü", "..a", "a/..b", ".x"] {
            assert_eq!(path(good), Ok(()), "{good}");
        }
        let long = "a".repeat(256);
        for bad in
            ["", "/etc/passwd", "../x", "a/../../x", "a/..", ".", "a/./b", "a//b", "a/", "a\\b", "a\0b", "a\nb", &long]
        {
            assert!(path(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn revisions_follow_the_rules_of_git() {
        for good in ["main", "fp16", "refs/pr/1", "v1.0", "feature/a-b", "39593d5650112b4cc580433f6b0435385882d819"] {
            assert_eq!(Revision::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "..", "../main", "a/../b", "/a", "a//b", "a b", ".a", "a/.b", "a\\b", "a:b", "a\0"] {
            let error = Revision::parse(bad).unwrap_err().to_string();
            assert!(error.contains("not a revision: ") && error.contains("\nhint: "), "{bad:?}: {error}");
        }
        let commit = "39593d5650112b4cc580433f6b0435385882d819";
        assert!(Revision::parse(commit).unwrap().is_commit());
        for other in ["main", &commit[1..], &commit.to_uppercase()] {
            assert!(!Revision::parse(other).unwrap().is_commit(), "{other}");
        }
    }

    #[test]
    fn addresses_are_escaped() {
        assert_eq!(escaped("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(escaped_path("a b/ü?#%.json"), "a%20b/%C3%BC%3F%23%25.json");
    }

    proptest! {
        #[test]
        fn no_name_leaves_its_folder(text in "[ab./\\\\\0]{0,12}|\\PC{0,12}") {
            if path(&text).is_ok() {
                let parts: Vec<Component> = Path::new(&text).components().collect();
                prop_assert!(parts.iter().all(|part| matches!(part, Component::Normal(_))), "{text:?}");
                prop_assert_eq!(parts.len(), text.split('/').count());
            }
            if Revision::parse(&text).is_ok() {
                prop_assert!(path(&text).is_ok());
            }
        }

        #[test]
        fn an_escaped_name_has_only_what_an_address_may_have(text in any::<String>()) {
            let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.~%".contains(letter);
            prop_assert!(escaped(&text).chars().all(plain));
            prop_assert!(escaped_path(&text).chars().all(|letter| plain(letter) || letter == '/'));
        }
    }
}
