//! Trains the network on tables: Adam (Kingma & Ba 2015) on plain `f32`, one order of everything.

use batchwright::kit::rng::{Permutation, key, normal};
use batchwright::modalities::estimators::pretrained::network::{
    CONTEXT, ENCODE, Input, JUDGE, LAYERS, Layer, Layers, Network, context, dot,
};

/// One case as the trainer sees it.
pub struct Example {
    pub input: Input,
    /// Utility of "one mode" and of every candidate: what the choice is taught by.
    pub utility: Vec<f32>,
    /// Of every candidate.
    pub agreement: Vec<f32>,
}

/// How far below the best an answer may be and still be taught as good.
const TEMPER: f32 = 0.04;
/// Deviation of the noise added to standardised numbers while training.
const JITTER: f32 = 0.05;
const DECAY: f32 = 1e-4;
/// Cases a step.
const BATCH: usize = 16;

fn start(seed: u64) -> Layers {
    let mut at = 0;
    LAYERS.map(|(inputs, outputs)| {
        at += 1;
        let scale = (2.0 / inputs as f64).sqrt() * if outputs <= 2 { 0.1 } else { 1.0 };
        let weight = |i: usize| (scale * normal(key(seed, &[at, i as u64]))) as f32;
        Layer { inputs, weights: (0..inputs * outputs).map(weight).collect(), biases: vec![0.0; outputs] }
    })
}

fn zeros() -> Layers {
    LAYERS.map(|(inputs, outputs)| Layer {
        inputs,
        weights: vec![0.0; inputs * outputs],
        biases: vec![0.0; outputs],
    })
}

fn relu(x: &mut [f32]) {
    x.iter_mut().for_each(|x| *x = x.max(0.0));
}

/// Adds to the layer's gradient for one input and the gradient `dy` of its output; adds to `dx`, the input's.
fn backward(layer: &Layer, grad: &mut Layer, x: &[f32], dy: &[f32], dx: Option<&mut [f32]>) {
    let n = layer.inputs;
    for (o, &d) in dy.iter().enumerate().filter(|(_, d)| **d != 0.0) {
        grad.biases[o] += d;
        grad.weights[o * n..][..n].iter_mut().zip(x).for_each(|(g, x)| *g += d * x);
    }
    if let Some(dx) = dx {
        for (o, &d) in dy.iter().enumerate().filter(|(_, d)| **d != 0.0) {
            dx.iter_mut().zip(&layer.weights[o * n..][..n]).for_each(|(dx, w)| *dx += d * w);
        }
    }
}

fn gate(dx: &mut [f32], y: &[f32]) {
    dx.iter_mut().zip(y).for_each(|(d, &y)| {
        if y <= 0.0 {
            *d = 0.0;
        }
    });
}

/// Adds the gradient of one case to `grad`; returns its loss.
fn step(net: &Layers, grad: &mut Layers, example: &Example, cells: &[f32]) -> f32 {
    let [l1, l2, l3, l4, l5, l6, l7] = net;
    let n = cells.len() / l1.inputs;
    let (mut a, mut b) = (vec![0f32; n * ENCODE], vec![0f32; n * ENCODE]);
    for (x, (a, b)) in
        cells.chunks_exact(l1.inputs).zip(a.chunks_exact_mut(ENCODE).zip(b.chunks_exact_mut(ENCODE)))
    {
        l1.apply(x, a);
        relu(a);
        l2.apply(a, b);
        relu(b);
    }
    let around = context(&b, &example.input.whole);
    // The context's part of the judge's first layer is the same for all cells.
    let shared: Vec<f32> = (0..JUDGE)
        .map(|o| l3.biases[o] + dot(&l3.weights[o * l3.inputs + ENCODE..][..CONTEXT], &around))
        .collect();
    let picked = &example.input.candidates;
    let m = picked.len();
    let (mut c, mut d) = (vec![0f32; m * JUDGE], vec![0f32; m * JUDGE]);
    let mut out = vec![[0f32; 2]; m];
    for (s, &i) in picked.iter().enumerate() {
        let (c, d) = (&mut c[s * JUDGE..][..JUDGE], &mut d[s * JUDGE..][..JUDGE]);
        for o in 0..JUDGE {
            c[o] = shared[o] + dot(&l3.weights[o * l3.inputs..][..ENCODE], &b[i * ENCODE..][..ENCODE]);
        }
        relu(c);
        l4.apply(c, d);
        relu(d);
        l5.apply(d, &mut out[s]);
    }
    let mut e = vec![0f32; ENCODE];
    l6.apply(&around, &mut e);
    relu(&mut e);
    let mut one = [0f32];
    l7.apply(&e, &mut one);

    // Cross entropy of the choice against the softened utilities; and of the agreement.
    let logits: Vec<f32> = std::iter::once(one[0]).chain(out.iter().map(|o| o[0])).collect();
    let soft = |x: &[f32], scale: f32| -> Vec<f32> {
        let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let e: Vec<f32> = x.iter().map(|x| libm::expf((x - most) / scale)).collect();
        let sum: f32 = e.iter().sum();
        e.iter().map(|x| x / sum).collect()
    };
    let (p, q) = (soft(&logits, 1.0), soft(&example.utility, TEMPER));
    let mut loss: f32 = p.iter().zip(&q).map(|(p, q)| -q * libm::logf(p.max(1e-12) / q.max(1e-12))).sum();

    let mut d_context = vec![0f32; CONTEXT];
    let mut d_e = vec![0f32; ENCODE];
    let [g1, g2, g3, g4, g5, g6, g7] = grad;
    backward(l7, g7, &e, &[p[0] - q[0]], Some(&mut d_e));
    gate(&mut d_e, &e);
    backward(l6, g6, &around, &d_e, Some(&mut d_context));
    let mut d_b = vec![0f32; n * ENCODE];
    let mut d_shared = vec![0f32; JUDGE];
    for (s, &i) in picked.iter().enumerate() {
        let x = out[s][1];
        let truth = example.agreement[s];
        let miss = (1.0 / (1.0 + libm::expf(-x)) - truth) / m as f32;
        loss += (libm::log1pf(libm::expf(-x.abs())) + x.max(0.0) - truth * x) / m as f32;
        let d_out = [p[s + 1] - q[s + 1], miss];
        let (c, d) = (&c[s * JUDGE..][..JUDGE], &d[s * JUDGE..][..JUDGE]);
        let (mut d_d, mut d_c) = ([0f32; JUDGE], [0f32; JUDGE]);
        backward(l5, g5, d, &d_out, Some(&mut d_d));
        gate(&mut d_d, d);
        backward(l4, g4, c, &d_d, Some(&mut d_c));
        gate(&mut d_c, c);
        let (b, d_b) = (&b[i * ENCODE..][..ENCODE], &mut d_b[i * ENCODE..][..ENCODE]);
        for (o, &x) in d_c.iter().enumerate().filter(|(_, x)| **x != 0.0) {
            d_shared[o] += x;
            g3.weights[o * l3.inputs..][..ENCODE].iter_mut().zip(b).for_each(|(g, b)| *g += x * b);
            d_b.iter_mut().zip(&l3.weights[o * l3.inputs..][..ENCODE]).for_each(|(d, w)| *d += x * w);
        }
    }
    for (o, &x) in d_shared.iter().enumerate() {
        g3.biases[o] += x;
        let at = o * l3.inputs + ENCODE;
        g3.weights[at..][..CONTEXT].iter_mut().zip(&around).for_each(|(g, c)| *g += x * c);
        d_context.iter_mut().zip(&l3.weights[at..][..CONTEXT]).for_each(|(d, w)| *d += x * w);
    }
    // Through mean and maximum (the first cell that reaches it) back to the codes.
    for j in 0..ENCODE {
        let most = around[ENCODE + j];
        if most > 0.0
            && let Some(i) = (0..n).find(|i| b[i * ENCODE + j] == most)
        {
            d_b[i * ENCODE + j] += d_context[ENCODE + j];
        }
    }
    for i in 0..n {
        let (a, b) = (&a[i * ENCODE..][..ENCODE], &b[i * ENCODE..][..ENCODE]);
        let d_b = &mut d_b[i * ENCODE..][..ENCODE];
        d_b.iter_mut().zip(&d_context).for_each(|(d, c)| *d += c / n as f32);
        gate(d_b, b);
        let mut d_a = [0f32; ENCODE];
        backward(l2, g2, a, d_b, Some(&mut d_a));
        gate(&mut d_a, a);
        backward(l1, g1, &cells[i * l1.inputs..][..l1.inputs], &d_a, None);
    }
    loss
}

/// One network from the start that `seed` gives; `report(epoch, mean loss)` after every epoch. The learning rate rises over
/// the first epoch and falls as a cosine.
pub fn train(examples: &[Example], epochs: usize, seed: u64, mut report: impl FnMut(usize, f32)) -> Layers {
    const RATE: f32 = 2e-3;
    let (mut net, mut first, mut second) = (start(seed), zeros(), zeros());
    let steps = examples.len().div_ceil(BATCH);
    let mut t = 0;
    for epoch in 0..epochs {
        let order = Permutation::new(examples.len() as u64, key(seed, &[90, epoch as u64]));
        let mut total = 0.0;
        for s in 0..steps {
            let mut grad = zeros();
            let range = s * BATCH..((s + 1) * BATCH).min(examples.len());
            let size = range.len() as f32;
            for i in range {
                let example = &examples[order.index(i as u64) as usize];
                let noisy = jitter(&example.input.cells, key(seed, &[91, epoch as u64, i as u64]));
                total += step(&net, &mut grad, example, &noisy);
            }
            t += 1;
            let done = t as f32 / (epochs * steps) as f32;
            let rate = RATE
                * (t as f32 / steps as f32).min(1.0)
                * 0.5
                * (1.0 + libm::cosf(std::f32::consts::PI * done));
            let (fade1, fade2) = (1.0 - libm::powf(0.9, t as f32), 1.0 - libm::powf(0.999, t as f32));
            for (((layer, g), m), v) in net.iter_mut().zip(&grad).zip(&mut first).zip(&mut second) {
                let update = |w: &mut [f32], g: &[f32], m: &mut [f32], v: &mut [f32], decay: f32| {
                    for (((w, &g), m), v) in w.iter_mut().zip(g).zip(m).zip(v) {
                        let g = g / size;
                        *m += 0.1 * (g - *m);
                        *v += 0.001 * (g * g - *v);
                        *w -= rate * (*m / fade1 / ((*v / fade2).sqrt() + 1e-8) + decay * *w * 100.0);
                    }
                };
                update(&mut layer.weights, &g.weights, &mut m.weights, &mut v.weights, DECAY);
                update(&mut layer.biases, &g.biases, &mut m.biases, &mut v.biases, 0.0);
            }
        }
        report(epoch, total / examples.len() as f32);
    }
    net
}

/// Noise that is cheap to draw: sums of four uniform bytes, of deviation JITTER.
fn jitter(cells: &[f32], seed: u64) -> Vec<f32> {
    let mut word = 0;
    let noise = |i: usize| {
        if i.is_multiple_of(2) {
            word = key(seed, &[i as u64]);
        } else {
            word >>= 32;
        }
        let sum: u32 = (word as u32).to_le_bytes().iter().map(|&b| u32::from(b)).sum();
        // Mean 510, deviation 147.8.
        (sum as f32 - 510.0) / 147.8 * JITTER
    };
    cells.iter().zip((0..cells.len()).map(noise)).map(|(x, n)| x + n).collect()
}

/// Means and inverse deviations of the columns of some rows, of the numbers that exist.
pub fn scale<'a>(columns: usize, rows: impl Iterator<Item = &'a [f32]>) -> Vec<(f32, f32)> {
    let mut sums = vec![[0f64; 3]; columns];
    for row in rows {
        for (s, &x) in sums.iter_mut().zip(row).filter(|(_, x)| x.is_finite()) {
            let x = f64::from(x);
            *s = [s[0] + 1.0, s[1] + x, s[2] + x * x];
        }
    }
    let of = |[n, x, xx]: [f64; 3]| {
        let mean = x / n.max(1.0);
        let deviation = (xx / n.max(1.0) - mean * mean).max(0.0).sqrt();
        (mean as f32, (1.0 / deviation.max(1e-6)) as f32)
    };
    sums.into_iter().map(of).collect()
}

/// A network of several members, one after the other or on as many threads as there are.
pub fn network(
    examples: &[Example],
    scale: Vec<(f32, f32)>,
    epochs: usize,
    members: usize,
    seed: u64,
) -> Network {
    use rayon::prelude::*;
    let member = |i: usize| {
        train(examples, epochs, key(seed, &[7, i as u64]), |epoch, loss| {
            eprintln!("network {} epoch {} loss {loss:.4}", i + 1, epoch + 1);
        })
    };
    Network { scale, members: (0..members).into_par_iter().map(member).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use batchwright::modalities::estimators::pretrained::table::{CELL, WHOLE};

    #[test]
    fn the_gradient_is_the_slope_of_the_loss() {
        let number = |i: usize, of: u64| normal(key(of, &[i as u64])) as f32;
        let cells = (0..6 * CELL.len()).map(|i| number(i, 1)).collect();
        let whole = (0..WHOLE.len()).map(|i| number(i, 2)).collect();
        let input = Input { cells, whole, candidates: vec![0, 2, 3, 5] };
        let utility = vec![0.1, 0.12, 0.05, 0.15, 0.0];
        let example = Example { input, utility, agreement: vec![0.9, 0.1, 0.4, 0.6] };
        let net = start(3);
        let loss = |net: &Layers| step(net, &mut zeros(), &example, &example.input.cells);
        let mut grad = zeros();
        step(&net, &mut grad, &example, &example.input.cells);
        for (l, layer) in grad.iter().enumerate() {
            // Along the layer's own gradient the loss rises by its squared length.
            let length: f32 = layer.weights.iter().chain(&layer.biases).map(|g| g * g).sum();
            let h = 2e-3 / length.sqrt();
            let moved = |h: f32| {
                let mut net = net.clone();
                let add = |w: &mut Vec<f32>, g: &[f32]| w.iter_mut().zip(g).for_each(|(w, g)| *w += h * g);
                add(&mut net[l].weights, &layer.weights);
                add(&mut net[l].biases, &layer.biases);
                loss(&net)
            };
            let slope = (moved(h) - moved(-h)) / (2.0 * h);
            assert!((slope / length - 1.0).abs() < 0.03, "layer {l}: {slope} for {length}");
        }
    }
}
