//! Encoders as ONNX files, run by tract: of texts (inputs named as Hugging Face exports them, `tokenizer.json` beside the
//! file or one folder up) or of vectors (one input of `rows x numbers`).
//!
//! Texts run one at a time at their own length, vectors in blocks of one fixed size whose unused rows are zeros, so that
//! a row always takes the same way through the same kernels and its embedding does not depend on its neighbours. tract
//! chooses its kernels by the machine: the last bits are those of one type of machine.

use std::path::Path;
use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;
use tract_onnx::tract_hir::internal::DimLike;

use super::folder::{Files, Recipe};
use super::{KEY, Values};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::source::Kind;

/// Vectors that run together, where the model leaves it open.
const BLOCK: usize = 32;

/// What the inputs of a text model are called, and what they get.
const TEXT_INPUTS: [&str; 3] = ["input_ids", "attention_mask", "token_type_ids"];

/// A model with what stands around it.
#[derive(Debug)]
pub struct OnnxEncoder {
    file: String,
    plan: Arc<TypedRunnableModel>,
    input: Input,
    dims: usize,
    bytes: usize,
}

#[derive(Debug)]
enum Input {
    /// Which of [`TEXT_INPUTS`] each input is and its type; whether the output has a vector for each token.
    Text {
        recipe: Box<Recipe>,
        inputs: Vec<(usize, DatumType)>,
        tokens: bool,
    },
    Vectors {
        width: usize,
        block: usize,
    },
}

impl OnnxEncoder {
    pub fn open(files: &mut Files, path: &Path, max_seq_length: Option<u32>) -> Result<Self> {
        let file = path.display().to_string();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let bytes = files.read(&name)?.map_or(0, |bytes| bytes.len());
        // Weights of more than 2 GB lie beside the file.
        for more in [format!("{name}_data"), format!("{name}.data")] {
            files.read(&more)?;
        }
        let broken = |e: TractError| {
            let help = "download or export the model again; tract runs ONNX of opset 9 to 18 and the usual operators";
            Error::input(&file, "cannot be run as an ONNX model", help).because(e)
        };
        // Shapes follow from the inputs as they are set below; what the file notes of others may contradict them.
        let onnx = tract_onnx::onnx().with_ignore_output_shapes(true).with_ignore_value_info(true);
        let mut model = onnx.model_for_path(path).map_err(broken)?;
        let names: Vec<String> =
            model.input_outlets().map_err(broken)?.iter().map(|i| model.node(i.node).name.clone()).collect();
        let unfit = |reason: String, help: &str| Error::config(KEY, format!("{file}: {reason}"), help);

        let is_text = names.iter().any(|name| name == TEXT_INPUTS[0]);
        let sequence = model.sym("sequence");
        let input = if is_text {
            let mut inputs = Vec::new();
            for (i, name) in names.iter().enumerate() {
                let Some(which) = TEXT_INPUTS.iter().position(|known| known == name) else {
                    let reason = format!("has an input `{name}`");
                    return Err(unfit(
                        reason,
                        "a text model takes input_ids, attention_mask and token_type_ids",
                    ));
                };
                let fact = model.input_fact(i).map_err(broken)?;
                let kind = fact.datum_type.concretize().unwrap_or(DatumType::I64);
                let shape = sizes(fact);
                if shape.len() != 2 || shape[0].is_some_and(|n| n != 1) || shape[1].is_some() {
                    let reason = format!("input `{name}` has the shape {}", written(&shape));
                    let help = "a text model takes batch x sequence, both open; export it with dynamic axes";
                    return Err(unfit(reason, help));
                }
                let shape: TVec<TDim> = tvec![1.into(), sequence.clone().into()];
                model.set_input_fact(i, InferenceFact::dt_shape(kind, shape)).map_err(broken)?;
                inputs.push((which, kind));
            }
            if !files.root().join("tokenizer.json").exists()
                && let Some(parent) =
                    path.canonicalize().ok().as_deref().and_then(Path::parent).and_then(Path::parent)
                && parent.join("tokenizer.json").exists()
            {
                files.move_to(parent.into());
            }
            let recipe = Recipe::read(files, None, max_seq_length)?.into();
            Input::Text { recipe, inputs, tokens: false }
        } else {
            let [name] = &names[..] else {
                let reason = format!("has the inputs {}", names.join(", "));
                return Err(unfit(
                    reason,
                    "a model takes input_ids and its companions, or one input of vectors",
                ));
            };
            if max_seq_length.is_some() {
                let help = "leave it out: this model takes vectors, not text";
                return Err(Error::config("features.max_seq_length", "is for texts", help));
            }
            let fact = model.input_fact(0).map_err(broken)?;
            let shape = sizes(fact);
            let kind = fact.datum_type.concretize();
            let (&[rows, Some(width)], None | Some(DatumType::F32)) = (&shape[..], kind) else {
                let reason = format!("input `{name}` has the shape {}", written(&shape));
                return Err(unfit(
                    reason,
                    "a model of vectors takes f32 of rows x numbers, the numbers fixed",
                ));
            };
            let block = rows.unwrap_or(BLOCK);
            model.set_input_fact(0, f32::fact([block, width]).into()).map_err(broken)?;
            Input::Vectors { width, block }
        };

        // Of several outputs the one that is the embedding by its name, else the first.
        let outputs = model.output_outlets().map_err(broken)?.to_vec();
        let by_name = |o: &&OutletId| {
            let label = model.outlet_label(**o).unwrap_or(&model.node(o.node).name);
            label == "sentence_embedding"
        };
        let Some(output) = outputs.iter().find(by_name).or(outputs.first()).copied() else {
            return Err(unfit("has no output".into(), "export the model again"));
        };
        model.select_output_outlets(&[output]).map_err(broken)?;
        let model = model.into_optimized().map_err(broken)?;
        let fact = model.output_fact(0).map_err(broken)?.clone();
        let dims = fact.shape.iter().last().and_then(|d| d.to_usize().ok()).filter(|&d| d > 0);
        let (rank, text) = (fact.rank(), matches!(input, Input::Text { .. }));
        let Some(dims) =
            dims.filter(|_| fact.datum_type == DatumType::F32 && (rank == 2 || text && rank == 3))
        else {
            let reason = format!("its output is {fact:?}");
            let help = "an encoder gives f32 of rows x numbers, a text model also of rows x tokens x numbers";
            return Err(unfit(reason, help));
        };
        let input = match input {
            Input::Text { recipe, inputs, .. } => Input::Text { recipe, inputs, tokens: rank == 3 },
            vectors => vectors,
        };
        let plan = model.into_runnable().map_err(broken)?;
        Ok(OnnxEncoder { file, plan, input, dims, bytes })
    }

    pub fn dims(&self) -> usize {
        self.dims
    }

    pub fn about(&self) -> String {
        match &self.input {
            Input::Text { recipe, tokens: true, .. } => format!("ONNX, {}", recipe.about()),
            Input::Text { recipe, .. } => format!("ONNX, {} tokens", recipe.max_seq_length),
            Input::Vectors { width, .. } => format!("ONNX, of vectors of {width} numbers"),
        }
    }

    /// The file's; tract holds them packed in another order.
    pub fn bytes(&self) -> usize {
        2 * self.bytes
    }

    pub fn working_bytes(&self) -> usize {
        self.bytes / 4 + (16 << 20)
    }

    /// Err: what it wants instead.
    pub fn wants(&self, kind: &Kind) -> Result<(), String> {
        match (&self.input, kind) {
            (Input::Text { .. }, Kind::Text) => Ok(()),
            (Input::Text { .. }, _) => Err("text".into()),
            (Input::Vectors { width, .. }, Kind::Vector { dims }) if dims == width => Ok(()),
            (Input::Vectors { width, .. }, _) => Err(format!("vectors of {width} numbers")),
        }
    }

    /// Row `i` of `out` is the embedding of value `i`.
    pub fn encode(&self, values: Values, out: &mut [f32], progress: &Progress) -> Result<()> {
        match (&self.input, values) {
            (Input::Text { recipe, inputs, tokens }, Values::Texts(texts)) => {
                let mut state = self.plan.spawn().map_err(|e| self.failed(e))?;
                for (text, out) in texts.iter().zip(out.chunks_exact_mut(self.dims)) {
                    progress.check()?;
                    let ids = recipe.tokens(text)?;
                    if ids.is_empty() {
                        continue;
                    }
                    let given = inputs.iter().map(|(which, kind)| {
                        let value = |id: &u32| [i64::from(*id), 1, 0][*which];
                        let values: Vec<i64> = ids.iter().map(value).collect();
                        let tensor = Tensor::from_shape(&[1, ids.len()], &values)?;
                        Ok(tensor.cast_to_dt(*kind)?.into_owned().into_tvalue())
                    });
                    let given: TractResult<TVec<TValue>> = given.collect();
                    let result = given.and_then(|given| state.run(given)).map_err(|e| self.failed(e))?;
                    let result = result[0].to_plain_array_view::<f32>().map_err(|e| self.failed(e))?;
                    let result: Vec<f32> = result.iter().copied().collect();
                    if *tokens {
                        recipe.finish(&result, out);
                    } else {
                        out.copy_from_slice(&result);
                        recipe.scale(out);
                    }
                }
                Ok(())
            }
            (Input::Vectors { width, block }, Values::Vectors(vectors)) => {
                self.encode_vectors(vectors, *width, *block, out, progress)
            }
            _ => unreachable!("the column's kind was checked"),
        }
    }

    fn encode_vectors(
        &self,
        vectors: &Matrix,
        width: usize,
        block: usize,
        out: &mut [f32],
        progress: &Progress,
    ) -> Result<()> {
        let mut state = self.plan.spawn().map_err(|e| self.failed(e))?;
        let mut full = vec![0.0f32; block * width];
        for (from, out) in vectors.as_slice().chunks(block * width).zip(out.chunks_mut(block * self.dims)) {
            progress.check()?;
            full[..from.len()].copy_from_slice(from);
            full[from.len()..].fill(0.0);
            let result = Tensor::from_shape(&[block, width], &full)
                .and_then(|tensor| state.run(tvec![tensor.into_tvalue()]))
                .map_err(|e| self.failed(e))?;
            let result = result[0].to_plain_array_view::<f32>().map_err(|e| self.failed(e))?;
            out.iter_mut().zip(result.iter()).for_each(|(to, x)| *to = *x);
        }
        Ok(())
    }

    fn failed(&self, cause: TractError) -> Error {
        Error::input(&self.file, "the model failed at a row", "check the model with another runtime")
            .because(cause)
    }
}

/// The sizes of a shape; None where the model leaves one open.
fn sizes(fact: &InferenceFact) -> Vec<Option<usize>> {
    fact.shape.dims().map(|d| d.concretize().and_then(|d| d.to_usize().ok())).collect()
}

fn written(shape: &[Option<usize>]) -> String {
    let sizes: Vec<String> = shape.iter().map(|n| n.map_or("?".into(), |n| n.to_string())).collect();
    format!("[{}]", sizes.join(", "))
}
