//! The network: a small set network (Zaheer et al. 2017) over the cells of a [`Table`](super::table::Table). Every cell is encoded by the same
//! two layers; mean and maximum of the codes over all cells and the numbers of the whole sample are the context, in which
//! every cell is judged by the same three layers, and "one mode" by two of its own. Plain `f32` in one order.

use super::table::{CELL, WHOLE};

/// Units of the hidden layers.
pub const ENCODE: usize = 48;
pub const JUDGE: usize = 64;
/// Mean and maximum of the codes, and the whole sample's numbers.
pub const CONTEXT: usize = 2 * ENCODE + WHOLE.len();
/// (inputs, outputs) of every layer: two that encode, three that judge a cell, two that judge "one mode".
pub const LAYERS: [(usize, usize); 7] = [
    (CELL.len(), ENCODE),
    (ENCODE, ENCODE),
    (ENCODE + CONTEXT, JUDGE),
    (JUDGE, JUDGE),
    (JUDGE, 2),
    (CONTEXT, ENCODE),
    (ENCODE, 1),
];
/// Standardised numbers are cut off here: what is far from all that was trained on counts as the edge of it.
const EDGE: f32 = 3.0;

/// `outputs x inputs` weights, then `outputs` biases.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    pub inputs: usize,
    pub weights: Vec<f32>,
    pub biases: Vec<f32>,
}

impl Layer {
    /// out = W x + b. Sixteen running sums, so that it vectorises and still has one order.
    pub fn apply(&self, x: &[f32], out: &mut [f32]) {
        for ((out, row), b) in out.iter_mut().zip(self.weights.chunks_exact(self.inputs)).zip(&self.biases) {
            *out = b + dot(row, x);
        }
    }
}

/// In one order, sixteen sums wide.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0f32; 16];
    let (x, y) = (a.chunks_exact(16), b.chunks_exact(16));
    let rest: f32 = x.remainder().iter().zip(y.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in x.zip(y) {
        for j in 0..16 {
            sums[j] += a[j] * b[j];
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Of the names of the numbers and the sizes of the layers: weights trained on others are not read.
fn fingerprint() -> [u8; 8] {
    let text = format!("{CELL:?} {WHOLE:?} {LAYERS:?}");
    let hash = blake3::hash(text.as_bytes());
    std::array::from_fn(|i| hash.as_bytes()[i])
}

/// One trained network.
pub type Layers = [Layer; LAYERS.len()];

/// Some networks trained from different starts; they vote.
#[derive(Clone, Debug, PartialEq)]
pub struct Network {
    /// Mean and inverse standard deviation of every number, [`CELL`] then [`WHOLE`], over the training cases.
    pub scale: Vec<(f32, f32)>,
    pub members: Vec<Layers>,
}

/// What the network makes of a table.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// Probability that the sample has one mode.
    pub one: f64,
    /// Of every cell, the probability that no other answer is better; 0 for cells that show one mode. With `one`, they
    /// sum to 1.
    pub best: Vec<f64>,
    /// Of every cell, the expected agreement of its labels with the truth, in [0, 1]: the mean of NMI and ARI.
    pub agreement: Vec<f64>,
}

/// A table, standardised.
#[derive(Clone, Debug)]
pub struct Input {
    /// cells x [`CELL`].
    pub cells: Vec<f32>,
    pub whole: Vec<f32>,
    /// Cells with two modes or more.
    pub candidates: Vec<usize>,
}

impl Network {
    /// A table's numbers, standardised; `candidate` says which cells may be the answer.
    pub fn standardise(&self, numbers: &[f32], whole: &[f32], candidate: impl Fn(usize) -> bool) -> Input {
        let (of_cell, of_whole) = self.scale.split_at(CELL.len());
        let rows = numbers.chunks_exact(CELL.len());
        Input {
            candidates: (0..rows.len()).filter(|&c| candidate(c)).collect(),
            cells: rows.flat_map(|row| standard(row, of_cell)).collect(),
            whole: standard(whole, of_whole).collect(),
        }
    }

    /// O(cells) times the number of weights.
    pub fn judge(&self, input: &Input) -> Judgement {
        let cells = input.cells.len() / CELL.len();
        let mut sum = Judgement { one: 0.0, best: vec![0.0; cells], agreement: vec![0.0; cells] };
        let share = 1.0 / self.members.len() as f64;
        for layers in &self.members {
            let (one, scores) = forward(layers, input);
            let logits: Vec<f64> =
                std::iter::once(one).chain(scores.iter().map(|s| s[0])).map(f64::from).collect();
            let p = softmax(&logits);
            sum.one += share * p[0];
            for ((&c, score), p) in input.candidates.iter().zip(&scores).zip(&p[1..]) {
                sum.best[c] += share * p;
                sum.agreement[c] += share / (1.0 + libm::exp(-f64::from(score[1])));
            }
        }
        sum
    }

    /// Little-endian: what it is a network of, how many members, the scale, then every layer's weights and biases.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = fingerprint().to_vec();
        out.extend((self.members.len() as u32).to_le_bytes());
        let scale = self.scale.iter().flat_map(|&(mean, inverse)| [mean, inverse]);
        let layers = self.members.iter().flatten();
        let weights = layers.flat_map(|l| l.weights.iter().chain(&l.biases)).copied();
        scale.chain(weights).for_each(|x| out.extend(x.to_le_bytes()));
        out
    }

    /// None if these are not the bytes of such a network.
    pub fn from_bytes(bytes: &[u8]) -> Option<Network> {
        let (of, rest) = bytes.split_first_chunk::<8>()?;
        let (members, rest) = rest.split_first_chunk::<4>()?;
        let members = u32::from_le_bytes(*members) as usize;
        let scales = CELL.len() + WHOLE.len();
        let size: usize = LAYERS.iter().map(|&(i, o)| i * o + o).sum();
        let length = members.checked_mul(size)?.checked_add(2 * scales)?.checked_mul(4)?;
        if *of != fingerprint() || members == 0 || rest.len() != length {
            return None;
        }
        let mut numbers = rest.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let mut take = |n: usize| numbers.by_ref().take(n).collect::<Vec<f32>>();
        let scale = take(2 * scales).chunks_exact(2).map(|x| (x[0], x[1])).collect();
        let mut layer = |(inputs, outputs): (usize, usize)| Layer {
            inputs,
            weights: take(inputs * outputs),
            biases: take(outputs),
        };
        let members = (0..members).map(|_| LAYERS.map(&mut layer)).collect();
        Some(Network { scale, members })
    }
}

fn standard<'a>(row: &'a [f32], scale: &'a [(f32, f32)]) -> impl Iterator<Item = f32> + 'a {
    // A number that does not exist counts as an average one.
    let of = |(&x, &(mean, inverse)): (&f32, &(f32, f32))| {
        if x.is_finite() { ((x - mean) * inverse).clamp(-EDGE, EDGE) } else { 0.0 }
    };
    row.iter().zip(scale).map(of)
}

/// The logit of "one mode", and of every candidate the logits of "best" and of its agreement.
fn forward(layers: &Layers, input: &Input) -> (f32, Vec<[f32; 2]>) {
    let relu = |layer: &Layer, x: &[f32]| {
        let mut out = vec![0.0; layer.biases.len()];
        layer.apply(x, &mut out);
        out.iter_mut().for_each(|x| *x = x.max(0.0));
        out
    };
    let [a, b, c, d, e, f, g] = layers;
    let codes: Vec<Vec<f32>> =
        input.cells.chunks_exact(CELL.len()).map(|row| relu(b, &relu(a, row))).collect();
    let context = context(&codes.concat(), &input.whole);
    let judge = |&i: &usize| {
        let mut out = [0.0; 2];
        e.apply(&relu(d, &relu(c, &[codes[i].as_slice(), &context].concat())), &mut out);
        out
    };
    let scores = input.candidates.iter().map(judge).collect();
    let mut one = [0.0];
    g.apply(&relu(f, &context), &mut one);
    (one[0], scores)
}

/// Mean and maximum of the codes of all cells, then the whole sample's numbers.
pub fn context(codes: &[f32], whole: &[f32]) -> Vec<f32> {
    let cells = codes.len() / ENCODE;
    let mut context = vec![0.0; CONTEXT];
    for code in codes.chunks_exact(ENCODE) {
        for (j, &x) in code.iter().enumerate() {
            context[j] += x / cells as f32;
            // Codes are not negative.
            context[ENCODE + j] = context[ENCODE + j].max(x);
        }
    }
    context[2 * ENCODE..].copy_from_slice(whole);
    context
}

/// Probabilities from logits.
pub fn softmax(logits: &[f64]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exp: Vec<f64> = logits.iter().map(|x| libm::exp(x - most)).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|x| x / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::rng::{key, normal};

    fn network(seed: u64) -> Network {
        let number = |i: usize, of: u64| normal(key(seed, &[of, i as u64])) as f32;
        let mut at = 0;
        let mut layer = |(inputs, outputs): (usize, usize)| {
            at += 1;
            Layer {
                inputs,
                weights: (0..inputs * outputs).map(|i| 0.2 * number(i, at)).collect(),
                biases: (0..outputs).map(|i| number(i, 100 + at)).collect(),
            }
        };
        let scale = (0..CELL.len() + WHOLE.len()).map(|i| (number(i, 200), 2.0)).collect();
        Network { scale, members: vec![LAYERS.map(&mut layer), LAYERS.map(&mut layer)] }
    }

    #[test]
    fn bytes_come_back_and_other_bytes_are_refused() {
        let network = network(1);
        let bytes = network.to_bytes();
        assert_eq!(Network::from_bytes(&bytes), Some(network));
        assert_eq!(Network::from_bytes(&bytes[..bytes.len() - 4]), None);
        assert_eq!(Network::from_bytes(&bytes[..5]), None);
        let mut other = bytes.clone();
        other[3] ^= 1;
        assert_eq!(Network::from_bytes(&other), None);
        let none = [&bytes[..8], &0u32.to_le_bytes(), &bytes[12..]].concat();
        assert_eq!(Network::from_bytes(&none), None);
    }

    #[test]
    fn a_judgement_is_probabilities_and_does_not_depend_on_the_order_of_cells() {
        let network = network(2);
        let n = 11;
        let numbers: Vec<f32> = (0..n * CELL.len()).map(|i| normal(key(3, &[i as u64])) as f32).collect();
        let whole = [0.5; WHOLE.len()];
        let judged = network.judge(&network.standardise(&numbers, &whole, |c| c != 4));
        assert!((judged.one + judged.best.iter().sum::<f64>() - 1.0).abs() < 1e-9);
        assert!(judged.best[4] == 0.0 && judged.best[3] > 0.0);
        assert!(judged.agreement.iter().all(|a| (0.0..=1.0).contains(a)));
        let back: Vec<f32> = numbers.chunks_exact(CELL.len()).rev().flatten().copied().collect();
        let turned = network.judge(&network.standardise(&back, &whole, |c| c != n - 1 - 4));
        for c in 0..n {
            assert!((judged.best[c] - turned.best[n - 1 - c]).abs() < 1e-4);
        }
    }

    #[test]
    fn what_does_not_exist_is_average_and_what_is_far_is_the_edge() {
        let network = network(4);
        let mut numbers = vec![f32::NAN; CELL.len()];
        numbers[1] = 1e9;
        numbers[2] = f32::NEG_INFINITY;
        let input = network.standardise(&numbers, &[0.0; WHOLE.len()], |_| true);
        assert_eq!(input.cells[..3], [0.0, EDGE, 0.0]);
    }
}
