//! Encoders of the BERT family, from a Hugging Face folder: BERT (Devlin et al. 2019), RoBERTa and XLM-RoBERTa (Liu et al.
//! 2019, Conneau et al. 2020), DistilBERT (Sanh et al. 2019), MPNet (Song et al. 2020).
//!
//! They are one network with different names of tensors: token and position embeddings, then layers of attention and two
//! linear layers, each with its residual and a normalisation after it. The texts of a batch lie one after the other
//! without padding, so nothing is computed that no token needs, and a text's numbers do not depend on its neighbours.
//! O(tokens x hidden x (hidden + intermediate) + sum of squared lengths x hidden) a layer.

use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

use super::KEY;
use super::folder::{Files, Recipe};
use crate::kernels::transformer::{Activation, Attention, Linear, Normalisation, Scratch};
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;

const WEIGHTS: &str = "model.safetensors";
/// Texts are encoded together until they have this many tokens: enough rows for one reading of the weights, few enough
/// for the activations to stay in the cache.
const BATCH_TOKENS: usize = 512;

/// The fields of config.json that matter, in the names of BERT; DistilBERT's are the aliases.
#[derive(Debug, Deserialize)]
struct Config {
    #[serde(alias = "dim")]
    hidden_size: usize,
    #[serde(alias = "n_layers")]
    num_hidden_layers: usize,
    #[serde(alias = "n_heads")]
    num_attention_heads: usize,
    #[serde(alias = "hidden_dim")]
    intermediate_size: usize,
    #[serde(alias = "activation")]
    hidden_act: String,
    #[serde(default = "epsilon")]
    layer_norm_eps: f32,
    max_position_embeddings: usize,
    #[serde(default)]
    pad_token_id: usize,
    position_embedding_type: Option<String>,
    relative_attention_num_buckets: Option<usize>,
}

fn epsilon() -> f32 {
    1e-12
}

/// How a member of the family names its tensors, and what it does differently.
#[derive(Clone, Copy)]
struct Family {
    model_type: &'static str,
    /// What may stand before every name.
    prefix: &'static str,
    layer: &'static str,
    query: &'static str,
    key: &'static str,
    value: &'static str,
    attended: &'static str,
    attended_norm: &'static str,
    up: &'static str,
    down: &'static str,
    norm: &'static str,
    /// Positions are counted from the padding's id + 1, not from 0.
    positions_after_padding: bool,
    /// Scores get a bias by distance.
    relative: bool,
}

const BERT: Family = Family {
    model_type: "bert",
    prefix: "bert.",
    layer: "encoder.layer",
    query: "attention.self.query",
    key: "attention.self.key",
    value: "attention.self.value",
    attended: "attention.output.dense",
    attended_norm: "attention.output.LayerNorm",
    up: "intermediate.dense",
    down: "output.dense",
    norm: "output.LayerNorm",
    positions_after_padding: false,
    relative: false,
};
const ROBERTA: Family =
    Family { model_type: "roberta", prefix: "roberta.", positions_after_padding: true, ..BERT };
const XLM_ROBERTA: Family = Family { model_type: "xlm-roberta", ..ROBERTA };
const DISTILBERT: Family = Family {
    model_type: "distilbert",
    prefix: "distilbert.",
    layer: "transformer.layer",
    query: "attention.q_lin",
    key: "attention.k_lin",
    value: "attention.v_lin",
    attended: "attention.out_lin",
    attended_norm: "sa_layer_norm",
    up: "ffn.lin1",
    down: "ffn.lin2",
    norm: "output_layer_norm",
    ..BERT
};
const MPNET: Family = Family {
    model_type: "mpnet",
    prefix: "mpnet.",
    query: "attention.attn.q",
    key: "attention.attn.k",
    value: "attention.attn.v",
    attended: "attention.attn.o",
    attended_norm: "attention.LayerNorm",
    positions_after_padding: true,
    relative: true,
    ..BERT
};
const FAMILIES: [Family; 5] = [BERT, ROBERTA, XLM_ROBERTA, DISTILBERT, MPNET];

/// A text encoder with its weights.
#[derive(Debug)]
pub struct TextEncoder {
    recipe: Recipe,
    model_type: &'static str,
    hidden: usize,
    activation: Activation,
    /// Rows of `hidden` numbers: of tokens, and of positions with the one segment there is already added.
    words: Vec<f32>,
    positions: Vec<f32>,
    norm: Normalisation,
    attention: Attention,
    layers: Vec<Layer>,
}

#[derive(Debug)]
struct Layer {
    qkv: Linear,
    attended: Linear,
    attended_norm: Normalisation,
    up: Linear,
    down: Linear,
    norm: Normalisation,
}

/// Activations of a batch, to be used again.
#[derive(Default)]
struct Buffers {
    x: Vec<f32>,
    qkv: Vec<f32>,
    attended: Vec<f32>,
    y: Vec<f32>,
    up: Vec<f32>,
    scratch: Scratch,
}

impl TextEncoder {
    pub fn open(files: &mut Files, max_seq_length: Option<u32>) -> Result<Self> {
        let (config, family) = read_config(files)?;
        // Positions that a text can have: RoBERTa's first ones belong to the padding.
        let skipped = if family.positions_after_padding { config.pad_token_id + 1 } else { 0 };
        let positions = config.max_position_embeddings.saturating_sub(skipped);
        let recipe = Recipe::read(files, Some(positions), max_seq_length)?;
        let Some(bytes) = files.read(WEIGHTS)? else {
            let help = "weights are read from one safetensors file; save the model with `model.save_pretrained(DIR)` of \
                        the transformers library, which writes it";
            return Err(files.missing(WEIGHTS, help));
        };
        let weights = Weights::new(files, &bytes, family.prefix)?;
        let hidden = config.hidden_size;
        let length = recipe.max_seq_length;

        let words = weights.matrix("embeddings.word_embeddings.weight", hidden)?;
        if words.len() / hidden < recipe.vocabulary() {
            let (rows, ids) = (words.len() / hidden, recipe.vocabulary());
            let reason =
                format!("has {rows} tokens, but tokenizer.json has {ids}: they are of different models");
            return Err(files.damaged(WEIGHTS, reason));
        }
        let mut position = weights.matrix("embeddings.position_embeddings.weight", hidden)?;
        if position.len() < (skipped + length) * hidden {
            let reason = format!("has {} positions, fewer than config.json says", position.len() / hidden);
            return Err(files.damaged(WEIGHTS, reason));
        }
        position.drain(..skipped * hidden);
        position.truncate(length * hidden);
        if let Some(segments) = weights.optional("embeddings.token_type_embeddings.weight", Some(hidden))? {
            for row in position.chunks_exact_mut(hidden) {
                row.iter_mut().zip(&segments).for_each(|(x, s)| *x += s);
            }
        }
        let heads = config.num_attention_heads;
        let width = hidden / heads;
        let mut bias = Vec::new();
        if family.relative {
            let buckets = config.relative_attention_num_buckets.unwrap_or(32);
            let table = weights.matrix("encoder.relative_attention_bias.weight", heads)?;
            if table.len() != buckets * heads {
                return Err(files.damaged(WEIGHTS, "has another number of distances than config.json says"));
            }
            bias =
                (0..heads).map(|head| relative_bias(length, buckets, |b| table[b * heads + head])).collect();
        }
        let layers = (0..config.num_hidden_layers)
            .map(|i| Layer::read(&weights, &family, &config, i))
            .collect::<Result<_>>()?;
        Ok(TextEncoder {
            recipe,
            model_type: family.model_type,
            hidden,
            activation: activation(&config.hidden_act)?,
            words,
            positions: position,
            norm: weights.norm("embeddings.LayerNorm", hidden, config.layer_norm_eps)?,
            attention: Attention { heads, width, bias },
            layers,
        })
    }

    pub fn dims(&self) -> usize {
        self.hidden
    }

    pub fn about(&self) -> String {
        format!("{}, {}", self.model_type, self.recipe.about())
    }

    pub fn bytes(&self) -> usize {
        let linear = |l: &Layer| l.qkv.bytes() + l.attended.bytes() + l.up.bytes() + l.down.bytes();
        4 * (self.words.len() + self.positions.len()) + self.layers.iter().map(linear).sum::<usize>()
    }

    pub fn working_bytes(&self) -> usize {
        let inner = self.layers.first().map_or(0, |l| l.up.outputs());
        let length = self.recipe.max_seq_length;
        4 * ((BATCH_TOKENS + length) * (6 * self.hidden + inner) + length * (length + 128))
    }

    /// Row `i` of `out` is the embedding of text `i`.
    pub fn encode(&self, texts: &[&str], out: &mut [f32], progress: &Progress) -> Result<()> {
        let mut buffers = Buffers::default();
        let (mut tokens, mut lengths) = (Vec::new(), Vec::new());
        let mut rows = out.chunks_exact_mut(self.hidden);
        for (i, text) in texts.iter().enumerate() {
            let text = self.recipe.tokens(text)?;
            lengths.push(text.len());
            tokens.extend(text);
            if tokens.len() >= BATCH_TOKENS || i + 1 == texts.len() {
                progress.check()?;
                self.forward(&tokens, &lengths, &mut buffers);
                let mut begin = 0;
                for (&n, out) in lengths.iter().zip(&mut rows) {
                    if n > 0 {
                        self.recipe.finish(&buffers.x[begin * self.hidden..][..n * self.hidden], out);
                    }
                    begin += n;
                }
                tokens.clear();
                lengths.clear();
            }
        }
        Ok(())
    }

    /// The last layer's vectors of all tokens, in `buffers.x`.
    fn forward(&self, tokens: &[u32], lengths: &[usize], buffers: &mut Buffers) {
        let d = self.hidden;
        let Buffers { x, qkv, attended, y, up, scratch } = buffers;
        x.clear();
        y.clear();
        for &token in tokens {
            x.extend_from_slice(&self.words[token as usize * d..][..d]);
        }
        for &n in lengths {
            y.extend_from_slice(&self.positions[..n * d]);
        }
        self.norm.apply(x, y);
        let n = tokens.len();
        qkv.resize(3 * n * d, 0.0);
        attended.resize(n * d, 0.0);
        for layer in &self.layers {
            layer.qkv.apply(x, Activation::None, qkv);
            self.attention.apply(qkv, lengths, scratch, attended);
            layer.attended.apply(attended, Activation::None, y);
            layer.attended_norm.apply(x, y);
            up.resize(n * layer.up.outputs(), 0.0);
            layer.up.apply(x, self.activation, up);
            layer.down.apply(up, Activation::None, y);
            layer.norm.apply(x, y);
        }
    }
}

impl Layer {
    fn read(weights: &Weights, family: &Family, config: &Config, i: usize) -> Result<Layer> {
        let (d, inner, epsilon) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let name = |part: &str| format!("{}.{i}.{part}", family.layer);
        // One product for all three; the scale of the scores goes into the queries.
        let scale = 1.0 / ((d / config.num_attention_heads) as f32).sqrt();
        let (mut weight, mut bias) = weights.pair(&name(family.query), d, d)?;
        weight.iter_mut().chain(&mut bias).for_each(|x| *x *= scale);
        for part in [family.key, family.value] {
            let (w, b) = weights.pair(&name(part), d, d)?;
            weight.extend(w);
            bias.extend(b);
        }
        let linear = |part: &str, inputs, outputs| {
            weights.pair(&name(part), inputs, outputs).map(|(w, b)| Linear::new(&w, &b))
        };
        Ok(Layer {
            qkv: Linear::new(&weight, &bias),
            attended: linear(family.attended, d, d)?,
            attended_norm: weights.norm(&name(family.attended_norm), d, epsilon)?,
            up: linear(family.up, d, inner)?,
            down: linear(family.down, inner, d)?,
            norm: weights.norm(&name(family.norm), d, epsilon)?,
        })
    }
}

fn read_config(files: &mut Files) -> Result<(Config, Family)> {
    const NAME: &str = "config.json";
    let Some(value) = files.json::<serde_json::Value>(NAME)? else {
        let help = "name the folder that holds config.json, model.safetensors and tokenizer.json";
        return Err(files.missing(NAME, help));
    };
    let unsupported = |reason: String| {
        let known: Vec<&str> = FAMILIES.iter().map(|f| f.model_type).collect();
        let help = format!(
            "folders of {} can be run; export another model to ONNX and name the .onnx file, or store its embeddings as a \
             column",
            known.join(", ")
        );
        Error::config(KEY, format!("{}: {reason}", files.root().join(NAME).display()), help)
    };
    let model_type = value["model_type"].as_str().unwrap_or_default().to_string();
    // The class, if there is one, is what people know the model by.
    let class = value["architectures"][0].as_str().map_or(String::new(), |class| format!(" ({class})"));
    let Some(family) = FAMILIES.into_iter().find(|f| f.model_type == model_type) else {
        return Err(unsupported(format!("the architecture `{model_type}`{class} cannot be run")));
    };
    let config: Config = serde_json::from_value(value)
        .map_err(|e| files.damaged(NAME, format!("does not describe a {model_type} model: {e}")))?;
    if let Some(kind) = config.position_embedding_type.as_deref().filter(|k| *k != "absolute") {
        return Err(unsupported(format!("position embeddings of type `{kind}` cannot be run")));
    }
    let (d, heads) = (config.hidden_size, config.num_attention_heads);
    if d == 0 || heads == 0 || !d.is_multiple_of(heads) || config.intermediate_size == 0 {
        let reason =
            format!("has {heads} attention heads for {d} numbers, which is no whole number for each");
        return Err(files.damaged(NAME, reason));
    }
    activation(&config.hidden_act)?;
    Ok((config, family))
}

fn activation(name: &str) -> Result<Activation> {
    match name {
        "gelu" => Ok(Activation::Gelu),
        "gelu_new" | "gelu_pytorch_tanh" => Ok(Activation::GeluTanh),
        "relu" => Ok(Activation::Relu),
        other => Err(Error::config(
            KEY,
            format!("the activation `{other}` of config.json cannot be run"),
            "gelu, gelu_new, gelu_pytorch_tanh and relu can; export the model to ONNX and name the .onnx file",
        )),
    }
}

/// What MPNet adds to the score of a pair of tokens `key - query` apart, from `1 - length` to `length - 1`: half of the
/// buckets look back and half ahead; in each, near distances have their own bucket and far ones share logarithmic ones.
fn relative_bias(length: usize, buckets: usize, value: impl Fn(usize) -> f32) -> Vec<f32> {
    const FAR: f32 = 128.0;
    let half = buckets / 2;
    let exact = half / 2;
    let bucket = |ahead: i64| {
        let side = if ahead > 0 { half } else { 0 };
        let n = ahead.unsigned_abs() as usize;
        if n < exact {
            return side + n;
        }
        let share = libm::logf(n as f32 / exact as f32) / libm::logf(FAR / exact as f32);
        side + (exact + (share * (half - exact) as f32) as usize).min(half - 1)
    };
    (1 - length as i64..length as i64).map(|ahead| value(bucket(ahead))).collect()
}

/// Tensors by name.
struct Weights<'a> {
    files: &'a Files,
    tensors: SafeTensors<'a>,
    prefix: &'static str,
}

impl<'a> Weights<'a> {
    fn new(files: &'a Files, bytes: &'a [u8], prefix: &'static str) -> Result<Self> {
        let wrong = |e: safetensors::SafeTensorError| files.damaged(WEIGHTS, format!("cannot be read: {e}"));
        let tensors = SafeTensors::deserialize(bytes).map_err(wrong)?;
        Ok(Weights { files, tensors, prefix })
    }

    /// A tensor as `f32`; None if there is none of this name, with or without the prefix.
    fn optional(&self, name: &str, columns: Option<usize>) -> Result<Option<Vec<f32>>> {
        let names = [name.to_string(), format!("{}{name}", self.prefix)];
        let Some(tensor) = names.iter().find_map(|name| self.tensors.tensor(name).ok()) else {
            return Ok(None);
        };
        let shape = tensor.shape();
        if columns.is_some_and(|columns| shape.last() != Some(&columns)) {
            let reason = format!("`{name}` has the shape {shape:?}, which does not fit config.json");
            return Err(self.files.damaged(WEIGHTS, reason));
        }
        let data = tensor.data();
        Ok(Some(match tensor.dtype() {
            Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
            Dtype::F16 => data.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
            Dtype::BF16 => {
                data.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect()
            }
            other => {
                let reason = format!("`{name}` holds {other:?}; F32, F16 and BF16 can be read");
                return Err(self.files.damaged(WEIGHTS, reason));
            }
        }))
    }

    /// Rows of `columns` numbers.
    fn matrix(&self, name: &str, columns: usize) -> Result<Vec<f32>> {
        self.optional(name, Some(columns))?.ok_or_else(|| self.absent(name))
    }

    fn absent(&self, name: &str) -> Error {
        self.files.damaged(WEIGHTS, format!("has no tensor `{name}`"))
    }

    /// `outputs x inputs` weights and a bias.
    fn pair(&self, name: &str, inputs: usize, outputs: usize) -> Result<(Vec<f32>, Vec<f32>)> {
        let weight = self.matrix(&format!("{name}.weight"), inputs)?;
        let bias = self.matrix(&format!("{name}.bias"), outputs)?;
        if weight.len() != inputs * outputs || bias.len() != outputs {
            let reason =
                format!("`{name}` is not of {inputs} inputs and {outputs} outputs, as config.json says");
            return Err(self.files.damaged(WEIGHTS, reason));
        }
        Ok((weight, bias))
    }

    fn norm(&self, name: &str, width: usize, epsilon: f32) -> Result<Normalisation> {
        // Old checkpoints say gamma and beta.
        let one = |new: &str, old: &str| match self.optional(&format!("{name}.{new}"), Some(width))? {
            Some(numbers) => Ok(numbers),
            None => self.matrix(&format!("{name}.{old}"), width),
        };
        Ok(Normalisation { scale: one("weight", "gamma")?, shift: one("bias", "beta")?, epsilon })
    }
}
