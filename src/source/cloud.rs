//! Files on S3, Google Cloud Storage and Azure through `object_store`: lists them and fetches byte ranges.
//!
//! The library is asynchronous and the rest of this program is not, so a small private tokio runtime drives the requests
//! and the calling thread waits for its own.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, ObjectStoreScheme};
use parquet::errors::ParquetError;
use url::Url;

use crate::kit::error::{Error, Result};

/// One object of a store.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    store: Arc<dyn ObjectStore>,
    path: Path,
}

/// An object that was found, and what the store says of it.
pub(crate) struct Listed {
    pub name: String,
    pub length: u64,
    pub etag: Option<String>,
    pub object: Object,
}

impl Object {
    pub fn range(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        let end = start + length as u64;
        wait(async { self.store.get_range(&self.path, start..end).await })
            .map_err(|e| ParquetError::External(Box::new(e)))
    }
}

/// Runs one request to its end on the private runtime.
fn wait<T>(request: impl Future<Output = T>) -> T {
    static RUNTIME: OnceLock<tokio::runtime::Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(2).enable_all().thread_name("batchwright-io");
        builder.build().expect("two threads can be started: rayon has started more")
    });
    runtime.handle().block_on(request)
}

/// The `*.parquet` objects that `input` names: itself, or all below it if it ends in `/` or has a `*`.
/// `options` override what the environment says (credentials, endpoint).
pub(crate) fn list(
    input: &str,
    options: &BTreeMap<String, String>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Vec<Listed>> {
    let bad =
        |reason: String| Error::input(input, reason, "write it as s3://bucket/prefix/, gs://... or az://...");
    let url = Url::parse(input).map_err(|e| bad(format!("is not a URL: {e}")))?;
    let (store, path) = store(&url, options).map_err(|e| bad(format!("cannot be opened: {e}")).because(e))?;
    let store: Arc<dyn ObjectStore> = store.into();
    let root = url[..url::Position::BeforePath].to_string();
    let listed = |meta: ObjectMeta| Listed {
        name: format!("{root}/{}", meta.location),
        length: meta.size,
        etag: meta.e_tag.clone(),
        object: Object { store: store.clone(), path: meta.location },
    };
    let failed = |e: object_store::Error| {
        let help = "check the name, the region and the credentials (for S3: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION)";
        Error::input(input, format!("cannot be listed: {e}"), help).because(e)
    };
    if !input.ends_with('/') && !input.contains('*') {
        let meta = wait(async { store.head(&path).await }).map_err(failed)?;
        return Ok(vec![listed(meta)]);
    }
    // A prefix holds whole names: list what stands before the first star's name.
    let prefix = Path::from_iter(path.parts().take_while(|p| !p.as_ref().contains(['*', '%'])));
    let found: Vec<_> = wait(async { store.list(Some(&prefix)).try_collect().await }).map_err(failed)?;
    Ok(found.into_iter().filter(|meta| wanted(&format!("{root}/{}", meta.location))).map(listed).collect())
}

fn store(
    url: &Url,
    options: &BTreeMap<String, String>,
) -> object_store::Result<(Box<dyn ObjectStore>, Path)> {
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
