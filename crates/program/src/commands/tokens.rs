//! `latentrace tokens`: what each text encoder is given of a prompt.

use crate::arguments::{ChoiceArguments, EmbeddingArguments, TextArguments, shown};
use crate::headings;
use crate::printer::line;
use anyhow::Result;
use clap::Arg;
use latentrace::files::counted;
use latentrace::pipeline::{LongPrompts, Tokenizer, Tokens, plain, tokenizers};
use latentrace::runs::bundled;
use latentrace::text::Form;
use latentrace::trace::Prompt;
use serde_json::{Value, json};
use std::path::PathBuf;

/// Show the tokens of a prompt, and what does not fit
///
/// The place, id and word of each token, and the padding.
#[derive(clap::Args)]
#[command(mut_args(shown_here))]
pub struct Tokenize {
    /// The prompt
    #[arg(allow_hyphen_values = true)]
    prompt: String,
    /// A folder, a .safetensors file or a hub id [default: the bundled model]
    #[arg(long, value_name = "MODEL", help_heading = headings::MODEL)]
    model: Option<PathBuf>,
    #[command(flatten)]
    choice: ChoiceArguments,
    #[command(flatten)]
    embeddings: EmbeddingArguments,
    #[command(flatten)]
    text: TextArguments,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// The options that are hidden elsewhere, and that this command is about.
fn shown_here(option: Arg) -> Arg {
    match option.get_id().as_str() {
        "weights" | "long_prompts" => shown(option),
        _ => option,
    }
}

/// One place of the text encoder's input.
struct Row {
    place: usize,
    id: i64,
    /// As the vocabulary has it.
    token: String,
    /// As written in the prompt; empty for start and end.
    piece: String,
    /// The word of the prompt that it belongs to.
    word: String,
    weight: f64,
}

impl Tokenize {
    /// Prints the tokens.
    pub fn run(self) -> Result<()> {
        let place = self.model.map_or_else(bundled, Ok)?;
        let checkpoint = self.choice.open_with(&place, &self.embeddings)?;
        let tokenizers = tokenizers(&checkpoint)?;
        let weights = self.text.weights.unwrap_or(false);
        let chunks = matches!(self.text.long_prompts.map(LongPrompts::from), Some(LongPrompts::Chunks));
        let form = Form { weights, chunks };
        let mut all = tokenizers.iter().map(|own| own.encode_as(&self.prompt, form)).collect::<Result<Vec<_>, _>>()?;
        // Two tokenizers may need different numbers of chunks, and the shorter text gets some without text.
        let longest = all.iter().map(|tokens| tokens.ids.len()).max().unwrap_or(0);
        tokenizers.iter().zip(&mut all).for_each(|(own, tokens)| own.fill(tokens, longest));
        let text = if weights { plain(&self.prompt)? } else { self.prompt.clone() };
        let told = checkpoint.texts.iter().zip(&tokenizers).zip(&all).map(|((part, tokenizer), tokens)| Told {
            name: part.tokenizer_name(),
            encoder: part.encoder.name(),
            tokenizer,
            tokens,
            rows: rows(tokenizer, &text, tokens),
        });
        let told: Vec<Told> = told.collect();
        match self.json {
            true => line!("{}", all_as_json(&told)),
            false => print_all(&told),
        }
        Ok(())
    }
}

/// Prints what each text encoder is given. Where there are several, each has its names above it.
fn print_all(all: &[Told]) {
    for (index, told) in all.iter().enumerate() {
        if index > 0 {
            line!("");
        }
        if all.len() > 1 {
            line!("{}, of {}", told.name, told.encoder);
        }
        told.print();
    }
}

/// What the text encoder is given; of several, an object of them by the names of their tokenizers.
fn all_as_json(all: &[Told]) -> Value {
    match all {
        [only] => only.as_json(),
        _ => Value::Object(all.iter().map(|told| (told.name.to_owned(), told.as_json())).collect()),
    }
}

/// What a text encoder is given.
struct Told<'a> {
    /// The name of the tokenizer.
    name: &'static str,
    /// The name of its text encoder.
    encoder: &'static str,
    tokenizer: &'a Tokenizer,
    tokens: &'a Tokens,
    rows: Vec<Row>,
}

/// Every place up to the end token; after it there is only padding.
fn rows(tokenizer: &Tokenizer, text: &str, tokens: &Tokens) -> Vec<Row> {
    let words = Prompt::new(text, &tokens.pieces).words();
    let word = |place: usize| {
        let of = words.iter().find(|(_, places)| places.contains(&(place as i64)));
        of.map(|(word, _)| word.clone()).unwrap_or_default()
    };
    let row = |(place, &id): (usize, &i64)| {
        let word = word(place);
        let piece = place.checked_sub(1).and_then(|index| tokens.pieces.get(index)).filter(|_| !word.is_empty());
        Row {
            place,
            id,
            token: tokenizer.token(id).unwrap_or_default(),
            piece: piece.cloned().unwrap_or_default(),
            word,
            weight: tokens.weights.get(place).copied().unwrap_or(1.0),
        }
    };
    tokens.ids.iter().enumerate().take(tokens.pieces.len() + 2).map(row).collect()
}

impl Told<'_> {
    fn print(&self) {
        let Told { tokenizer, tokens, rows, .. } = self;
        let widest =
            |name: &str, of: &dyn Fn(&Row) -> usize| rows.iter().map(of).chain([name.len()]).max().unwrap_or(0);
        let (ids, names) =
            (widest("id", &|row| row.id.to_string().len()), widest("token", &|row| row.token.chars().count()));
        let pieces = widest("piece", &|row| row.piece.chars().count());
        line!("{:>5}  {:>ids$}  {:names$}  {:pieces$}  word", "place", "id", "token", "piece");
        for Row { place, id, token, piece, word, weight } in rows {
            let weight = if *weight == 1.0 { String::new() } else { format!("  x {weight:.3}") };
            let line = format!("{place:>5}  {id:>ids$}  {token:names$}  {piece:pieces$}  {word}{weight}");
            line!("{}", line.trim_end());
        }
        let (own, padding, chunks) = (own(rows), padding(tokens, rows), tokens.ids.len() / tokenizer.length());
        let token = tokenizer.token(tokenizer.padding().into()).unwrap_or_default();
        line!("");
        line!("{} in {} of {}", counted(own, "token"), counted(chunks, "chunk"), tokenizer.length());
        line!("{padding} of padding: {token}, the id {}", tokenizer.padding());
        if !tokens.lost.is_empty() {
            line!("cut, because it does not fit: {}", tokens.lost);
        }
    }

    fn as_json(&self) -> Value {
        let Told { tokenizer, tokens, rows, .. } = self;
        let row = |Row { place, id, token, piece, word, weight }: &Row| json!({ "place": place, "id": id, "token": token, "piece": piece, "word": word, "weight": weight });
        json!({
            "tokens": rows.iter().map(row).collect::<Vec<_>>(), "count": own(rows), "length": tokenizer.length(),
            "chunks": tokens.ids.len() / tokenizer.length(), "padding": padding(tokens, rows),
            "padding_id": tokenizer.padding(), "cut": tokens.lost,
        })
    }
}

/// The number of tokens of the prompt itself.
fn own(rows: &[Row]) -> usize {
    rows.iter().filter(|row| !row.word.is_empty()).count()
}

fn padding(tokens: &Tokens, rows: &[Row]) -> usize {
    tokens.ids.len() - rows.len()
}
