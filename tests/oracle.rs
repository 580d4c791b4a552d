//! What the Python references gave: the vectors in `oracle/*.json`, and what is read from them.

use std::sync::LazyLock;

use batchwright::format::dendrogram::Merge;
use batchwright::kit::rng::mix64;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One of the files.
pub struct Oracle(LazyLock<Value>);

impl Oracle {
    pub const fn new(read: fn() -> Value) -> Self {
        Oracle(LazyLock::new(read))
    }

    /// The vectors of one function; there is at least one.
    pub fn vectors(&self, name: &str) -> &[Value] {
        let all = self.0[name].as_array().expect("a list");
        assert!(!all.is_empty());
        all
    }
}

pub fn read(text: &str) -> Value {
    serde_json::from_str(text).expect("the oracle writes JSON")
}

pub fn get<T: DeserializeOwned>(vector: &Value, name: &str) -> T {
    serde_json::from_value(vector[name].clone()).unwrap_or_else(|e| panic!("{name} of {vector}: {e}"))
}

/// A dendrogram as SciPy writes it; none: no merges.
pub fn merges(value: Option<Vec<(f64, f64, f64, f64)>>) -> Vec<Merge> {
    let merge = |(left, right, height, size)| Merge {
        left: left as u32,
        right: right as u32,
        height,
        size: size as u32,
    };
    value.unwrap_or_default().into_iter().map(merge).collect()
}

pub fn digest<'a>(numbers: impl IntoIterator<Item = &'a u64>) -> u64 {
    numbers.into_iter().fold(0, |d, &x| mix64(d ^ x))
}

/// Where each of so many rows begins, and the end.
pub fn offsets(sizes: impl IntoIterator<Item = u64>) -> Vec<u64> {
    let mut offsets = vec![0];
    sizes.into_iter().for_each(|n| offsets.push(offsets[offsets.len() - 1] + n));
    offsets
}
