//! Tables of comma-separated values (RFC 4180), with a line feed at the end of each row.

use crate::{Error, Field, replace};
use csv_core::{QuoteStyle, Writer, WriterBuilder};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// A table with named columns.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<Field>,
    rows: Vec<Vec<Field>>,
}

impl Table {
    /// A table without rows.
    pub fn new<Name: Into<Field>>(columns: impl IntoIterator<Item = Name>) -> Table {
        Table { columns: columns.into_iter().map(Into::into).collect(), rows: Vec::new() }
    }

    /// Adds a row. [`fields!`](crate::fields) makes one of values of different types.
    ///
    /// # Panics
    /// If there is not one field for each column.
    pub fn row<Value: Into<Field>>(&mut self, fields: impl IntoIterator<Item = Value>) -> &mut Table {
        let row: Vec<Field> = fields.into_iter().map(Into::into).collect();
        assert_eq!(row.len(), self.columns.len(), "a field for each of {:?}", self.columns().collect::<Vec<_>>());
        self.rows.push(row);
        self
    }

    /// The names of the columns.
    pub fn columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(Field::text)
    }

    /// The rows, each with one field for each column.
    pub fn rows(&self) -> &[Vec<Field>] {
        &self.rows
    }

    /// The fields of a column, from the first row to the last; `None` if there is no such column.
    pub fn column(&self, name: &str) -> Option<impl Iterator<Item = &Field>> {
        let place = self.columns().position(|column| column == name)?;
        Some(self.rows.iter().map(move |row| &row[place]))
    }

    /// In every column of numbers of which one has a fraction, whole numbers get one too, as `2.0`: readers that decide the type of a
    /// column by its first rows then read fractions in all of it.
    #[must_use]
    pub fn with_even_columns(mut self) -> Table {
        for place in 0..self.columns.len() {
            let column = || self.rows.iter().map(|row| &row[place]).filter(|field| !field.text().is_empty());
            if column().all(Field::is_number) && column().any(|field| !field.is_whole()) {
                let whole = self.rows.iter_mut().map(|row| &mut row[place]).filter(|field| field.is_whole());
                whole.for_each(|field| *field = format!("{}.0", field.text()).into());
            }
        }
        self
    }

    /// The table as CSV.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes()
    }

    /// Writes the table; see [`replace`].
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), Error> {
        replace(path, &self.bytes())
    }

    /// Reads a table, whose first line names the columns.
    ///
    /// # Errors
    /// If the file cannot be read, is not UTF-8, or has a row with more or fewer fields than the first.
    pub fn read(path: &Path) -> Result<Table, Error> {
        let bytes = std::fs::read(path).map_err(Error::reading(path))?;
        parse(&bytes).map_err(|cause| Error::Table { path: path.to_owned(), cause })
    }

    fn bytes(&self) -> Vec<u8> {
        let mut lines = Lines::default();
        lines.add(&self.columns);
        self.rows.iter().for_each(|row| lines.add(row));
        lines.bytes
    }
}

impl fmt::Display for Table {
    fn fmt(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str(&String::from_utf8_lossy(&self.bytes()))
    }
}

impl FromStr for Table {
    type Err = csv::Error;

    fn from_str(text: &str) -> csv::Result<Table> {
        parse(text.as_bytes())
    }
}

fn parse(bytes: &[u8]) -> csv::Result<Table> {
    let mut reader = csv::Reader::from_reader(bytes);
    let mut table = Table::new(reader.headers()?);
    for record in reader.into_records() {
        table.row(&record?); // the reader fails if a record has another number of fields
    }
    Ok(table)
}

/// CSV in the making. The `csv` crate has one style of quotes for a whole file, so this asks the engine below it.
struct Lines {
    bytes: Vec<u8>,
    plain: Writer,
    quoting: Writer,
}

impl Default for Lines {
    fn default() -> Lines {
        let writer = |style| WriterBuilder::new().quote_style(style).build();
        Lines { bytes: Vec::new(), plain: writer(QuoteStyle::Necessary), quoting: writer(QuoteStyle::Always) }
    }
}

impl Lines {
    fn add(&mut self, fields: &[Field]) {
        for field in fields {
            // An empty line is no row, and a byte order mark at the start of a file is no text.
            let odd = (fields.len() == 1 && field.text().is_empty()) || field.text().starts_with('\u{feff}');
            let writer = if field.is_quoted() || odd { &mut self.quoting } else { &mut self.plain };
            let text = field.text().as_bytes();
            let start = self.bytes.len();
            self.bytes.resize(start + 2 * text.len() + 3, 0); // every byte a quote, doubled; two quotes; a comma
            let (_, _, written) = writer.field(text, &mut self.bytes[start..]);
            let (_, ended) = writer.delimiter(&mut self.bytes[start + written..]);
            self.bytes.truncate(start + written + ended);
        }
        if let Some(last) = self.bytes.last_mut().filter(|_| !fields.is_empty()) {
            *last = b'\n';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields;
    use proptest::collection::vec;
    use proptest::prelude::*;

    #[test]
    fn quotes_are_where_they_are_needed_or_asked_for() {
        let mut table = Table::new(["plain", "a, b", "say \"so\""]);
        table.row(["two\nlines", "a\rb", " spaced "]).row(fields![Field::quoted("red"), "", 0.5]);
        let expected = "plain,\"a, b\",\"say \"\"so\"\"\"\n\"two\nlines\",\"a\rb\", spaced \n\"red\",,0.5\n";
        assert_eq!(table.to_string(), expected);
        assert_eq!(table.into_bytes(), expected.as_bytes());
        let mut one = Table::new(["a"]);
        one.row([""]);
        assert_eq!(one.to_string(), "a\n\"\"\n");
    }

    #[test]
    fn a_column_with_a_fraction_has_one_everywhere() {
        let mut table = Table::new(["mixed", "whole", "text", "quoted", "zeros"]);
        table.row(fields!["1", 3, "2", Field::quoted("1"), "007"]).row(fields![
            "-2",
            4,
            "2.5",
            Field::quoted("1.5"),
            "1.5"
        ]);
        table.row(fields!["", "", "", "", ""]).row(fields![0, 5, "red", "", "2"]).row(fields![1e-7, 6, "", "", "0"]);
        let even = table.with_even_columns().to_string();
        let expected = "mixed,whole,text,quoted,zeros\n1.0,3,2,\"1\",007\n-2.0,4,2.5,\"1.5\",1.5\n,,,,\n0.0,5,red,,2\n1e-7,6,,,0\n";
        assert_eq!(even, expected);
    }

    #[test]
    fn a_file_is_read_by_its_columns() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let mut table = Table::new(["word", "rate"]);
        table.row(fields!["red", 0.25]).row(fields!["green", f64::NAN]);
        table.write(&path).unwrap();
        let read = Table::read(&path).unwrap();
        assert_eq!(read, table);
        assert_eq!(read.column("word").unwrap().map(Field::text).collect::<Vec<_>>(), ["red", "green"]);
        let rates: Vec<f64> = read.column("rate").unwrap().map(Field::number).collect();
        assert!(rates[0] == 0.25 && rates[1].is_nan());
        assert!(read.column("hue").is_none());
    }

    #[test]
    fn a_file_that_is_no_table_is_an_error_with_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.csv");
        let error = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            Table::read(&path).unwrap_err().to_string()
        };
        for bytes in [&b"a,b\n1\n"[..], b"a,b\n1,2,3\n", b"a\n\xff\n"] {
            assert!(error(bytes).contains("a.csv: not a readable CSV table: "), "{}", error(bytes));
        }
        let missing = Table::read(&folder.path().join("none.csv")).unwrap_err().to_string();
        assert!(missing.contains("none.csv: could not be read: "), "{missing}");
    }

    #[test]
    #[should_panic(expected = "a field for each of")]
    fn a_row_of_another_length_panics() {
        Table::new(["a", "b"]).row(["1"]);
    }

    /// Text in which the letters that matter to CSV are frequent.
    fn text() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[a\", \r\n\u{feff}]{0,6}"]
    }

    proptest! {
        #[test]
        fn any_table_comes_back(
            (columns, rows) in (1..5usize).prop_flat_map(|width| {
                (vec(text(), width), vec(vec((text(), any::<bool>()), width), 0..5))
            })
        ) {
            let mut table = Table::new(columns);
            for row in &rows {
                let field = |(text, quoted): &(String, bool)| match quoted {
                    true => Field::quoted(text),
                    false => text.into(),
                };
                table.row(row.iter().map(field));
            }
            let read: Table = table.to_string().parse().unwrap();
            prop_assert!(read.columns().eq(table.columns()));
            let texts = |table: &Table| -> Vec<Vec<String>> {
                table.rows().iter().map(|row| row.iter().map(|field| field.text().to_owned()).collect()).collect()
            };
            prop_assert_eq!(texts(&read), texts(&table));
        }
    }
}
