//! Files on S3, Google Cloud Storage and Azure through `object_store`: lists them and fetches byte ranges.
//!
//! The library is asynchronous and the rest of this program is not, so a small private tokio runtime drives the requests
//! and the calling thread waits for its own. The library repeats what fails for a while (503, a server that says nothing
//! for half a minute) for three minutes at most; Ctrl-C ends the waiting at once.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{
    GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme, Result as StoreResult,
};
use url::Url;

use super::listing::{Format, Listing, is_data, is_hidden, is_iceberg};
use super::pattern::{Part, is_pattern, matched, parts};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::secrets;

/// How long a wait goes on before it looks whether it is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);
/// After so long a wait the run says what it waits for.
const SILENCE: Duration = Duration::from_secs(10);

/// A bucket.
#[derive(Clone)]
pub(crate) struct Store {
    store: Arc<dyn ObjectStore>,
    /// `s3://bucket`.
    root: String,
    progress: Progress,
    /// It was said that the store does not answer.
    said: Arc<AtomicBool>,
}

/// One version of an object of a store.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    store: Store,
    path: Path,
    length: u64,
    etag: Option<String>,
}

/// An object that was found, and what the store says of it.
pub(crate) struct Listed {
    pub name: String,
    pub length: u64,
    pub etag: Option<String>,
    pub object: Object,
}

/// What an input names in an object store, and the folders that it begins at.
pub(crate) struct Remote {
    pub(super) listing: Listing<Listed>,
    pub begins: BTreeSet<String>,
    /// The input is an object itself, no folder and no pattern.
    pub alone: bool,
    pub store: Store,
}

/// Why bytes could not be had.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// It is another version than the one that was found, of so many bytes if that is known.
    Changed(Option<u64>),
    Interrupted,
    Failed(String),
}

/// Requests that are under way at the same time, of one thread.
const IN_FLIGHT: usize = 8;

impl Object {
    pub fn range(&self, range: Range<u64>) -> Result<Bytes, Fault> {
        Ok(self.ranges(&[range])?.pop().unwrap_or_default())
    }

    /// Some ranges, several at a time.
    pub fn ranges(&self, ranges: &[Range<u64>]) -> Result<Vec<Bytes>, Fault> {
        let all = futures_util::stream::iter(ranges.iter().cloned().map(|range| self.get(range)));
        let all = async { Ok(all.buffered(IN_FLIGHT).try_collect().await) };
        match self.store.wait(all).map_err(|_| Fault::Interrupted)? {
            Ok(got) => got,
            Err(e) => Err(Fault::Failed(told(&e))),
        }
    }

    async fn get(&self, range: Range<u64>) -> Result<Bytes, Fault> {
        let strong = self.etag.clone().filter(|etag| !etag.starts_with("W/"));
        let options =
            GetOptions { range: Some(GetRange::Bounded(range)), if_match: strong, ..GetOptions::default() };
        let failed = |e| match e {
            object_store::Error::Precondition { .. } => Fault::Changed(None),
            e => Fault::Failed(told(&e)),
        };
        let got = self.store.store.get_opts(&self.path, options).await.map_err(failed)?;
        // Also of a server that does not know conditions.
        if got.meta.size != self.length || got.meta.e_tag != self.etag {
            return Err(Fault::Changed(Some(got.meta.size)));
        }
        got.bytes().await.map_err(failed)
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.root)
    }
}

/// An error of the library and its causes, in one line and without secrets.
fn told(error: &object_store::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(e) = cause {
        let more = e.to_string();
        if !text.contains(&more) {
            text += &format!(": {more}");
        }
        cause = e.source();
    }
    secrets::without(&text)
}

/// The private runtime of this process: a forked child has none of its parent's threads.
fn runtime() -> Arc<tokio::runtime::Runtime> {
    static RUNTIME: Mutex<Option<(u32, Arc<tokio::runtime::Runtime>)>> = Mutex::new(None);
    let mut held = RUNTIME.lock().expect("nobody panics with the lock");
    let process = std::process::id();
    if let Some((_, runtime)) = held.as_ref().filter(|(of, _)| *of == process) {
        return runtime.clone();
    }
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.worker_threads(2).enable_all().thread_name("batchwright-io");
    let runtime = Arc::new(builder.build().expect("two threads can be started: rayon has started more"));
    // The parent's cannot be shut down here.
    held.replace((process, runtime.clone())).into_iter().for_each(std::mem::forget);
    runtime
}

impl Store {
    /// Opens the bucket that a URL (without secrets) names, with the path inside of it. `options` override what the
    /// environment says (credentials, endpoint).
    fn open(input: &str, options: &BTreeMap<String, String>, progress: &Progress) -> Result<(Store, Path)> {
        let bad = |reason: String| {
            Error::input(input, reason, "write it as s3://bucket/prefix/, gs://... or az://...")
        };
        // No query is left, so what looks like one is a pattern.
        let url = Url::parse(&input.replace('?', "%3F")).map_err(|e| bad(format!("is not a URL: {e}")))?;
        let failed = |e| bad(format!("cannot be opened: {}", told(&e)));
        let (store, path) = open(&url, options).map_err(failed)?;
        let root = url[..url::Position::BeforePath].to_string();
        Ok((Store { store: store.into(), root, progress: progress.clone(), said: Arc::default() }, path))
    }

    /// Runs one request to its end on the private runtime; Err once the run is cancelled.
    fn wait<T>(&self, request: impl Future<Output = StoreResult<T>>) -> Result<StoreResult<T>> {
        runtime().handle().block_on(async {
            let mut request = Box::pin(request);
            let begun = Instant::now();
            loop {
                match tokio::time::timeout(PATIENCE, &mut request).await {
                    Ok(done) => return Ok(done),
                    Err(_) => self.progress.check()?,
                }
                if begun.elapsed() > SILENCE && !self.said.swap(true, Ordering::Relaxed) {
                    let seconds = SILENCE.as_secs();
                    self.progress.warn(&format!(
                        "{} has not answered for {seconds} s; what fails is tried again for three minutes",
                        self.root
                    ));
                }
            }
        })
    }

    fn name(&self, path: &str) -> String {
        if path.is_empty() { self.root.clone() } else { format!("{}/{path}", self.root) }
    }

    fn listed(&self, meta: ObjectMeta) -> Listed {
        let ObjectMeta { location, size, e_tag, .. } = meta;
        Listed {
            name: self.name(location.as_ref()),
            length: size,
            etag: e_tag.clone(),
            object: Object { store: self.clone(), path: location, length: size, etag: e_tag },
        }
    }

    /// The format that a folder (a whole name) itself is a table of, as far as one may look.
    pub(super) fn format(&self, folder: &str) -> Result<Option<Format>> {
        let Some(folder) = folder.strip_prefix(&self.root) else { return Ok(None) };
        let below = |name: &str| Path::parse(format!("{}/{name}", folder.trim_matches('/')));
        for (log, format) in Format::LOGS {
            let Ok(path) = below(log) else { continue };
            let first = async { self.store.list(Some(&path)).try_next().await };
            if let Ok(Some(_)) = self.wait(first)? {
                return Ok(Some(format));
            }
        }
        let Ok(path) = below("metadata") else { return Ok(None) };
        let any = async {
            self.store
                .list(Some(&path))
                .try_any(|meta| std::future::ready(is_iceberg(meta.location.as_ref())))
                .await
        };
        Ok(self.wait(any)?.is_ok_and(|any| any).then_some(Format::Iceberg))
    }
}

/// Everything that `input`, a URL without secrets, names: an object, or all data below it, or what a pattern matches.
pub(super) fn list(input: &str, options: &BTreeMap<String, String>, progress: &Progress) -> Result<Remote> {
    let (store, path) = Store::open(input, options, progress)?;
    let failed = |e: object_store::Error| {
        let help = "check the name, the region and the credentials (for S3: AWS_ACCESS_KEY_ID \
                    with its key, and AWS_REGION)";
        Error::input(input, format!("cannot be listed: {}", told(&e)), help)
    };
    let pattern = is_pattern(path.as_ref());
    let mut missing = None;
    if !input.ends_with('/') && !path.as_ref().contains('*') {
        match store.wait(async { store.store.head(&path).await })? {
            Ok(meta) => {
                let begins = BTreeSet::from([store.name(parent(path.as_ref()))]);
                let listing = Listing { files: vec![store.listed(meta)], ..Listing::default() };
                return Ok(Remote { listing, begins, alone: true, store });
            }
            Err(e @ object_store::Error::NotFound { .. }) => missing = Some(e),
            Err(e) => return Err(failed(e)),
        }
    }
    // A prefix holds whole names: list what stands before the first that is none.
    let wanted = if pattern {
        parts(path.as_ref())
    } else {
        path.parts().map(|p| Part::Name(p.as_ref().into())).collect()
    };
    let names = wanted.iter().map_while(|part| match part {
        Part::Name(name) => Some(name.as_str()),
        _ => None,
    });
    let prefix = names.collect::<Vec<_>>().join("/");
    let prefix = Path::parse(&prefix).map_err(|e| failed(e.into()))?;
    let found: Vec<_> =
        store.wait(async { store.store.list(Some(&prefix)).try_collect().await })?.map_err(&failed)?;
    let mut remote = Remote { listing: Listing::default(), begins: BTreeSet::new(), alone: false, store };
    let mut left_out = BTreeSet::new();
    for meta in found {
        remote.take(meta, &wanted, &mut left_out);
    }
    if let (Some(e), true) = (missing, remote.listing.files.is_empty() && left_out.is_empty() && !pattern) {
        return Err(failed(e));
    }
    remote.listing.left_out = left_out.into_iter().collect();
    Ok(remote)
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}

impl Remote {
    /// Sorts one listed object in.
    fn take(&mut self, meta: ObjectMeta, wanted: &[Part], left_out: &mut BTreeSet<String>) {
        let path = meta.location.as_ref().to_string();
        let names: Vec<&str> = path.split('/').collect();
        let Some(matched) = matched(wanted, &names) else { return };
        if matched == names.len() {
            self.begins.insert(self.store.name(parent(&path)));
            self.listing.files.push(self.store.listed(meta));
            return;
        }
        let (folder, below) = names.split_at(matched);
        self.begins.insert(self.store.name(&folder.join("/")));
        if let Some((table, format)) = Format::of(&below.join("/")) {
            let table = format!("{}/{table}", folder.join("/"));
            self.listing.tables.push((self.store.name(table.trim_matches('/')), format));
        }
        let directories = &below[..below.len() - 1];
        if let Some(hidden) = below.iter().position(|name| is_hidden(name)) {
            let mark = if hidden < directories.len() { "/" } else { "" };
            left_out.insert(below[..=hidden].join("/") + mark);
        } else if is_data(below[below.len() - 1]) {
            self.listing.files.push(self.store.listed(meta));
        } else if meta.size > 0 {
            // Objects without bytes stand for folders.
            left_out.insert(below.join("/"));
        }
    }
}

fn open(url: &Url, options: &BTreeMap<String, String>) -> StoreResult<(Box<dyn ObjectStore>, Path)> {
    use object_store::{aws, azure, gcp};
    // Where the TLS library takes its cryptography from; where one is set already, that one stays.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let (scheme, path) = ObjectStoreScheme::parse(url)?;
    macro_rules! build {
        ($builder:path, $key:path) => {{
            let mut builder = <$builder>::from_env().with_url(url.as_str());
            for (name, value) in options {
                builder = builder.with_config(name.parse::<$key>()?, value);
            }
            Box::new(builder.build()?) as Box<dyn ObjectStore>
        }};
    }
    let store = match scheme {
        ObjectStoreScheme::AmazonS3 => build!(aws::AmazonS3Builder, aws::AmazonS3ConfigKey),
        ObjectStoreScheme::GoogleCloudStorage => build!(gcp::GoogleCloudStorageBuilder, gcp::GoogleConfigKey),
        ObjectStoreScheme::MicrosoftAzure => build!(azure::MicrosoftAzureBuilder, azure::AzureConfigKey),
        _ => {
            return Err(object_store::Error::NotSupported {
                source: format!("{} is no cloud store", url.scheme()).into(),
            });
        }
    };
    Ok((store, path))
}
