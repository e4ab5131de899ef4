//! The recipients of `carom send`: a CSV file with a header line. Pure: bytes in, rows and complaints out.

use std::io::{BufRead, BufReader, Read};

use csv::StringRecord;

use crate::event::Address;

/// Column names that are taken for the address when none is named, in this order.
const ADDRESS_COLUMNS: &[&str] = &["email", "address", "to", "e-mail", "recipient"];

/// One recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Number of the data row, from 1. What the state file goes by.
    pub number: u64,
    /// The address, as it stands.
    pub address: String,
    /// All columns.
    pub values: StringRecord,
}

/// A row that can't be sent to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// Number of the data row, from 1.
    pub number: u64,
    /// Line of the file on which it begins, from 1.
    pub line: u64,
    /// What stands there.
    pub text: String,
    /// What is wrong.
    pub why: String,
}

/// Why no row can be read.
#[derive(Debug, thiserror::Error)]
pub enum CsvError {
    /// Nothing is in it.
    #[error("the file is empty: its first line must name the columns, one of them email")]
    Empty,
    /// No address column.
    #[error("no column of addresses: the header has {found}; name the column with --column")]
    NoColumn {
        /// What the header has.
        found: String,
    },
    /// The column that was asked for is not there.
    #[error("no column {wanted:?}: the header has {found}")]
    NotFound {
        /// What was asked for.
        wanted: String,
        /// What the header has.
        found: String,
    },
    /// Two columns have one name.
    #[error("two columns are called {0:?}")]
    Twice(String),
    /// The file is no CSV.
    #[error("line {line}: {why}")]
    Malformed {
        /// Where.
        line: u64,
        /// What is wrong.
        why: String,
    },
}

/// Takes CR away before LF, since the reader does not count the lines of a file with CRLF right.
#[derive(Debug)]
struct LineFeeds<R>(BufReader<R>);

impl<R: Read> Read for LineFeeds<R> {
    fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        let mut filled = 0;
        while let (Some(place), Some(&byte)) = (buf.get_mut(filled), self.0.fill_buf()?.first()) {
            self.0.consume(1);
            if byte != b'\r' || self.0.fill_buf()?.first() != Some(&b'\n') {
                *place = byte;
                filled += 1;
            }
        }
        Ok(filled)
    }
}

/// Rows of a CSV file, read as they are asked for.
#[derive(Debug)]
pub struct Rows<R> {
    reader: csv::Reader<LineFeeds<R>>,
    header: Vec<String>,
    column: usize,
    number: u64,
}

impl<R: Read> Rows<R> {
    /// Reads the header. `column` names the address column, whatever its case; without it the usual names are tried.
    ///
    /// # Errors
    /// See [`CsvError`].
    pub fn new(input: R, column: Option<&str>) -> Result<Rows<R>, CsvError> {
        let mut reader =
            csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(LineFeeds(BufReader::new(input)));
        let header = reader.headers().map_err(|e| malformed(&e))?;
        // Spreadsheets put a byte order mark before the first name.
        let header: Vec<String> = header.iter().map(|h| h.trim_start_matches('\u{feff}').trim().to_owned()).collect();
        if header.iter().all(String::is_empty) {
            return Err(CsvError::Empty);
        }
        let found = || header.iter().map(|h| format!("{h:?}")).collect::<Vec<_>>().join(", ");
        for (i, name) in header.iter().enumerate() {
            if header[..i].iter().any(|h| h.eq_ignore_ascii_case(name)) {
                return Err(CsvError::Twice(name.clone()));
            }
        }
        let place = |name: &str| header.iter().position(|h| h.eq_ignore_ascii_case(name));
        let column = match column {
            Some(name) => place(name).ok_or_else(|| CsvError::NotFound { wanted: name.to_owned(), found: found() })?,
            None => {
                ADDRESS_COLUMNS.iter().find_map(|n| place(n)).ok_or_else(|| CsvError::NoColumn { found: found() })?
            }
        };
        Ok(Rows { reader, header, column, number: 0 })
    }

    /// Names of the columns, in order.
    pub fn header(&self) -> &[String] {
        &self.header
    }

    fn row(&mut self, values: StringRecord) -> Result<Row, BadRow> {
        let line = values.position().map_or(0, csv::Position::line);
        let address = values.get(self.column).unwrap_or("").to_owned();
        let bad = |why: String| BadRow { number: self.number, line, text: address.clone(), why };
        if values.len() != self.header.len() {
            return Err(bad(format!("{} columns, the header has {}", values.len(), self.header.len())));
        }
        if address.is_empty() {
            return Err(bad("no address".into()));
        }
        match Address::parse(&address) {
            Err(why) => Err(bad(why.to_string())),
            // SMTPUTF8 is not spoken; a domain can be written in its A-label form.
            Ok(parsed) if !parsed.local().is_ascii() => Err(bad("the local part is not ASCII".into())),
            Ok(parsed) => {
                let domain = crate::event::address::canonical_domain(parsed.domain());
                let address = if parsed.domain().is_ascii() { address } else { format!("{}@{domain}", parsed.local()) };
                Ok(Row { number: self.number, address, values })
            }
        }
    }
}

impl<R: Read> Iterator for Rows<R> {
    type Item = Result<Row, BadRow>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut values = StringRecord::new();
        let more = self.reader.read_record(&mut values);
        self.number += 1;
        match more {
            Ok(false) => None,
            Ok(true) => Some(self.row(values)),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                let text = String::new();
                // A file that can't be read any further ends here; one line that is no UTF-8 does not end it.
                if error.is_io_error() {
                    return None;
                }
                Some(Err(BadRow { number: self.number, line, text, why: error.to_string() }))
            }
        }
    }
}

fn malformed(error: &csv::Error) -> CsvError {
    CsvError::Malformed { line: error.position().map_or(1, csv::Position::line), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(text: &str) -> Vec<Result<Row, BadRow>> {
        Rows::new(text.as_bytes(), None).unwrap().collect()
    }

    #[test]
    fn rows_come_with_their_numbers_and_columns() {
        let all = rows("Name,E-Mail\nAnn,ann@a.example\n\"Bo, B\",bo@b.example\n");
        let second = all[1].as_ref().unwrap();
        assert_eq!((second.number, second.address.as_str(), &second.values[0]), (2, "bo@b.example", "Bo, B"));
    }

    #[test]
    fn a_malformed_address_is_told_with_its_line_and_does_not_stop_the_others() {
        let all =
            rows("email,name\n\"a@a.example\",\"two\nlines\"\nnot an address,x\n,y\nb@b.example\nc@c.example,z\n");
        let bad: Vec<_> = all.iter().filter_map(|r| r.as_ref().err()).map(|b| (b.line, b.number)).collect();
        assert_eq!(bad, [(4, 2), (5, 3), (6, 4)]);
        assert_eq!(all.iter().filter(|r| r.is_ok()).count(), 2);
    }

    #[test]
    fn a_byte_order_mark_and_crlf_do_no_harm() {
        let all = rows("\u{feff}email,name\r\nann@a.example,Ann\r\n");
        assert_eq!(all[0].as_ref().unwrap().address, "ann@a.example");
    }

    #[test]
    fn lines_are_counted_right_whatever_ends_them() {
        let text = "email,name\na@a.example,\"two\nlines\"\nnonsense,x\nb@b.example\n";
        for end in ["\n", "\r\n"] {
            let bad: Vec<u64> =
                rows(&text.replace('\n', end)).iter().filter_map(|r| Some(r.as_ref().err()?.line)).collect();
            assert_eq!(bad, [4, 5], "{end:?}");
        }
        // Bytes that come one by one, and a CR that is the last of them.
        struct Slow<'a>(&'a [u8]);
        impl Read for Slow<'_> {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let some = self.0.len().min(1).min(buf.len());
                buf[..some].copy_from_slice(&self.0[..some]);
                self.0 = &self.0[some..];
                Ok(some)
            }
        }
        let mut out = String::new();
        LineFeeds(BufReader::new(Slow(b"a\r\nb\r\rc\r\n\r\n\r"))).read_to_string(&mut out).unwrap();
        assert_eq!(out, "a\nb\r\rc\n\n\r");
        assert!(matches!(Rows::new(&b""[..], None), Err(CsvError::Empty)));
    }

    #[test]
    fn a_missing_or_doubled_column_is_an_error_that_names_what_is_there() {
        let error = Rows::new("name,mail\n".as_bytes(), None).unwrap_err().to_string();
        assert!(error.contains("\"mail\"") && error.contains("--column"), "{error}");
        assert!(matches!(Rows::new("a,A\n".as_bytes(), None), Err(CsvError::Twice(_))));
        assert!(Rows::new("name,mail\n".as_bytes(), Some("MAIL")).is_ok());
    }

    #[test]
    fn a_unicode_domain_is_sent_in_its_a_label_form() {
        assert_eq!(rows("email\nx@bücher.example\n")[0].as_ref().unwrap().address, "x@xn--bcher-kva.example");
    }

    proptest! {
        #[test]
        fn no_bytes_make_reading_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(rows) = Rows::new(&bytes[..], None) {
                let _ = rows.count();
            }
            let mut text = b"email\n".to_vec();
            text.extend(bytes);
            let _ = Rows::new(&text[..], None).map(Iterator::count);
        }
    }
}
