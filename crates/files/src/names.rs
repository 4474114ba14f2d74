//! Names that are not known, and names for files.

/// The line to add to an error about a name that is not known: the most similar known name, or all of them if none is
/// similar.
///
/// ```
/// use latentrace_files::hint;
/// assert_eq!(hint("eular", ["euler", "pndm"]), "hint: did you mean euler?");
/// assert_eq!(hint("x", ["euler", "pndm"]), "hint: there are euler, pndm");
/// ```
pub fn hint<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match near(name, known.iter().copied()) {
        Some(nearest) => format!("hint: did you mean {nearest}?"),
        None => format!("hint: there are {}", known.join(", ")),
    }
}

/// The most similar known name, if one is similar enough to be meant.
pub fn near<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let similar = known.into_iter().map(|known| (strsim::jaro_winkler(known, name), known));
    let nearest = similar.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(similarity, _)| *similarity > SIMILAR);
    nearest.map(|(_, nearest)| nearest)
}

/// A number of things, in the singular or the plural.
///
/// ```
/// use latentrace_files::counted;
/// assert_eq!((counted(1, "tap"), counted(2, "tap")), ("1 tap".into(), "2 taps".into()));
/// ```
pub fn counted(count: usize, thing: &str) -> String {
    let ending = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{ending}")
}

/// The Jaro-Winkler similarity above which a name is taken for a misspelling of another.
const SIMILAR: f64 = 0.75;

/// A label as the first part of a file name: its letters and digits of every script in lower case, full stops, and the
/// minus of a number, with one hyphen for everything between them, and a hyphen at the end. Empty if nothing is left.
pub fn slug(label: &str) -> String {
    let mut slug = String::new();
    let mut before = ' ';
    let mut letters = label.chars().flat_map(char::to_lowercase).peekable();
    while let Some(letter) = letters.next() {
        let is_sign = letter == '-' && !is_kept(before) && letters.peek().is_some_and(|next| next.is_numeric());
        if is_kept(letter) || is_sign {
            if !slug.is_empty() && !is_kept(before) {
                slug.push('-');
            }
            slug.push(letter);
        }
        before = if is_sign { '0' } else { letter };
    }
    let mut slug: String = slug.chars().take(MOST_LETTERS).collect();
    while slug.len() > MOST_BYTES {
        slug.pop();
    }
    if !slug.is_empty() {
        slug.push('-');
    }
    slug
}

const MOST_LETTERS: usize = 60;
/// A file name can have 255 bytes, and more follows the slug.
const MOST_BYTES: usize = 160;

/// Whether a slug keeps a letter. A combining accent belongs to the letter before it.
fn is_kept(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '.' || ('\u{300}'..='\u{36f}').contains(&letter)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_keep_what_differs() {
        for (label, name) in [
            ("A Cat, <b>", "a-cat-b-"),
            ("guidance -2.5, seed 7", "guidance--2.5-seed-7-"),
            ("guidance 2.5", "guidance-2.5-"),
            ("8 for sigma 0.3 to 5", "8-for-sigma-0.3-to-5-"),
            ("state-of-the-art", "state-of-the-art-"),
            ("ein grünes Schiff", "ein-grünes-schiff-"),
            ("赤い円", "赤い円-"),
            ("Kra\u{301}l", "kra\u{301}l-"),
            ("???", ""),
            ("../x", "..-x-"),
        ] {
            assert_eq!(slug(label), name, "{label}");
        }
        let long = slug(&"赤い".repeat(100));
        assert!(long.len() <= MOST_BYTES + 1, "{} bytes", long.len());
    }

    #[test]
    fn a_hint_names_what_is_near_or_all_there_is() {
        let known = ["prompt", "guidance", "seed"];
        assert_eq!(hint("guidence", known), "hint: did you mean guidance?");
        assert_eq!(hint("x", known), "hint: there are prompt, guidance, seed");
        assert_eq!(hint("x", []), "hint: there are ");
    }

    proptest! {
        #[test]
        fn a_slug_is_one_part_of_a_path(label in any::<String>()) {
            let slug = slug(&label);
            prop_assert!(slug.chars().all(|letter| is_kept(letter) || letter == '-'), "{slug:?}");
            prop_assert!(slug.is_empty() || slug.ends_with('-'), "{slug:?}");
            prop_assert!(slug.len() <= MOST_BYTES + 1);
            // Neither `.` nor `..`, which are folders; a following name has no separator either.
            let name = format!("{slug}0");
            prop_assert_eq!(std::path::Path::new(&name).components().count(), 1);
        }

        #[test]
        fn a_label_with_a_letter_or_digit_has_a_slug(
            before in any::<String>(), letter in "[a-z0-9äж円]", after in any::<String>()
        ) {
            let label = format!("{before}{letter}{after}");
            prop_assert!(!slug(&label).is_empty());
        }
    }
}
