//! The syntax of reductions and edits: `name(argument, ..)`.

/// A name and its arguments.
#[derive(Debug, PartialEq)]
pub(crate) struct Call<'a> {
    pub(crate) name: &'a str,
    pub(crate) arguments: Vec<&'a str>,
}

impl<'a> Call<'a> {
    /// Reads `name` or `name(a, b)`.
    pub(crate) fn parse(text: &'a str) -> Option<Call<'a>> {
        let text = text.trim();
        let (name, arguments) = match text.split_once('(') {
            None => (text, Vec::new()),
            Some((name, rest)) => (name, rest.strip_suffix(')')?.split(',').map(str::trim).collect()),
        };
        let plain = !name.is_empty() && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        (plain && arguments.iter().all(|argument| !argument.is_empty())).then_some(Call { name, arguments })
    }

    /// The only argument, as a number.
    pub(crate) fn number<T: std::str::FromStr>(&self) -> Option<T> {
        match self.arguments.as_slice() {
            [one] => one.parse().ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_and_what_it_is_given() {
        assert_eq!(Call::parse(" down(32) ").unwrap().number::<i64>(), Some(32));
        assert_eq!(Call::parse("tokens(a, b)").unwrap().arguments, ["a", "b"]);
        assert_eq!(Call::parse("stats").unwrap().arguments.len(), 0);
        for bad in ["", "a(", "a(1", "a()", "a b", "a(1,)"] {
            assert_eq!(Call::parse(bad), None, "{bad}");
        }
    }
}
