//! The arithmetic of a transformer encoder: linear layers, activations, attention, layer normalisation.
//!
//! Its numbers become points, so every machine must give the same bits. A product is a chain of fused multiply-adds (one
//! rounding each) in the order of the inputs, begun at the bias, whatever the width of the vectors; everything else is
//! plain `f32` arithmetic in a fixed order. So a row of a result depends on the row of the input alone: not on the rows
//! beside it, nor on how many there are. Machines without fused multiply-add compute the same chain slowly.
//!
//! Weights are packed once into panels of 32 outputs, a line of 32 numbers for the biases and one for each input; the
//! register tile of `simd.rs` then reads them in order.

#![allow(unsafe_code)]

use super::simd::{Aligned, Kernel, PANEL, Vector, dispatch_fused};

/// What follows a linear layer, number by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    None,
    /// `x Phi(x)` (Hendrycks & Gimpel 2016); the error function by Abramowitz & Stegun 7.1.26, within 1.5e-7.
    Gelu,
    /// The same by a hyperbolic tangent, as `gelu_new` of Hugging Face.
    GeluTanh,
    Relu,
}

/// `y = W x + b` for many rows `x`.
#[derive(Clone, Debug)]
pub struct Linear {
    inputs: usize,
    outputs: usize,
    panels: Aligned<f32>,
}

impl Linear {
    /// `weight` is `outputs x inputs`, row by row; `bias` has one number an output.
    pub fn new(weight: &[f32], bias: &[f32]) -> Self {
        let outputs = bias.len();
        let inputs = weight.len() / outputs.max(1);
        assert_eq!(weight.len(), inputs * outputs, "a row of weights for every bias");
        let mut panels = Aligned::zeros(panel_numbers(inputs, outputs));
        let row = |o: usize, t: usize| weight[o * inputs + t];
        pack(panels.slice_mut(), inputs, outputs, |o| bias[o], row);
        Linear { inputs, outputs, panels }
    }

    pub fn inputs(&self) -> usize {
        self.inputs
    }

    pub fn outputs(&self) -> usize {
        self.outputs
    }

    pub fn bytes(&self) -> usize {
        4 * self.panels.slice().len()
    }

    /// Rows of `x` to rows of `out`, on the calling thread. O(rows inputs outputs).
    pub fn apply(&self, x: &[f32], activation: Activation, out: &mut [f32]) {
        let rows = x.len() / self.inputs.max(1);
        assert_eq!((x.len(), out.len()), (rows * self.inputs, rows * self.outputs), "whole rows");
        dispatch_fused(Layer { linear: self, x, rows, activation, out });
    }
}

struct Layer<'a> {
    linear: &'a Linear,
    x: &'a [f32],
    rows: usize,
    activation: Activation,
    out: &'a mut [f32],
}

impl Kernel for Layer<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Layer { linear: Linear { inputs, outputs, panels }, x, rows, activation, out } = self;
        let product = Product {
            x,
            stride: *inputs,
            rows,
            panels: panels.slice(),
            inputs: *inputs,
            outputs: *outputs,
            out_stride: *outputs,
        };
        match activation {
            Activation::None => product.run::<V>(out, |x| x),
            Activation::Gelu => product.run::<V>(out, gelu),
            Activation::GeluTanh => product.run::<V>(out, gelu_tanh),
            Activation::Relu => product.run::<V>(out, |x| if x < 0.0 { 0.0 } else { x }),
        }
    }
}

/// Numbers of the panels for so many outputs.
fn panel_numbers(inputs: usize, outputs: usize) -> usize {
    outputs.div_ceil(PANEL) * (inputs + 1) * PANEL
}

#[inline(always)]
fn pack(
    panels: &mut [f32],
    inputs: usize,
    outputs: usize,
    bias: impl Fn(usize) -> f32,
    weight: impl Fn(usize, usize) -> f32,
) {
    for (p, panel) in
        panels[..panel_numbers(inputs, outputs)].chunks_exact_mut((inputs + 1) * PANEL).enumerate()
    {
        let width = PANEL.min(outputs - p * PANEL);
        let (biases, lines) = panel.split_at_mut(PANEL);
        for (j, to) in biases[..width].iter_mut().enumerate() {
            *to = bias(p * PANEL + j);
        }
        for (t, line) in lines.chunks_exact_mut(PANEL).enumerate() {
            for (j, to) in line[..width].iter_mut().enumerate() {
                *to = weight(p * PANEL + j, t);
            }
        }
    }
}

/// Rows times panels.
#[derive(Clone, Copy)]
struct Product<'a> {
    x: &'a [f32],
    stride: usize,
    rows: usize,
    panels: &'a [f32],
    inputs: usize,
    outputs: usize,
    out_stride: usize,
}

/// Rows that go through all panels together: small enough for the cache, many enough to use what is read of the weights.
const BLOCK: usize = 84;

impl Product<'_> {
    #[inline(always)]
    fn run<V: Vector>(self, out: &mut [f32], then: impl Fn(f32) -> f32 + Copy) {
        let Product { x, stride, rows, panels, inputs, outputs, out_stride } = self;
        if rows == 0 || outputs == 0 {
            return;
        }
        assert!(inputs <= stride && (rows - 1) * stride + inputs <= x.len(), "as many rows as promised");
        assert!(outputs <= out_stride && (rows - 1) * out_stride + outputs <= out.len(), "room for the rows");
        assert!(panel_numbers(inputs, outputs) <= panels.len(), "as many panels as outputs need");
        const { assert!(V::ROWS <= 16 && BLOCK.is_multiple_of(V::ROWS) && 2 * V::LANES <= PANEL) };
        // The rows of an unfinished tile, zeros below them.
        let whole = rows / V::ROWS * V::ROWS;
        let mut rest = vec![0.0; if whole < rows { V::ROWS * inputs } else { 0 }];
        for (r, to) in (whole..rows).zip(rest.chunks_exact_mut(inputs.max(1))) {
            to.copy_from_slice(&x[r * stride..][..inputs]);
        }
        let width = 2 * V::LANES;
        let mut tile = [0.0f32; 16 * PANEL];
        for block in (0..rows).step_by(BLOCK) {
            for column in (0..outputs).step_by(width) {
                let panel = &panels[column / PANEL * (inputs + 1) * PANEL + column % PANEL..];
                for first in (block..rows.min(block + BLOCK)).step_by(V::ROWS) {
                    let (from, stride) =
                        if first < whole { (&x[first * stride..], stride) } else { (&rest[..], inputs) };
                    // SAFETY: `from` has ROWS rows of `inputs` numbers (whole tiles of x, or `rest`), the panel has
                    // `inputs + 1` lines (asserted above), and the tile room for 16 rows of two vectors.
                    unsafe {
                        V::tile::<false>(
                            from.as_ptr(),
                            stride,
                            inputs,
                            panel.as_ptr(),
                            tile.as_mut_ptr(),
                            width,
                        )
                    };
                    for x in &mut tile[..V::ROWS * width] {
                        *x = then(*x);
                    }
                    for (r, from) in (first..rows).zip(tile[..V::ROWS * width].chunks_exact(width)) {
                        let to = &mut out[r * out_stride + column..];
                        if column + width <= outputs {
                            to[..width].copy_from_slice(from);
                        } else {
                            to[..outputs - column].copy_from_slice(&from[..outputs - column]);
                        }
                    }
                }
            }
        }
    }
}

/// e^x for x <= 88, relative error below 2e-7 (the polynomial of Cephes); below -87 as at -87. NaN stays NaN.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // Adding it rounds to a whole number, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    // ln 2 in two parts, the first exact in products with n.
    let r = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let p = 1.987_569_1e-4;
    let p = p * r + 1.398_199_9e-3;
    let p = p * r + 8.333_452e-3;
    let p = p * r + 4.166_579_6e-2;
    let p = p * r + 1.666_666_5e-1;
    let p = p * r + 0.5;
    let y = p * (r * r) + r + 1.0;
    y * f32::from_bits((shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127)) << 23)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4;
    let p = p * t - 1.453_152_1;
    let p = p * t + 1.421_413_8;
    let p = p * t - 0.284_496_72;
    let p = p * t + 0.254_829_6;
    let erf = 1.0 - p * t * exp(-z * z);
    0.5 * x * (1.0 + erf.copysign(x))
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    let y = 0.797_884_6 * (x + 0.044_715 * x * x * x);
    let y = if y > 20.0 { 20.0 } else { y };
    let tanh = 1.0 - 2.0 / (exp(2.0 * y) + 1.0);
    0.5 * x * (1.0 + tanh)
}

/// Lanes of a sum over a row: a multiple of every vector's.
const LANES: usize = 16;

#[inline(always)]
fn total(mut lanes: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] += lanes[i + half];
        }
        half /= 2;
    }
    lanes[0]
}

/// Sum of `f` over a row, in lanes.
#[inline(always)]
fn sum(row: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for x in whole {
        for i in 0..LANES {
            lanes[i] += f(x[i]);
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += f(*x);
    }
    total(lanes)
}

/// Layer normalisation (Ba, Kiros & Hinton 2016) with its learnt scale and shift.
#[derive(Clone, Debug)]
pub struct Normalisation {
    pub scale: Vec<f32>,
    pub shift: Vec<f32>,
    /// Added to the variance.
    pub epsilon: f32,
}

impl Normalisation {
    /// Every row of `x` plus that of `y`, normalised, into `x`. O(numbers).
    pub fn apply(&self, x: &mut [f32], y: &[f32]) {
        assert_eq!(x.len(), y.len());
        assert_eq!(self.scale.len(), self.shift.len());
        dispatch_fused(Normalise { by: self, x, y });
    }
}

struct Normalise<'a> {
    by: &'a Normalisation,
    x: &'a mut [f32],
    y: &'a [f32],
}

impl Kernel for Normalise<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Normalise { by: Normalisation { scale, shift, epsilon }, x, y } = self;
        let width = scale.len();
        for (x, y) in x.chunks_exact_mut(width).zip(y.chunks_exact(width)) {
            for (x, y) in x.iter_mut().zip(y) {
                *x += y;
            }
            let mean = sum(x, |x| x) / width as f32;
            let variance = sum(x, |x| (x - mean) * (x - mean)) / width as f32;
            let over = 1.0 / (variance + epsilon).sqrt();
            for ((x, scale), shift) in x.iter_mut().zip(scale).zip(shift) {
                *x = (*x - mean) * over * scale + shift;
            }
        }
    }
}

/// Attention inside each of several sequences (Vaswani et al. 2017).
#[derive(Clone, Debug)]
pub struct Attention {
    pub heads: usize,
    /// Numbers of a head.
    pub width: usize,
    /// Added to the score of a pair of tokens, one list a head: entry `key - query + (len - 1) / 2`. Empty: nothing is.
    pub bias: Vec<Vec<f32>>,
}

/// Buffers of [`Attention::apply`], to be used again.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    keys: Vec<f32>,
    values: Vec<f32>,
    scores: Vec<f32>,
}

impl Attention {
    /// `qkv` holds query, key and value of every token side by side (`3 heads width` numbers, the scale of scores already
    /// in the queries); `lengths` are the tokens of every sequence. `out` gets `heads width` numbers a token.
    /// O(sum of squared lengths x heads x width).
    pub fn apply(&self, qkv: &[f32], lengths: &[usize], scratch: &mut Scratch, out: &mut [f32]) {
        let (tokens, d) = (lengths.iter().sum::<usize>(), self.heads * self.width);
        assert_eq!((qkv.len(), out.len()), (tokens * 3 * d, tokens * d), "one row a token");
        dispatch_fused(Attend { by: self, qkv, lengths, scratch, out });
    }
}

struct Attend<'a> {
    by: &'a Attention,
    qkv: &'a [f32],
    lengths: &'a [usize],
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

impl Kernel for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Attend { by: Attention { heads, width, bias }, qkv, lengths, scratch, out } = self;
        let (heads, width) = (*heads, *width);
        let d = heads * width;
        let Scratch { keys, values, scores } = scratch;
        let mut begin = 0;
        for &n in lengths.iter().filter(|&&n| n > 0) {
            let (tokens, out) = (&qkv[begin * 3 * d..][..n * 3 * d], &mut out[begin * d..][..n * d]);
            begin += n;
            keys.resize(keys.len().max(panel_numbers(width, n)), 0.0);
            values.resize(values.len().max(panel_numbers(n, width)), 0.0);
            scores.resize(scores.len().max(n * n), 0.0);
            for head in 0..heads {
                let [q, k, v] = [0, 1, 2].map(|part| &tokens[part * d + head * width..]);
                pack(keys, width, n, |_| 0.0, |token, t| k[token * 3 * d + t]);
                let product = Product {
                    x: q,
                    stride: 3 * d,
                    rows: n,
                    panels: keys,
                    inputs: width,
                    outputs: n,
                    out_stride: n,
                };
                product.run::<V>(scores, |x| x);
                for (query, row) in scores[..n * n].chunks_exact_mut(n).enumerate() {
                    if let Some(bias) = bias.get(head) {
                        let middle = bias.len() / 2;
                        for (x, b) in row.iter_mut().zip(&bias[middle - query..]) {
                            *x += b;
                        }
                    }
                    softmax(row);
                }
                pack(values, n, width, |_| 0.0, |t, token| v[token * 3 * d + t]);
                let product = Product {
                    x: scores,
                    stride: n,
                    rows: n,
                    panels: values,
                    inputs: n,
                    outputs: width,
                    out_stride: d,
                };
                product.run::<V>(&mut out[head * width..], |x| x);
            }
        }
    }
}

/// e^x over the sum of all.
#[inline(always)]
fn softmax(row: &mut [f32]) {
    let (whole, rest) = row.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for x in whole {
        for i in 0..LANES {
            most[i] = if x[i] > most[i] { x[i] } else { most[i] };
        }
    }
    for (most, &x) in most.iter_mut().zip(rest) {
        *most = if x > *most { x } else { *most };
    }
    let most = most.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for x in row.iter_mut() {
        *x = exp(*x - most);
    }
    let over = 1.0 / sum(row, |x| x);
    for x in row {
        *x *= over;
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_fused_at};
    use super::*;
    use crate::kit::rng::{key, normal};

    fn random(n: usize, seed: u64) -> Vec<f32> {
        (0..n).map(|i| normal(key(seed, &[i as u64])) as f32).collect()
    }

    #[test]
    fn products_are_one_chain_at_every_width_and_number_of_rows() {
        for (rows, inputs, outputs) in
            [(1, 1, 1), (3, 7, 5), (14, 32, 32), (29, 40, 33), (130, 3, 70), (0, 4, 4)]
        {
            let (x, w, b) = (random(rows * inputs, 1), random(outputs * inputs, 2), random(outputs, 3));
            let linear = Linear::new(&w, &b);
            let mut out = vec![f32::NAN; rows * outputs];
            linear.apply(&x, Activation::None, &mut out);
            for (r, out) in out.chunks_exact(outputs).enumerate() {
                for (o, y) in out.iter().enumerate() {
                    let chain =
                        (0..inputs).fold(b[o], |sum, t| x[r * inputs + t].mul_add(w[o * inputs + t], sum));
                    assert_eq!(y.to_bits(), chain.to_bits(), "{rows} {inputs} {outputs} at {r} {o}");
                }
            }
            for &level in Level::all() {
                let mut again = vec![f32::NAN; rows * outputs];
                let activation = Activation::None;
                run_fused_at(level, Layer { linear: &linear, x: &x, rows, activation, out: &mut again });
                assert_eq!(out, again, "{level:?}");
            }
        }
    }

    #[test]
    fn attention_is_the_formula_with_the_same_bits_at_every_level() {
        let (heads, width) = (2, 5);
        let d = heads * width;
        let lengths = [1, 20, 3, 37];
        let tokens: usize = lengths.iter().sum();
        let qkv = random(tokens * 3 * d, 4);
        let bias: Vec<Vec<f32>> = (0..heads as u64).map(|h| random(2 * 37 - 1, 10 + h)).collect();
        for bias in [vec![], bias] {
            let by = Attention { heads, width, bias };
            let mut out = vec![0.0; tokens * d];
            by.apply(&qkv, &lengths, &mut Scratch::default(), &mut out);
            let mut begin = 0;
            for &n in &lengths {
                let at = |token: usize, part: usize, h: usize, t: usize| {
                    f64::from(qkv[(begin + token) * 3 * d + part * d + h * width + t])
                };
                for h in 0..heads {
                    for i in 0..n {
                        let score = |j: usize| {
                            let dot: f64 = (0..width).map(|t| at(i, 0, h, t) * at(j, 1, h, t)).sum();
                            dot + by.bias.get(h).map_or(0.0, |b| f64::from(b[36 + j - i]))
                        };
                        let weights: Vec<f64> = (0..n).map(|j| score(j).exp()).collect();
                        let all: f64 = weights.iter().sum();
                        for t in 0..width {
                            let want: f64 = (0..n).map(|j| weights[j] / all * at(j, 2, h, t)).sum();
                            let got = f64::from(out[(begin + i) * d + h * width + t]);
                            assert!((got - want).abs() < 1e-5, "{got} is not {want}");
                        }
                    }
                }
                begin += n;
            }
            for &level in Level::all() {
                let mut again = vec![0.0; tokens * d];
                let scratch = &mut Scratch::default();
                run_fused_at(
                    level,
                    Attend { by: &by, qkv: &qkv, lengths: &lengths, scratch, out: &mut again },
                );
                assert_eq!(out, again, "{level:?}");
            }
        }
    }

    #[test]
    fn activations_and_exponentials_are_close_and_keep_nan() {
        for i in -2000..2000 {
            let x = i as f32 / 100.0;
            let y = f64::from(x);
            let gelu_exactly = 0.5 * y * (1.0 + libm::erf(y / 2f64.sqrt()));
            assert!((f64::from(gelu(x)) - gelu_exactly).abs() < 1e-6 * (1.0 + y.abs()), "{x}");
            let inner = (2.0 / std::f64::consts::PI).sqrt() * (y + 0.044715 * y.powi(3));
            let want = 0.5 * y * (1.0 + inner.tanh());
            assert!((f64::from(gelu_tanh(x)) - want).abs() < 1e-6 * (1.0 + y.abs()), "{x}");
            assert!((f64::from(exp(x)) / y.exp() - 1.0).abs() < 2e-7, "{x}");
        }
        assert!(gelu(f32::NAN).is_nan() && gelu_tanh(f32::NAN).is_nan() && exp(f32::NAN).is_nan());
        assert!(exp(-200.0) < 1e-37);
    }

    #[test]
    fn rows_are_normalised_the_same_at_every_level() {
        for width in [1, 5, 16, 39] {
            let by = Normalisation { scale: random(width, 5), shift: random(width, 6), epsilon: 1e-5 };
            let (x, y) = (random(3 * width, 7), random(3 * width, 8));
            let mut out = x.clone();
            by.apply(&mut out, &y);
            for (r, row) in out.chunks_exact(width).enumerate() {
                let all: Vec<f64> =
                    (r * width..(r + 1) * width).map(|i| f64::from(x[i]) + f64::from(y[i])).collect();
                let mean = all.iter().sum::<f64>() / width as f64;
                let variance = all.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
                for (i, got) in row.iter().enumerate() {
                    let unit = (all[i] - mean) / (variance + 1e-5).sqrt();
                    let want = unit * f64::from(by.scale[i]) + f64::from(by.shift[i]);
                    assert!((f64::from(*got) - want).abs() < 1e-5, "{got} is not {want}");
                }
            }
            for &level in Level::all() {
                let mut again = x.clone();
                run_fused_at(level, Normalise { by: &by, x: &mut again, y: &y });
                assert_eq!(out, again, "{level:?}");
            }
        }
    }
}
