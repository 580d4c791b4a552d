//! Pre-trained encoders: text, or a vector, to a vector of fixed length, for rows that have no embedding yet.
//!
//! [`Encoder::open`] takes a Hugging Face folder as it lies on disk ([`bert`], feature `encoder`) or an ONNX file
//! ([`onnx`], feature `onnx`). A row's embedding depends on the row's own value alone, never on the rows that happen to be
//! encoded with it, so it is the same in the sample and in the pass over all rows, and at any number of threads.

#[cfg(feature = "encoder")]
mod folder;
#[cfg(feature = "encoder")]
mod bert;
#[cfg(feature = "onnx")]
mod onnx;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::source::Kind;

/// The setting that names the encoder, for messages.
const KEY: &str = "run.encoder";

/// A network that gives every value of one column [`dims`](Encoder::dims) numbers.
#[derive(Clone, Debug)]
pub struct Encoder {
    name: String,
    blake3: String,
    dims: usize,
    about: String,
    network: Network,
    /// Where it was read from.
    path: PathBuf,
    max_seq_length: Option<u32>,
}

/// By what another process finds an encoder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pretrained {
    path: PathBuf,
    max_seq_length: Option<u32>,
    identity: String,
}

/// A directory of encoders, where a machine has them at another place than the one that a run was started on.
const ENCODERS: &str = "BATCHWRIGHT_ENCODERS";

impl Pretrained {
    /// The encoder: at its path, or by its name in the directory that `BATCHWRIGHT_ENCODERS` names. `before` is taken if it is the one.
    ///
    /// # Errors
    /// If it is at neither place, or is another one there.
    pub fn open(&self, before: Option<Encoder>) -> Result<Encoder> {
        if let Some(encoder) = before.filter(|encoder| encoder.pretrained().is_ok_and(|it| it == *self)) {
            return Ok(encoder);
        }
        let name = self.identity.rsplit_once('@').map_or("", |(name, _)| name);
        let elsewhere = std::env::var_os(ENCODERS).map(|dir| Path::new(&dir).join(name));
        let Some(path) =
            [Some(self.path.clone()), elsewhere].into_iter().flatten().find(|path| path.exists())
        else {
            let reason = format!("a worker has no encoder {name}: there is no {}", self.path.display());
            let help = format!("put it there on every machine, or into a directory that {ENCODERS} names");
            return Err(Error::config(KEY, reason, help));
        };
        let encoder = Encoder::open(&path, self.max_seq_length)?;
        encoder.check_identity(&self.identity)?;
        Ok(Encoder { path: self.path.clone(), ..encoder })
    }
}

/// What runs it.
#[derive(Clone, Debug)]
enum Network {
    #[cfg(feature = "encoder")]
    Bert(std::sync::Arc<bert::TextEncoder>),
    #[cfg(feature = "onnx")]
    Onnx(std::sync::Arc<onnx::OnnxEncoder>),
}

/// Values to encode, one a row.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "onnx"), allow(dead_code, reason = "what takes vectors, or anything, was left out"))]
pub enum Values<'a> {
    Texts(&'a [&'a str]),
    Vectors(&'a Matrix),
}

/// A value that has no embedding: its place among the values, and why.
pub(super) type Fault = (usize, String);

impl Encoder {
    /// Reads a folder with `config.json`, `model.safetensors` and `tokenizer.json`, or a `.onnx` file. Texts are cut at
    /// `max_seq_length` tokens, special ones included; None: where the model's own files say. O(bytes of the weights).
    ///
    /// # Errors
    /// A config error if the path, the architecture or a setting cannot be used, or this build lacks the feature for it;
    /// an input error if a file is missing or damaged.
    pub fn open(path: &Path, max_seq_length: Option<u32>) -> Result<Encoder> {
        if !path.exists() {
            let reason = format!("there is no {}", path.display());
            return Err(Error::config(KEY, reason, "name the folder of a model, or an .onnx file"));
        }
        if path.is_dir() {
            return Self::open_folder(path, max_seq_length);
        }
        match path.extension().and_then(|e| e.to_str()) {
            Some("onnx") => Self::open_onnx(path, max_seq_length),
            _ => Err(Error::config(
                KEY,
                format!("{} is neither a folder nor an .onnx file", path.display()),
                "name the folder that holds config.json and model.safetensors, or an .onnx file",
            )),
        }
    }

    #[cfg(feature = "encoder")]
    fn open_folder(path: &Path, max_seq_length: Option<u32>) -> Result<Encoder> {
        let mut files = folder::Files::new(path);
        let network = bert::TextEncoder::open(&mut files, max_seq_length)?;
        let (dims, about) = (network.dims(), network.about());
        let network = Network::Bert(network.into());
        let (name, path) = (folder::name(path), path.into());
        Ok(Encoder { name, blake3: files.hash(), dims, about, network, path, max_seq_length })
    }

    #[cfg(not(feature = "encoder"))]
    fn open_folder(_: &Path, _: Option<u32>) -> Result<Encoder> {
        Err(left_out("encoder"))
    }

    #[cfg(feature = "onnx")]
    fn open_onnx(path: &Path, max_seq_length: Option<u32>) -> Result<Encoder> {
        let mut files = folder::Files::new(path.parent().unwrap_or(Path::new("")));
        let network = onnx::OnnxEncoder::open(&mut files, path, max_seq_length)?;
        let (dims, about) = (network.dims(), network.about());
        let network = Network::Onnx(network.into());
        let (name, path) = (folder::name(path), path.into());
        Ok(Encoder { name, blake3: files.hash(), dims, about, network, path, max_seq_length })
    }

    #[cfg(not(feature = "onnx"))]
    fn open_onnx(_: &Path, _: Option<u32>) -> Result<Encoder> {
        Err(left_out("onnx"))
    }

    /// Name of the folder or file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and BLAKE3 (hex) of the files it was read from, as `features.encoder` of a plan has it: `NAME@BLAKE3`.
    pub fn identity(&self) -> String {
        format!("{}@{}", self.name, self.blake3)
    }

    /// By what another process finds it.
    pub fn pretrained(&self) -> Result<Pretrained> {
        let path = std::path::absolute(&self.path).map_err(Error::io("find", &self.path))?;
        Ok(Pretrained { path, max_seq_length: self.max_seq_length, identity: self.identity() })
    }

    /// Errs if a plan or config asks for another one. The name may differ.
    pub fn check_identity(&self, asked: &str) -> Result<()> {
        let (name, blake3) = asked.rsplit_once('@').unwrap_or(("", asked));
        if blake3 == self.blake3 {
            return Ok(());
        }
        let reason = format!("is {}, not the encoder that is asked for, {name}@{blake3}", self.identity());
        Err(Error::config(
            KEY,
            reason,
            "name the same model; another one makes other points, and another plan",
        ))
    }

    /// Numbers of an embedding.
    pub fn dims(&self) -> usize {
        self.dims
    }

    /// One line for people: architecture, tokens, pooling.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Bytes of its weights.
    pub fn bytes(&self) -> usize {
        match &self.network {
            #[cfg(feature = "encoder")]
            Network::Bert(network) => network.bytes(),
            #[cfg(feature = "onnx")]
            Network::Onnx(network) => network.bytes(),
            #[cfg(not(feature = "encoder"))]
            _ => 0,
        }
    }

    /// Bytes that a thread needs at work, roughly.
    pub fn working_bytes(&self) -> usize {
        match &self.network {
            #[cfg(feature = "encoder")]
            Network::Bert(network) => network.working_bytes(),
            #[cfg(feature = "onnx")]
            Network::Onnx(network) => network.working_bytes(),
            #[cfg(not(feature = "encoder"))]
            _ => 0,
        }
    }

    /// Errs if values of this kind are not what it takes.
    pub fn check_kind(&self, column: &str, kind: &Kind) -> Result<()> {
        let wants = match (&self.network, kind) {
            #[cfg(feature = "encoder")]
            (Network::Bert(_), Kind::Text) => return Ok(()),
            #[cfg(feature = "encoder")]
            (Network::Bert(_), _) => "text".to_string(),
            #[cfg(feature = "onnx")]
            (Network::Onnx(network), kind) => match network.wants(kind) {
                Ok(()) => return Ok(()),
                Err(wants) => wants,
            },
            #[cfg(not(feature = "encoder"))]
            _ => String::new(),
        };
        let has = match kind {
            Kind::Vector { dims } => format!("vectors of {dims} numbers"),
            Kind::Text => "text".into(),
            Kind::Integer | Kind::Float => "numbers".into(),
            Kind::Boolean => "booleans".into(),
            Kind::Labels => "lists of text".into(),
            Kind::Other => "values of another type".into(),
        };
        let reason = format!("column `{column}` holds {has}, and the encoder {} takes {wants}", self.name);
        Err(Error::config(
            "features.encode",
            reason,
            format!("choose a column of {wants}, or another encoder"),
        ))
    }

    /// Embeddings of the values: row `i` of `out` (as many rows of [`dims`](Encoder::dims) numbers) is that of value `i`.
    /// On the calling thread, stopping within a batch when the run is cancelled. Returns the values that have none.
    pub(super) fn encode(&self, values: Values, out: &mut [f32], progress: &Progress) -> Result<Vec<Fault>> {
        match (&self.network, values) {
            #[cfg(feature = "encoder")]
            (Network::Bert(network), Values::Texts(texts)) => network.encode(texts, out, progress)?,
            #[cfg(feature = "encoder")]
            (Network::Bert(_), Values::Vectors(_)) => unreachable!("the column's kind was checked"),
            #[cfg(feature = "onnx")]
            (Network::Onnx(network), values) => network.encode(values, out, progress)?,
            #[cfg(not(feature = "encoder"))]
            _ => {
                let _ = (values, progress);
            }
        }
        Ok(self.faults(out))
    }

    /// The rows with a number that is none; they become zeros.
    fn faults(&self, out: &mut [f32]) -> Vec<Fault> {
        let mut faults = Vec::new();
        for (i, row) in out.chunks_exact_mut(self.dims).enumerate() {
            if let Some(place) = row.iter().position(|x| !x.is_finite()) {
                let what = if row[place].is_nan() { "NaN" } else { "an infinite number" };
                faults.push((i, format!("gets {what} at place {place} from the encoder {}", self.name)));
                row.fill(0.0);
            }
        }
        faults
    }
}

#[cfg(not(all(feature = "encoder", feature = "onnx")))]
fn left_out(feature: &str) -> Error {
    Error::config(
        KEY,
        format!("this batchwright was built without the feature `{feature}`, which runs such an encoder"),
        format!("build it with `cargo install --path . --locked --features {feature}`"),
    )
}

#[cfg(all(test, feature = "encoder"))]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/encoders").join(name)
    }

    fn open(name: &str) -> Result<Encoder> {
        Encoder::open(&fixture(name), None)
    }

    /// What torch or ONNX Runtime made of the texts (fixtures/encoders/make.py).
    fn expected(name: &str) -> (Vec<String>, Vec<Vec<f32>>) {
        let text = std::fs::read_to_string(fixture("expected.json")).unwrap();
        let mut all: serde_json::Value = serde_json::from_str(&text).unwrap();
        let embeddings = all["embeddings"][name].take();
        (serde_json::from_value(all["texts"].take()).unwrap(), serde_json::from_value(embeddings).unwrap())
    }

    fn encode(encoder: &Encoder, texts: &[&str]) -> Vec<Vec<f32>> {
        let mut out = vec![f32::NAN; texts.len() * encoder.dims()];
        let faults = encoder.encode(Values::Texts(texts), &mut out, &Progress::default()).unwrap();
        assert_eq!(faults, []);
        out.chunks_exact(encoder.dims()).map(<[f32]>::to_vec).collect()
    }

    fn assert_close(got: &[Vec<f32>], want: &[Vec<f32>]) {
        assert_eq!(got.len(), want.len());
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            assert_eq!(got.len(), want.len());
            for (x, y) in got.iter().zip(want) {
                assert!((x - y).abs() < 1e-5 * (1.0 + y.abs()), "row {i}: {x} is not {y}");
            }
        }
    }

    const FOLDERS: [&str; 4] = ["bert", "roberta", "distilbert", "mpnet"];

    #[test]
    fn folders_give_what_torch_gives() {
        for name in FOLDERS {
            let encoder = open(name).unwrap();
            let (texts, want) = expected(name);
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            assert_close(&encode(&encoder, &texts), &want);
            assert!(encoder.about().contains("24 tokens"), "{}", encoder.about());
        }
    }

    #[test]
    fn an_embedding_depends_on_its_text_alone() {
        for name in FOLDERS {
            let encoder = open(name).unwrap();
            let (texts, _) = expected(name);
            // More than one batch of tokens.
            let many: Vec<&str> = texts.iter().map(String::as_str).cycle().take(83).collect();
            let together = encode(&encoder, &many);
            for (text, row) in many.iter().zip(&together) {
                assert_eq!(encode(&encoder, &[text])[0], *row, "bit for bit");
            }
        }
    }

    #[test]
    fn the_length_can_be_set_and_changes_the_long_texts_only() {
        let (texts, _) = expected("bert");
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let own = encode(&open("bert").unwrap(), &texts);
        let longer = encode(&Encoder::open(&fixture("bert"), Some(40)).unwrap(), &texts);
        assert_eq!(own[0], longer[0]);
        assert_ne!(own[5], longer[5]);
        for bad in [0, 2, 41] {
            let e = Encoder::open(&fixture("bert"), Some(bad)).unwrap_err();
            assert!(e.to_string().contains("between 3 and 40"), "{e}");
        }
    }

    #[test]
    fn the_identity_is_that_of_the_files() {
        let (bert, mpnet) = (open("bert").unwrap(), open("mpnet").unwrap());
        assert!(bert.identity().starts_with("bert@") && bert.identity().len() == 5 + 64);
        assert!(bert.check_identity(&bert.identity().replace("bert@", "moved@")).is_ok());
        assert_eq!(bert.check_identity(&mpnet.identity()).unwrap_err().exit_code(), 2);
    }

    /// A copy of a fixture with one file changed (None: removed), and the complaint about it.
    fn spoilt(name: &str, file: &str, change: impl Fn(Vec<u8>) -> Option<Vec<u8>>) -> Error {
        fn copy(from: &Path, to: &Path) {
            std::fs::create_dir_all(to).unwrap();
            for entry in std::fs::read_dir(from).unwrap() {
                let path = entry.unwrap().path();
                let to = to.join(path.file_name().unwrap());
                if path.is_dir() {
                    copy(&path, &to);
                } else {
                    std::fs::copy(&path, to).unwrap();
                }
            }
        }
        let dir = tempfile::tempdir().unwrap();
        copy(&fixture(name), dir.path());
        let path = dir.path().join(file);
        match change(std::fs::read(&path).unwrap()) {
            Some(bytes) => std::fs::write(path, bytes).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        Encoder::open(dir.path(), None).unwrap_err()
    }

    #[test]
    fn what_is_wrong_with_a_folder_is_said() {
        let replace = |from: &'static str, to: &'static str| {
            move |bytes: Vec<u8>| Some(String::from_utf8(bytes).unwrap().replace(from, to).into_bytes())
        };
        let said = |e: Error, words: &[&str]| {
            let text = format!("{e} {}", e.help());
            for word in words {
                assert!(text.contains(word), "no `{word}` in: {text}");
            }
        };
        for file in ["config.json", "tokenizer.json", "model.safetensors"] {
            said(spoilt("bert", file, |_| None), &["has no", file]);
            said(spoilt("bert", file, |b| Some(b[..b.len() / 2].into())), &[file, "cannot be read"]);
        }
        let e =
            spoilt("bert", "config.json", replace("\"model_type\": \"bert\"", "\"model_type\": \"qwen3\""));
        said(e, &["`qwen3` (BertModel)", "xlm-roberta", "ONNX"]);
        let e = spoilt("bert", "config.json", replace("\"gelu\"", "\"swish\""));
        said(e, &["activation `swish`"]);
        let e = spoilt("bert", "config.json", replace("\"hidden_size\": 8", "\"hidden_size\": 10"));
        said(e, &["model.safetensors", "does not fit config.json"]);
        let e = spoilt("bert", "config.json", replace("_layers\": 2", "_layers\": 3"));
        said(e, &["no tensor `encoder.layer.2.attention.self.query.weight`"]);
        let e = spoilt("bert", "modules.json", replace("normalize.Normalize", "dense.Dense"));
        said(e, &["module `Dense`"]);
        let e = spoilt("bert", "1_Pooling/config.json", replace("\"mean\"", "\"lasttoken\""));
        said(e, &["pooling `lasttoken`", "cls"]);
        let missing = Encoder::open(Path::new("no/such/folder"), None).unwrap_err();
        said(missing, &["there is no no/such/folder"]);
        let strange = Encoder::open(&fixture("expected.json"), None).unwrap_err();
        said(strange, &["neither a folder nor an .onnx file"]);
    }

    #[test]
    fn numbers_that_are_none_are_told() {
        let mut encoder = open("bert").unwrap();
        encoder.dims = 1; // A row of one number; the text's are broken below.
        let mut out = vec![1.0, f32::NAN, f32::INFINITY];
        let faults: Vec<Fault> = encoder.faults(&mut out);
        assert_eq!(faults.len(), 2);
        assert!(faults[0].1.contains("NaN") && faults[1].1.contains("infinite"), "{faults:?}");
        assert_eq!(out, [1.0, 0.0, 0.0]);
    }

    #[cfg(feature = "onnx")]
    mod onnx {
        use super::*;

        #[test]
        fn text_models_give_what_onnx_runtime_gives() {
            for name in ["text/tokens.onnx", "text/pooled.onnx"] {
                let encoder = open(name).unwrap();
                let (texts, want) = expected(name);
                let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                assert_close(&encode(&encoder, &texts), &want);
            }
        }

        #[test]
        fn vector_models_give_what_onnx_runtime_gives() {
            let encoder = open("vectors.onnx").unwrap();
            let (_, want) = expected("vectors.onnx");
            let given = (0..40 * 64).map(|i| (i % 17) as f32).collect();
            let given = Matrix::from_vec(40, 64, given);
            let run = |given: &Matrix| {
                let mut out = vec![f32::NAN; given.rows() * 5];
                encoder.encode(Values::Vectors(given), &mut out, &Progress::default()).unwrap();
                out.chunks_exact(5).map(<[f32]>::to_vec).collect::<Vec<_>>()
            };
            let together = run(&given);
            assert_close(&together, &want);
            for (i, want) in together.iter().enumerate() {
                assert_eq!(run(&given.gather([i].into_iter()))[0], *want, "bit for bit");
            }
            let (text, wrong) = (Kind::Text, Kind::Vector { dims: 63 });
            assert!(encoder.check_kind("c", &Kind::Vector { dims: 64 }).is_ok());
            for kind in [text, wrong] {
                let e = encoder.check_kind("c", &kind).unwrap_err().to_string();
                assert!(e.contains("takes vectors of 64 numbers"), "{e}");
            }
        }

        #[test]
        fn shapes_that_do_not_fit_are_told() {
            let e = open("text/fixed.onnx").unwrap_err();
            assert!(
                e.to_string().contains("has the shape [1, 16]") && e.help().contains("dynamic axes"),
                "{e}"
            );
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("broken.onnx");
            std::fs::write(&path, b"not a model").unwrap();
            let e = Encoder::open(&path, None).unwrap_err();
            assert!(e.to_string().contains("cannot be run as an ONNX model"), "{e}");
            // A text model without its tokenizer.
            std::fs::copy(fixture("text/tokens.onnx"), &path).unwrap();
            let e = Encoder::open(&path, None).unwrap_err();
            assert!(e.to_string().contains("has no tokenizer.json"), "{e}");
        }
    }
}

#[cfg(all(test, not(feature = "encoder")))]
mod without {
    use super::*;

    #[test]
    fn the_missing_feature_is_named() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/encoders");
        for (path, feature) in [("bert", "`encoder`"), ("vectors.onnx", "`onnx`")] {
            let e = Encoder::open(&folder.join(path), None).unwrap_err();
            assert!(e.to_string().contains(feature) && e.exit_code() == 2, "{e}");
        }
    }
}
