//! The files beside a network: what sentence-transformers says about tokens, pooling and length.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokenizers::{Tokenizer, TruncationParams};

use super::KEY;
use crate::kit::error::{Error, Result};

/// Last part of a path, `.` and links resolved.
pub fn name(path: &Path) -> String {
    let full = path.canonicalize().unwrap_or_else(|_| path.into());
    full.file_name().map_or_else(|| "encoder".into(), |n| n.to_string_lossy().into_owned())
}

/// Files of one folder. Remembers the hash of each that was read: together they are the identity of the encoder.
pub struct Files {
    root: PathBuf,
    hashes: Vec<(String, blake3::Hash)>,
}

impl Files {
    pub fn new(root: &Path) -> Self {
        let here = root.as_os_str().is_empty();
        Files { root: if here { ".".into() } else { root.into() }, hashes: Vec::new() }
    }

    /// The same record for the files of another folder.
    #[cfg(feature = "onnx")]
    pub fn move_to(&mut self, root: PathBuf) {
        self.root = root;
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// None if it is not there.
    pub fn read(&mut self, name: &str) -> Result<Option<Vec<u8>>> {
        let path = self.root.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => {
                self.hashes.push((name.into(), blake3::hash(&bytes)));
                Ok(Some(bytes))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(Error::io("read", path)(e)),
        }
    }

    pub fn json<T: DeserializeOwned>(&mut self, name: &str) -> Result<Option<T>> {
        let Some(bytes) = self.read(name)? else { return Ok(None) };
        let wrong = |e: serde_json::Error| self.damaged(name, format!("cannot be read: {e}"));
        serde_json::from_slice(&bytes).map(Some).map_err(wrong)
    }

    pub fn missing(&self, name: &str, help: &str) -> Error {
        Error::config(KEY, format!("{} has no {name}", self.root.display()), help)
    }

    pub fn damaged(&self, name: &str, reason: impl Into<String>) -> Error {
        let path = self.root.join(name).display().to_string();
        Error::input(path, reason, "download or export the model again")
    }

    /// BLAKE3 (hex) over names and contents, in the order of names.
    pub fn hash(mut self) -> String {
        self.hashes.sort_by(|a, b| a.0.cmp(&b.0));
        let mut all = blake3::Hasher::new();
        for (name, hash) in self.hashes {
            all.update(&(name.len() as u64).to_le_bytes());
            all.update(name.as_bytes());
            all.update(hash.as_bytes());
        }
        all.finalize().to_hex().to_string()
    }
}

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    #[default]
    Mean,
    /// The mean times the root of the number of tokens.
    MeanSqrtLen,
    /// The first token's.
    Cls,
    Max,
}

impl Pooling {
    const NAMES: [(&str, Pooling); 4] = [
        ("mean", Pooling::Mean),
        ("mean_sqrt_len_tokens", Pooling::MeanSqrtLen),
        ("cls", Pooling::Cls),
        ("max", Pooling::Max),
    ];

    pub fn name(self) -> &'static str {
        Pooling::NAMES.iter().find(|n| n.1 == self).expect("all are named").0
    }

    /// `tokens` are rows as long as `out`; at least one.
    pub fn apply(self, tokens: &[f32], out: &mut [f32]) {
        let rows = tokens.chunks_exact(out.len());
        let n = rows.len() as f32;
        match self {
            Pooling::Cls => out.copy_from_slice(&tokens[..out.len()]),
            Pooling::Max => {
                out.fill(f32::NEG_INFINITY);
                for row in rows {
                    for (o, &x) in out.iter_mut().zip(row) {
                        *o = if x > *o || x.is_nan() { x } else { *o };
                    }
                }
            }
            Pooling::Mean | Pooling::MeanSqrtLen => {
                out.fill(0.0);
                for row in rows {
                    for (o, x) in out.iter_mut().zip(row) {
                        *o += x;
                    }
                }
                let by = if self == Pooling::Mean { n } else { n.sqrt() };
                out.iter_mut().for_each(|o| *o /= by);
            }
        }
    }
}

/// What stands around the network of a text encoder.
#[derive(Clone, Debug)]
pub struct Recipe {
    tokenizer: Tokenizer,
    pub max_seq_length: usize,
    pub pooling: Pooling,
    /// Whether embeddings are scaled to length 1.
    pub normalise: bool,
    prompt: String,
    lower: bool,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Sentence {
    max_seq_length: Option<usize>,
    do_lower_case: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Lengths {
    model_max_length: Option<f64>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Prompts {
    prompts: std::collections::BTreeMap<String, String>,
    default_prompt_name: Option<String>,
}

impl Recipe {
    /// Reads `tokenizer.json`, which must be there, and what there is of `modules.json` (the pooling it names),
    /// `sentence_bert_config.json`, `config_sentence_transformers.json` and `tokenizer_config.json`. Without
    /// `modules.json`: the mean of all tokens, as sentence-transformers does. `positions`: most tokens that the network
    /// can take, if it says.
    pub fn read(files: &mut Files, positions: Option<usize>, max_seq_length: Option<u32>) -> Result<Recipe> {
        let Some(bytes) = files.read("tokenizer.json")? else {
            let help = "it says how text becomes tokens; save the tokenizer with `tokenizer.save_pretrained(DIR)` of the \
                        transformers library, which writes it";
            return Err(files.missing("tokenizer.json", help));
        };
        let wrong = |e: tokenizers::Error| files.damaged("tokenizer.json", format!("cannot be read: {e}"));
        let mut tokenizer = Tokenizer::from_bytes(&bytes).map_err(wrong)?;

        let (mut pooling, mut normalise) = (Pooling::Mean, false);
        for module in files.json::<Vec<Module>>("modules.json")?.unwrap_or_default() {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" => {}
                "Pooling" => {
                    let name = format!("{}/config.json", module.path);
                    let value = files.json::<serde_json::Value>(&name)?;
                    let value = value.ok_or_else(|| files.missing(&name, "modules.json names it"))?;
                    pooling = read_pooling(&value).map_err(|reason| files.damaged(&name, reason))?;
                }
                "Normalize" => normalise = true,
                other => {
                    let reason = format!("{} has a module `{other}`", files.root().display());
                    let help = "only Transformer, Pooling and Normalize can be run; export the whole model to ONNX, or \
                                store the embeddings as a column";
                    return Err(Error::config(KEY, reason, help));
                }
            }
        }
        let sentence: Sentence = files.json("sentence_bert_config.json")?.unwrap_or_default();
        let prompts: Prompts = files.json("config_sentence_transformers.json")?.unwrap_or_default();
        let prompt = prompts.default_prompt_name.and_then(|name| prompts.prompts.get(&name).cloned());
        let lengths: Lengths = files.json("tokenizer_config.json")?.unwrap_or_default();

        // What has no limit says 1e30.
        let own = sentence
            .max_seq_length
            .or(lengths.model_max_length.filter(|n| (1.0..1e9).contains(n)).map(|n| n as usize));
        let most = positions.unwrap_or(usize::MAX);
        let max_seq_length = match (max_seq_length, own, positions) {
            (Some(asked), ..) => asked as usize,
            (None, Some(own), _) => own.min(most),
            (None, None, Some(positions)) => positions,
            (None, None, None) => 512,
        };
        let special = tokenizer.get_post_processor().map_or(0, |p| {
            use tokenizers::PostProcessor;
            p.added_tokens(false)
        });
        if max_seq_length > most || max_seq_length <= special {
            let bounds = match positions {
                Some(most) => format!("between {} and {most}", special + 1),
                None => format!("at least {}", special + 1),
            };
            return Err(Error::config(
                "features.max_seq_length",
                format!(
                    "is {max_seq_length}; this encoder takes {bounds} tokens, {special} special ones among them"
                ),
                "leave --max-seq-length out to take as many as the model was trained with",
            ));
        }
        // Texts are never padded here, and cut where the settings say, not where the file does.
        tokenizer.with_padding(None);
        let cut = TruncationParams { max_length: max_seq_length, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(cut)).map_err(|e| files.damaged("tokenizer.json", e.to_string()))?;
        Ok(Recipe {
            tokenizer,
            max_seq_length,
            pooling,
            normalise,
            prompt: prompt.unwrap_or_default(),
            lower: sentence.do_lower_case,
        })
    }

    /// Token ids of a text, special ones included.
    pub fn tokens(&self, text: &str) -> Result<Vec<u32>> {
        let mut text = format!("{}{}", self.prompt, text.trim());
        if self.lower {
            text = text.to_lowercase();
        }
        let wrong =
            |e: tokenizers::Error| Error::input("tokenizer.json", format!("cannot cut a text: {e}"), "");
        Ok(self.tokenizer.encode_fast(text, true).map_err(wrong)?.get_ids().to_vec())
    }

    /// Token ids are below this.
    pub fn vocabulary(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// The embedding from the vectors of a text's tokens.
    pub fn finish(&self, tokens: &[f32], out: &mut [f32]) {
        self.pooling.apply(tokens, out);
        self.scale(out);
    }

    /// Length 1, where the recipe says so.
    pub fn scale(&self, out: &mut [f32]) {
        if self.normalise {
            let square: f64 = out.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            // As torch.nn.functional.normalize: zeros stay zeros.
            let length = square.sqrt().max(1e-12);
            out.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }

    pub fn about(&self) -> String {
        let unit = if self.normalise { ", length 1" } else { "" };
        format!("{} tokens, {} pooling{unit}", self.max_seq_length, self.pooling.name())
    }
}

/// `pooling_mode`, or the flags that came before it. Exactly one way of pooling can be run.
fn read_pooling(value: &serde_json::Value) -> Result<Pooling, String> {
    const FLAGS: [(&str, &str); 6] = [
        ("pooling_mode_cls_token", "cls"),
        ("pooling_mode_max_tokens", "max"),
        ("pooling_mode_mean_tokens", "mean"),
        ("pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens"),
        ("pooling_mode_weightedmean_tokens", "weightedmean"),
        ("pooling_mode_lasttoken", "lasttoken"),
    ];
    let names: Vec<&str> = match &value["pooling_mode"] {
        serde_json::Value::String(name) => vec![name],
        serde_json::Value::Array(names) => names.iter().filter_map(|n| n.as_str()).collect(),
        _ => FLAGS.iter().filter(|(flag, _)| value[*flag] == true).map(|(_, name)| *name).collect(),
    };
    if value["include_prompt"] == false {
        return Err("leaves the prompt out of the pooling, which cannot be run".into());
    }
    match &names[..] {
        [one] => Pooling::NAMES.iter().find(|n| n.0 == *one).map(|n| n.1),
        _ => None,
    }
    .ok_or_else(|| {
        let known: Vec<&str> = Pooling::NAMES.iter().map(|n| n.0).collect();
        format!("asks for the pooling `{}`; one of {} can be run", names.join(" and "), known.join(", "))
    })
}
