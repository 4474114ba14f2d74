//! The special tokens of a tokenizer folder, and how each is looked for in a prompt.

use serde_json::Value;
use tokenizers::AddedToken;

/// The tokens that a prompt is framed, padded and mended with.
pub(crate) struct Specials {
    pub(crate) start: AddedToken,
    pub(crate) end: AddedToken,
    pub(crate) unknown: AddedToken,
    pub(crate) padding: AddedToken,
}

impl Specials {
    /// Reads `tokenizer_config.json` and `special_tokens_map.json`, either of which may be null.
    ///
    /// The map wins where both name a token, as SD 2.x needs, whose padding they tell differently. A config with
    /// `added_tokens_decoder` is of a later kind, which has everything in it: there the map does not count.
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

    /// Every token in the order in which transformers marks them, where the last of one spelling decides how it is
    /// looked for: so `"pad_token": "<|endoftext|>"` makes SD 1.x miss an `<|ENDOFTEXT|>` that SD 2.x sees.
    pub(crate) fn in_order(&self) -> [&AddedToken; 4] {
        [&self.start, &self.end, &self.unknown, &self.padding]
    }
}

/// A token with its flags, or a plain string, which is looked for in exactly that spelling.
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
