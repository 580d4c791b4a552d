//! Bytes of one input file at any position: what everything above reads Parquet through.
//!
//! A [`Blob`] names a file and remembers its length. [`Blob::open`] gives a [`Reader`], whose reads carry their position
//! (`pread` on a local file, a ranged GET on an object store), so that threads never share an offset. Nothing but the
//! ranges asked for is read.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "cloud")]
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, Length};

#[cfg(feature = "cloud")]
use super::cloud;
use super::folder::{Identity, identity};
use crate::kit::error::{Error, Result};
use crate::kit::files;

/// A page header is shorter than this, nearly always.
const HEADER: usize = 8 << 10;

/// Where a file lies.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    Local(PathBuf),
    #[cfg(feature = "cloud")]
    Remote(cloud::Object),
}

/// One input file of known length.
#[derive(Clone, Debug)]
pub(crate) struct Blob {
    /// As the user would name it: for messages.
    pub name: String,
    pub place: Place,
    pub length: u64,
    /// When it was last written to, as the file system says it; (0, 0) of an object.
    pub modified: (i64, i64),
    /// What the store calls this version of an object; none of a file.
    pub etag: Option<String>,
    /// Bytes read of it so far.
    pub read: Arc<AtomicU64>,
    /// Why a request for its bytes failed. The crates above turn a reader's error into text; here it stays what it is.
    #[cfg(feature = "cloud")]
    fault: Arc<OnceLock<cloud::Fault>>,
}

fn modified(of: &std::fs::Metadata) -> (i64, i64) {
    (of.mtime(), of.mtime_nsec())
}

impl Blob {
    /// A file of this machine, and what tells it from others whatever its name.
    pub fn local(path: PathBuf) -> Result<(Blob, Identity)> {
        let about = std::fs::metadata(&path).map_err(Error::io("read", &path))?;
        let name = path.display().to_string();
        if let Some(kind) = files::irregular(about.file_type()) {
            let help = "Parquet is read from any place of a file: save it as one first";
            return Err(Error::input(name, format!("is {kind}, not a file"), help));
        }
        let blob = Blob {
            name,
            place: Place::Local(path),
            length: about.len(),
            modified: modified(&about),
            etag: None,
            read: Arc::default(),
            #[cfg(feature = "cloud")]
            fault: Arc::default(),
        };
        Ok((blob, identity(&about)))
    }

    #[cfg(feature = "cloud")]
    pub fn remote(listed: cloud::Listed) -> Blob {
        let cloud::Listed { name, length, etag, object } = listed;
        let (read, fault) = Default::default();
        Blob { name, place: Place::Remote(object), length, modified: (0, 0), etag, read, fault }
    }

    /// Whether it is read over a network.
    pub fn is_remote(&self) -> bool {
        !matches!(self.place, Place::Local(_))
    }

    /// Which version of the file this is, in a word: its entity tag, else when it was last written to; empty where
    /// neither is known.
    pub fn version(&self) -> String {
        match (&self.etag, self.modified) {
            (Some(etag), _) => etag.clone(),
            (None, (0, 0)) => String::new(),
            (None, (seconds, nanoseconds)) => format!("{seconds}.{nanoseconds:09}"),
        }
    }

    /// Opens the file; an error if it is gone or was written to since it was found.
    pub fn open(&self) -> Result<Reader> {
        let source = match &self.place {
            Place::Local(path) => {
                let file = files::open(path).map_err(Error::io("open", path))?;
                let now = file.metadata().map_err(Error::io("read", path))?;
                if now.len() != self.length || modified(&now) != self.modified {
                    return Err(self.changed(Some(now.len())));
                }
                Source::Local(Arc::new(file))
            }
            #[cfg(feature = "cloud")]
            Place::Remote(object) => Source::Remote(object.clone(), self.fault.clone()),
        };
        Ok(Reader { source, length: self.length, held: Vec::new(), read: self.read.clone() })
    }

    /// It is another version than the one that was found, of so many bytes if that is known.
    fn changed(&self, now: Option<u64>) -> Error {
        let reason = match now.filter(|&now| now != self.length) {
            None => "has changed while it was read".into(),
            Some(now) => {
                format!("has changed while it was read: {} bytes before, {now} now", self.length)
            }
        };
        Error::input(&self.name, reason, "run again once nothing writes to it any more")
    }

    /// What a failed read of this file means to the user.
    pub fn error(&self, cause: ParquetError) -> Error {
        #[cfg(feature = "cloud")]
        match self.fault.get() {
            Some(cloud::Fault::Changed(now)) => return self.changed(*now),
            Some(cloud::Fault::Interrupted) => return Error::Interrupted,
            Some(cloud::Fault::Failed(reason)) => {
                let help = "check that the object is still there and may be read, and run again";
                return Error::input(&self.name, format!("cannot be read: {reason}"), help);
            }
            None => {}
        }
        let (reason, help) = match &cause {
            ParquetError::EOF(_) => ("ends too early", "the file is damaged: write or download it again"),
            ParquetError::NYI(_) => {
                ("uses a Parquet feature that is not supported", "rewrite it, for example with pyarrow")
            }
            ParquetError::External(_) => {
                ("cannot be read", "check that the file is still there and may be read")
            }
            _ => ("is damaged", "write or download it again"),
        };
        Error::input(&self.name, format!("{reason}: {cause}"), help).because(cause)
    }
}

/// Reads any bytes of one file, from any thread.
#[derive(Clone)]
pub(crate) struct Reader {
    source: Source,
    length: u64,
    /// Ranges already in memory, by their first byte: served from here instead of the file.
    held: Vec<(u64, Bytes)>,
    /// That of the blob.
    read: Arc<AtomicU64>,
}

#[derive(Clone)]
enum Source {
    Local(Arc<File>),
    #[cfg(feature = "cloud")]
    Remote(cloud::Object, Arc<OnceLock<cloud::Fault>>),
}

/// Bytes of an object; why there are none is kept.
#[cfg(feature = "cloud")]
fn fetch(
    object: &cloud::Object,
    fault: &OnceLock<cloud::Fault>,
    start: u64,
    length: usize,
) -> parquet::errors::Result<Bytes> {
    object.range(start..start + length as u64).map_err(|why| {
        fault.get_or_init(|| why);
        ParquetError::General("a request failed".into())
    })
}

impl Reader {
    /// The same reader with bytes `start ..` of the file at hand.
    pub fn holding(mut self, start: u64, bytes: Bytes) -> Self {
        self.held.push((start, bytes));
        self
    }

    /// The same reader with these ranges at hand, where reads cost requests: ranges that lie close together are fetched as one, several
    /// at a time.
    pub fn fetched(self, ranges: Vec<Range<u64>>) -> parquet::errors::Result<Self> {
        #[cfg(feature = "cloud")]
        if let Source::Remote(object, fault) = &self.source {
            let joined = joined(ranges);
            joined
                .iter()
                .try_for_each(|range| self.inside(range.start, (range.end - range.start) as usize))?;
            let got = object.ranges(&joined).map_err(|why| {
                fault.get_or_init(|| why);
                ParquetError::General("a request failed".into())
            })?;
            let bytes: u64 = joined.iter().map(|range| range.end - range.start).sum();
            self.read.fetch_add(bytes, Ordering::Relaxed);
            let all = joined.iter().map(|range| range.start).zip(got);
            return Ok(all.fold(self.clone(), |reader, (start, bytes)| reader.holding(start, bytes)));
        }
        drop(ranges);
        Ok(self)
    }

    /// Fills `into` with the bytes from `start` on.
    pub fn read_into(&self, start: u64, into: &mut [u8]) -> parquet::errors::Result<()> {
        self.inside(start, into.len())?;
        if let Some(bytes) = self.held(start, into.len()) {
            into.copy_from_slice(&bytes);
            return Ok(());
        }
        self.read.fetch_add(into.len() as u64, Ordering::Relaxed);
        match &self.source {
            Source::Local(file) => {
                file.read_exact_at(into, start).map_err(|e| ParquetError::External(Box::new(e)))
            }
            #[cfg(feature = "cloud")]
            Source::Remote(object, fault) => {
                fetch(object, fault, start, into.len()).map(|b| into.copy_from_slice(&b))
            }
        }
    }

    /// An error if there are no bytes `start .. start + length`.
    pub fn inside(&self, start: u64, length: usize) -> parquet::errors::Result<()> {
        let end = start.saturating_add(length as u64);
        if end > self.length {
            let text = format!("bytes {start} to {end} of a file of {}", self.length);
            return Err(ParquetError::EOF(text));
        }
        Ok(())
    }

    /// Whether a read costs a request over the network.
    pub fn is_remote(&self) -> bool {
        !matches!(self.source, Source::Local(_))
    }

    fn held(&self, start: u64, length: usize) -> Option<Bytes> {
        self.held.iter().find_map(|(first, bytes)| {
            let from = usize::try_from(start.checked_sub(*first)?).ok()?;
            (from.checked_add(length)? <= bytes.len()).then(|| bytes.slice(from..from + length))
        })
    }
}

/// Ranges without the gaps that cost less to read than another request does.
#[cfg(feature = "cloud")]
fn joined(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    const GAP: u64 = 1 << 20;
    ranges.retain(|range| !range.is_empty());
    ranges.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end + GAP => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

impl Length for Reader {
    fn len(&self) -> u64 {
        self.length
    }
}

impl ChunkReader for Reader {
    type T = BufReader<Cursor>;

    fn get_read(&self, start: u64) -> parquet::errors::Result<Self::T> {
        // A request costs milliseconds where a local read costs microseconds, so it asks for more at once.
        let block = if self.is_remote() { 8 * HEADER } else { HEADER };
        Ok(BufReader::with_capacity(block, Cursor { reader: self.clone(), at: start }))
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        self.inside(start, length)?;
        if let Some(bytes) = self.held(start, length) {
            return Ok(bytes);
        }
        #[cfg(feature = "cloud")]
        if let Source::Remote(object, fault) = &self.source {
            self.read.fetch_add(length as u64, Ordering::Relaxed);
            return fetch(object, fault, start, length);
        }
        let mut bytes = vec![0; length];
        self.read_into(start, &mut bytes)?;
        Ok(bytes.into())
    }
}

/// Reads onward from a position.
pub(crate) struct Cursor {
    reader: Reader,
    at: u64,
}

impl Read for Cursor {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let left = self.reader.length.saturating_sub(self.at).min(into.len() as u64) as usize;
        // Inside a held range, stop at its end rather than read beyond it.
        let within = |(first, bytes): &(u64, Bytes)| {
            self.at
                .checked_sub(*first)
                .map(|from| (bytes.len() as u64).saturating_sub(from))
                .filter(|&n| n > 0)
        };
        let left = self.reader.held.iter().find_map(within).map_or(left, |n| left.min(n as usize));
        let bytes = self.reader.get_bytes(self.at, left).map_err(std::io::Error::other)?;
        into[..left].copy_from_slice(&bytes);
        self.at += left as u64;
        Ok(left)
    }
}
