//! Weights of words in a prompt, `(word:1.3)`, as AUTOMATIC1111's web interface writes them.
//!
//! The grammar and the numbers are those of `modules/prompt_parser.py` (`parse_prompt_attention`) in
//! <https://github.com/AUTOMATIC1111/stable-diffusion-webui>: `(a)` multiplies the weight of `a` by 1.1, `[a]` divides it
//! by 1.1, `(a:1.3)` multiplies it by 1.3, brackets nest, and `\(` is the bracket itself. It differs in one thing: a
//! bracket that is not closed, or that closes nothing, is an error here and is silently closed or kept there.

use crate::tokenizer::Error;

/// A part of a prompt with one weight.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Part {
    pub(crate) text: String,
    pub(crate) weight: f64,
}

impl From<&str> for Part {
    fn from(text: &str) -> Part {
        Part { text: text.into(), weight: 1.0 }
    }
}

/// What a pair of round brackets without a number multiplies by; square ones divide by it.
const STEP: f64 = 1.1;

/// The text of a prompt without brackets, weights and backslashes, as it is tokenized.
///
/// # Errors
/// A bracket is not closed or closes nothing, or a weight is not a number.
pub fn plain(prompt: &str) -> Result<String, Error> {
    Ok(parse(prompt)?.into_iter().map(|part| part.text).collect())
}

/// An open bracket: the character, its place, and the first part inside it.
type Open = (char, usize, usize);

/// The parts of a prompt. Neighbours have different weights, so a prompt whose weights are all 1 is one part.
pub(crate) fn parse(prompt: &str) -> Result<Vec<Part>, Error> {
    let mut parts: Vec<Part> = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    let mut at = 0;
    while let Some(letter) = prompt[at..].chars().next() {
        let rest = &prompt[at + letter.len_utf8()..];
        let mut width = letter.len_utf8();
        match letter {
            // As there, a backslash before anything but these is left out.
            '\\' => {
                if let Some(next) = rest.chars().next().filter(|next| "()[]\\".contains(*next)) {
                    push(&mut parts, next);
                    width += next.len_utf8();
                }
            }
            '(' | '[' => {
                open.push((letter, at, parts.len()));
                parts.push(Part { text: String::new(), weight: 1.0 });
            }
            ')' => close(prompt, &mut parts, open.pop(), ')', at, STEP)?,
            ']' => close(prompt, &mut parts, open.pop(), ']', at, 1.0 / STEP)?,
            ':' => match number(rest).filter(|_| matches!(open.last(), Some(('(', ..)))) {
                Some((written, read)) => {
                    let weight = written.parse().ok().filter(|weight: &f64| weight.is_finite());
                    let weight = weight.ok_or_else(|| error(prompt, at, format!("{written} is not a number")))?;
                    close(prompt, &mut parts, open.pop(), ')', at, weight)?;
                    width += read;
                }
                None => push(&mut parts, letter),
            },
            _ => push(&mut parts, letter),
        }
        at += width;
    }
    match open.pop() {
        Some((bracket, at, _)) => Err(error(prompt, at, format!("{bracket} is not closed"))),
        None => Ok(merged(parts)),
    }
}

/// Adds a letter to the part that is open.
fn push(parts: &mut Vec<Part>, letter: char) {
    match parts.last_mut() {
        Some(part) => part.text.push(letter),
        None => parts.push(Part { text: letter.into(), weight: 1.0 }),
    }
}

/// Closes a bracket: multiplies the weights of all parts inside it, and begins the part after it.
fn close(
    prompt: &str,
    parts: &mut Vec<Part>,
    open: Option<Open>,
    closing: char,
    at: usize,
    factor: f64,
) -> Result<(), Error> {
    let opening = if closing == ')' { '(' } else { '[' };
    match open {
        Some((bracket, _, first)) if bracket == opening => {
            parts[first..].iter_mut().for_each(|part| part.weight *= factor);
            parts.push(Part { text: String::new(), weight: 1.0 });
            Ok(())
        }
        Some((bracket, before, _)) => {
            let cause = format!("{closing} closes the {bracket} at place {}", place(prompt, before));
            Err(error(prompt, at, cause))
        }
        None => Err(error(prompt, at, format!("{closing} closes nothing"))),
    }
}

/// The number before a closing bracket, as written, and how many bytes it and the bracket take.
fn number(rest: &str) -> Option<(&str, usize)> {
    let end = rest.find(')')?;
    let written = rest[..end].trim();
    let digits = written.strip_prefix(['+', '-']).unwrap_or(written);
    let is_number = !digits.is_empty() && digits.chars().all(|digit| digit == '.' || digit.is_ascii_digit());
    is_number.then_some((written, end + 1))
}

/// The parts without empty ones, and with neighbours of one weight joined.
fn merged(parts: Vec<Part>) -> Vec<Part> {
    let mut merged: Vec<Part> = Vec::new();
    for part in parts.into_iter().filter(|part| !part.text.is_empty()) {
        match merged.last_mut().filter(|last| last.weight == part.weight) {
            Some(last) => last.text.push_str(&part.text),
            None => merged.push(part),
        }
    }
    merged
}

/// The place of a byte in a prompt, counted in characters from 1.
fn place(prompt: &str, at: usize) -> usize {
    prompt[..at].chars().count() + 1
}

fn error(prompt: &str, at: usize, cause: String) -> Error {
    const BESIDE: usize = 12;
    let before: Vec<char> = prompt[..at].chars().collect();
    let near = before[before.len().saturating_sub(BESIDE)..].iter().collect::<String>();
    let near = near + &prompt[at..].chars().take(BESIDE).collect::<String>();
    Error::Weight { place: place(prompt, at), near, cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(prompt: &str) -> Vec<(String, f64)> {
        let rounded = |weight: f64| (weight * 1e6).round() / 1e6;
        parse(prompt).unwrap().into_iter().map(|part| (part.text, rounded(part.weight))).collect()
    }

    fn of(parts: &[(&str, f64)]) -> Vec<(String, f64)> {
        parts.iter().map(|(text, weight)| (text.to_string(), *weight)).collect()
    }

    #[test]
    fn the_examples_of_the_web_interface_have_its_weights() {
        // The docstring of parse_prompt_attention, without the cases of brackets that are not closed.
        assert_eq!(parts("normal text"), of(&[("normal text", 1.0)]));
        assert_eq!(parts("an (important) word"), of(&[("an ", 1.0), ("important", 1.1), (" word", 1.0)]));
        assert_eq!(parts(r"\(literal\]"), of(&[("(literal]", 1.0)]));
        assert_eq!(parts("(unnecessary)(parens)"), of(&[("unnecessaryparens", 1.1)]));
        assert_eq!(
            parts("a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).)"), // there the last bracket is missing
            of(&[
                ("a ", 1.0),
                ("house", 1.573),
                (" ", 1.1),
                ("on", 1.0),
                (" a ", 1.1),
                ("hill", 0.55),
                (", sun, ", 1.1),
                ("sky", 1.4641),
                (".", 1.1)
            ])
        );
    }

    #[test]
    fn what_is_not_a_weight_is_text() {
        assert_eq!(parts("a: 1.3"), of(&[("a: 1.3", 1.0)]));
        assert_eq!(parts("[red:1.3]"), of(&[("red:1.3", 0.909091)]), "only round brackets take a number");
        assert_eq!(parts("(red: -0.5 ) x"), of(&[("red", -0.5), (" x", 1.0)]));
        assert_eq!(parts("(red:1) circle"), of(&[("red circle", 1.0)]), "a weight of 1 changes nothing");
        assert_eq!((parts(""), parts("()")), (Vec::new(), Vec::new()));
        assert_eq!(plain(r"a ((red)) \(x\) [b:c]").unwrap(), "a red (x) b:c");
    }

    #[test]
    fn an_error_names_the_place() {
        for (prompt, place, cause) in [
            ("ü (red", 3, "( is not closed"),
            ("red)", 4, ") closes nothing"),
            ("[red)", 5, ") closes the [ at place 1"),
            ("a (red:1.2.3)", 7, "1.2.3 is not a number"),
            ("a (b [c)]", 8, ") closes the [ at place 6"),
        ] {
            let error = parse(prompt).unwrap_err().to_string();
            assert!(error.starts_with(&format!("prompt: {cause}, at place {place}, near ")), "{error}");
            assert!(error.contains("\nhint: "), "{error}");
        }
    }
}
