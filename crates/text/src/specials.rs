//! The special tokens of a tokenizer folder, and how each is found in a prompt.

use serde_json::Value;
use tokenizers::AddedToken;

/// The tokens for start, end, padding and unknown text.
pub(crate) struct Specials {
    pub(crate) start: AddedToken,
    pub(crate) end: AddedToken,
    pub(crate) unknown: AddedToken,
    pub(crate) padding: AddedToken,
}

impl Specials {
    /// Reads `tokenizer_config.json` and `special_tokens_map.json`, either of which may be null.
    ///
    /// Where both name a token, the map is used: SD 2.x needs this for its padding. A config with
    /// `added_tokens_decoder` is of a later format and complete: then the map is not used.
    pub(crate) fn read(config: &Value, map: &Value) -> Specials {
        let listed = config["added_tokens_decoder"].as_object();
        let token = |name: &str, default: &str| {
            let places = if listed.is_some() { [&config[name], &Value::Null] } else { [&map[name], &config[name]] };
            let token = places.into_iter().find_map(read).unwrap_or_else(|| AddedToken::from(default, true));
            let listed = listed.and_then(|list| list.values().filter_map(read).find(|it| it.content == token.content));
            listed.unwrap_or(token)
        };
        const END: &str = "<|endoftext|>";
        Specials {
            start: token("bos_token", "<|startoftext|>"),
            end: token("eos_token", END),
            unknown: token("unk_token", END),
            padding: token("pad_token", END),
        }
    }

    /// Every token in the order in which transformers adds them. Of tokens with the same text the last decides how it
    /// is found: because of `"pad_token": "<|endoftext|>"`, SD 1.x does not find `<|ENDOFTEXT|>` and SD 2.x does.
    pub(crate) fn in_order(&self) -> [&AddedToken; 4] {
        [&self.start, &self.end, &self.unknown, &self.padding]
    }
}

/// A token with its flags, or a plain string, which is found only in exactly this spelling.
fn read(value: &Value) -> Option<AddedToken> {
    if let Some(content) = value.as_str() {
        return Some(AddedToken::from(content, true));
    }
    let flag = |name: &str, default| value[name].as_bool().unwrap_or(default);
    let token = AddedToken::from(value["content"].as_str()?, true);
    Some(
        token
            .normalized(flag("normalized", false))
            .lstrip(flag("lstrip", false))
            .rstrip(flag("rstrip", false))
            .single_word(flag("single_word", false)),
    )
}
