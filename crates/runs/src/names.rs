//! What to say of a name that is not known.

/// A hint on a line of its own: the name that was probably meant, or all that there are.
pub fn hint<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    let likeness = known.iter().map(|known| (strsim::jaro_winkler(known, name), known));
    match likeness.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((likeness, near)) if likeness > 0.75 => format!("hint: did you mean {near}?"),
        _ => format!("hint: there are {}", known.join(", ")),
    }
}
