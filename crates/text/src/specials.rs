//! The special and added tokens of a tokenizer folder, and how each is found in a prompt.
//!
//! Everything is as transformers 5 reads these files (`PreTrainedTokenizerBase._from_pretrained`), because what a
//! diffusers pipeline feeds to its text encoder is read by it.

use serde_json::Value;
use std::collections::BTreeMap;
use tokenizers::AddedToken;

/// The tokens for start, end, padding and unknown text, and those that were added to the vocabulary.
pub(crate) struct Specials {
    pub(crate) start: AddedToken,
    pub(crate) end: AddedToken,
    pub(crate) unknown: AddedToken,
    pub(crate) padding: AddedToken,
    /// The added tokens by the ids that the files give them.
    pub(crate) added: BTreeMap<u32, AddedToken>,
    /// The name of the file that has their ids.
    pub(crate) source: &'static str,
    /// Tokens that the files name without an id.
    pub(crate) extra: Vec<AddedToken>,
}

/// The contents of a folder's files; each may be null.
pub(crate) struct Files<'a> {
    /// `tokenizer_config.json`.
    pub(crate) config: &'a Value,
    /// `special_tokens_map.json`.
    pub(crate) map: &'a Value,
    /// `added_tokens.json`.
    pub(crate) added: &'a Value,
    /// `added_tokens` of `tokenizer.json`.
    pub(crate) whole: &'a Value,
}

/// The names of the special tokens that are used here. transformers has three more, for other models.
const NAMES: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

impl Specials {
    /// Reads the special tokens.
    ///
    /// Where both the config and the map name a token, the map is used: SD 2.x needs this for its padding. A config with
    /// `added_tokens_decoder` is of a later format and complete: then no other file is used.
    pub(crate) fn read(files: &Files) -> Specials {
        let Files { config, map, .. } = files;
        let listed = config["added_tokens_decoder"].as_object();
        let named = |name: &str| {
            let places = if listed.is_some() { [&config[name], &Value::Null] } else { [&map[name], &config[name]] };
            places.into_iter().find_map(read)
        };
        let added = match listed {
            Some(listed) => listed.iter().filter_map(|(id, token)| Some((id.parse().ok()?, full(token)?))).collect(),
            None => legacy(files, &NAMES.iter().copied().filter_map(named).collect::<Vec<_>>()),
        };
        let token = |name: &str, default: &str| {
            let token = named(name).unwrap_or_else(|| AddedToken::from(default, true));
            added.values().find(|it| it.content == token.content).cloned().unwrap_or(token)
        };
        const END: &str = "<|endoftext|>";
        Specials {
            start: token("bos_token", "<|startoftext|>"),
            end: token("eos_token", END),
            unknown: token("unk_token", END),
            padding: token("pad_token", END),
            extra: extra(files, listed.is_some()),
            source: match (listed, files.added) {
                (Some(_), _) => "tokenizer_config.json",
                (None, Value::Null) => "tokenizer.json",
                (None, _) => "added_tokens.json",
            },
            added,
        }
    }

    /// Every named token in the order in which transformers adds them. Of tokens with the same text the last decides how
    /// it is found: because of `"pad_token": "<|endoftext|>"`, SD 1.x does not find `<|ENDOFTEXT|>` and SD 2.x does.
    pub(crate) fn in_order(&self) -> [&AddedToken; 4] {
        [&self.start, &self.end, &self.unknown, &self.padding]
    }
}

/// The added tokens of a folder whose config does not list them: those of `added_tokens.json`, and those of
/// `tokenizer.json`. A token is found in any case unless it is special.
fn legacy(files: &Files, named: &[AddedToken]) -> BTreeMap<u32, AddedToken> {
    let of_config = extra(&Files { map: &Value::Null, ..*files }, false);
    let is_special = |content: &str| named.iter().chain(&of_config).any(|token| token.content == content);
    let by_name = files.added.as_object().into_iter().flatten();
    let by_name = by_name.filter_map(|(content, id)| {
        let special = is_special(content);
        Some((u32::try_from(id.as_u64()?).ok()?, AddedToken::from(content.as_str(), special).normalized(!special)))
    });
    let whole = files.whole.as_array().into_iter().flatten();
    let whole = whole.filter_map(|token| Some((u32::try_from(token["id"].as_u64()?).ok()?, full(token)?)));
    by_name.chain(whole).collect()
}

/// The tokens that are special and have no name: `extra_special_tokens`, which was `additional_special_tokens` before
/// transformers 5.
fn extra(files: &Files, is_listed: bool) -> Vec<AddedToken> {
    let list = |value: &Value| value.as_array().into_iter().flatten().filter_map(read).collect::<Vec<_>>();
    let Files { config, map, .. } = files;
    let mut found = list(&config["extra_special_tokens"]);
    if found.is_empty() {
        found = list(&config["additional_special_tokens"]);
    }
    if !is_listed {
        found.extend(list(&map["extra_special_tokens"]));
        if found.is_empty() {
            found = list(&map["additional_special_tokens"]);
        }
    }
    found
}

/// A special token with its flags, or a plain string, which is found only in exactly this spelling.
fn read(value: &Value) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true));
    }
    Some(flagged(value, AddedToken::from(value["content"].as_str()?, true)))
}

/// A token that says itself whether it is special.
fn full(value: &Value) -> Option<AddedToken> {
    let special = value["special"].as_bool().unwrap_or(false);
    Some(flagged(value, AddedToken::from(value["content"].as_str()?, special)))
}

/// A token with the flags that a file gives it.
fn flagged(value: &Value, token: AddedToken) -> AddedToken {
    let flag = |name: &str, default| value[name].as_bool().unwrap_or(default);
    let normalized = flag("normalized", token.normalized);
    token
        .normalized(normalized)
        .lstrip(flag("lstrip", false))
        .rstrip(flag("rstrip", false))
        .single_word(flag("single_word", false))
}
