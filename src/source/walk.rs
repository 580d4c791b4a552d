//! All pages of a column chunk, header by header, while its bytes go by: nothing is read for it.
//!
//! What a chunk is made of is checked here once, in the stream that is fingerprinted: pages follow each other without gaps,
//! their checksums hold where there are any, they stand where the offset index says, and hold as many values and rows as
//! the footer promises.

use super::header::{Form, Header};
use super::index::Location;

/// The longest page header: it may hold the least and greatest of long texts.
const LONGEST: usize = 16 << 20;

pub(super) struct Walk<'a> {
    /// Where the next byte lies in the file.
    at: u64,
    /// Bytes of a header that is not yet whole.
    begun: Vec<u8>,
    body: Option<Body>,
    /// Data pages so far, their values, and their rows where these are known.
    page: usize,
    values: u64,
    rows: Option<u64>,
    dictionary: bool,
    /// Every value is a row.
    flat: bool,
    index: Option<&'a [Location]>,
}

/// A page whose bytes go by.
struct Body {
    left: usize,
    checksum: Option<(crc32fast::Hasher, u32)>,
}

impl<'a> Walk<'a> {
    /// A chunk that begins at byte `at`. `flat`: its values are never lists.
    pub fn new(at: u64, flat: bool, index: Option<&'a [Location]>) -> Self {
        let (begun, body) = (Vec::new(), None);
        Walk { at, begun, body, page: 0, values: 0, rows: Some(0), dictionary: false, flat, index }
    }

    /// The next bytes of the chunk.
    pub fn bytes(&mut self, mut bytes: &[u8]) -> Result<(), String> {
        while !bytes.is_empty() {
            let taken = match &mut self.body {
                Some(body) => {
                    let taken = body.left.min(bytes.len());
                    if let Some((hasher, _)) = &mut body.checksum {
                        hasher.update(&bytes[..taken]);
                    }
                    body.left -= taken;
                    taken
                }
                None => {
                    let before = self.begun.len();
                    let header = if before == 0 {
                        Header::parse(bytes)
                    } else {
                        self.begun.extend_from_slice(bytes);
                        Header::parse(&self.begun)
                    };
                    match header {
                        Some(header) => {
                            self.header(&header, self.at - before as u64)?;
                            self.begun.clear();
                            header.length - before
                        }
                        None if before + bytes.len() > LONGEST => {
                            return Err(self.damage("its header is damaged"));
                        }
                        None => {
                            if before == 0 {
                                self.begun.extend_from_slice(bytes);
                            }
                            bytes.len()
                        }
                    }
                }
            };
            bytes = &bytes[taken..];
            self.at += taken as u64;
            if self.body.as_ref().is_some_and(|body| body.left == 0) {
                let body = self.body.take().expect("it is there");
                if body.checksum.is_some_and(|(hasher, expected)| hasher.finalize() != expected) {
                    return Err(self.damage("its checksum does not fit its bytes, which have changed"));
                }
            }
        }
        Ok(())
    }

    /// A header that begins at byte `start`.
    fn header(&mut self, header: &Header, start: u64) -> Result<(), String> {
        match header.form {
            Form::Dictionary if self.dictionary || self.page > 0 => {
                return Err(self.damage("a dictionary stands where it cannot"));
            }
            Form::Dictionary => self.dictionary = true,
            Form::Other => {}
            Form::V1 { .. } | Form::V2 { .. } => {
                self.page += 1;
                let rows = match header.form {
                    Form::V2 { rows, .. } => Some(rows),
                    _ => self.flat.then_some(header.values),
                };
                if let Some(index) = self.index {
                    let length = (header.length + header.stored) as u64;
                    let listed = index.get(self.page - 1);
                    let fits = |at: &Location| {
                        at.bytes == (start..start + length)
                            && self.rows.is_none_or(|rows| rows == at.first_row)
                    };
                    if !listed.is_some_and(fits) {
                        return Err(self.damage("it is not where the offset index says"));
                    }
                }
                self.values += header.values as u64;
                self.rows = self.rows.zip(rows).map(|(all, more)| all + more as u64);
            }
        }
        let checksum = header.checksum.map(|expected| (crc32fast::Hasher::new(), expected));
        self.body = Some(Body { left: header.stored, checksum });
        Ok(())
    }

    /// After the last byte: the chunk must end with a page, and hold these values and rows.
    pub fn end(&self, values: u64, rows: u64) -> Result<(), String> {
        if !self.begun.is_empty() {
            return Err(self.damage("its header is damaged"));
        }
        if self.body.is_some() {
            return Err(self.damage("it is longer than its column"));
        }
        if self.index.is_some_and(|index| index.len() != self.page) {
            return Err(format!("the offset index does not list its {} pages", self.page));
        }
        if self.values != values {
            return Err(format!("its pages hold {} values, and its footer says {values}", self.values));
        }
        match self.rows {
            Some(found) if found != rows => {
                Err(format!("its pages hold {found} rows, and its footer says {rows}"))
            }
            _ => Ok(()),
        }
    }

    /// About the page that is being read: data pages count from 0.
    fn damage(&self, what: &str) -> String {
        match self.page.checked_sub(1) {
            _ if self.body.is_none() && !self.begun.is_empty() => format!("page {}: {what}", self.page),
            Some(page) => format!("page {page}: {what}"),
            None => format!("the page before the first: {what}"),
        }
    }
}
