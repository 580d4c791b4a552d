//! Synthetic samples with a known number of modes. Every choice is keyed by (seed, case), so a case can be made alone, on
//! any thread. A case is classes of some shape, laid out so that a stated share of rows may be nearer to another class,
//! then bent, embedded and soiled.

use batchwright::kit::matrix::Matrix;
use batchwright::kit::rng::{key, normal, uniform};

/// Label of rows that belong to no class.
pub const NOISE: u32 = u32::MAX;

pub struct Case {
    /// Shape and what was done to it, for the error by family.
    pub family: &'static str,
    /// Everything that was done.
    pub story: String,
    pub points: Matrix,
    /// One labelling, or two where modes have modes.
    pub truths: Vec<Vec<u32>>,
}

/// Random numbers in turn, of one case.
struct Draw {
    key: u64,
    at: u64,
}

impl Draw {
    fn next(&mut self) -> u64 {
        self.at += 1;
        key(self.key, &[self.at])
    }
    fn unit(&mut self) -> f64 {
        uniform(self.next())
    }
    fn gauss(&mut self) -> f64 {
        normal(self.next())
    }
    fn between(&mut self, a: f64, b: f64) -> f64 {
        a + (b - a) * self.unit()
    }
    /// Log-uniform.
    fn scale(&mut self, a: f64, b: f64) -> f64 {
        a * libm::pow(b / a, self.unit())
    }
    fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }
    fn below(&mut self, n: usize) -> usize {
        ((self.unit() * n as f64) as usize).min(n - 1)
    }
    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
    fn vector(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.gauss()).collect()
    }
    /// A direction.
    fn direction(&mut self, n: usize) -> Vec<f64> {
        let v = self.vector(n);
        let norm = length(&v).max(1e-12);
        v.into_iter().map(|x| x / norm).collect()
    }
}

fn length(v: &[f64]) -> f64 {
    v.iter().map(|x| x * x).sum::<f64>().sqrt()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The shape of a class, about 1 wide in every direction it has.
#[derive(Clone)]
enum Shape {
    /// Linear map of standard normals over the root of chi-squared / freedom (infinite: Gaussian).
    Elliptic {
        map: Vec<Vec<f64>>,
        freedom: f64,
    },
    Ball,
    Cube,
    Shell {
        thickness: f64,
    },
    /// Exponential in every direction, to a power (1: exponential; below: nearer to uniform).
    Skewed {
        power: f64,
        sign: Vec<f64>,
    },
    /// A smooth curve in space with noise around it; where on it is uniform or peaked.
    Filament {
        waves: Vec<(Vec<f64>, f64, f64)>,
        noise: f64,
        peaked: bool,
    },
    /// A rectangle, rolled up.
    Roll {
        u: Vec<f64>,
        v: Vec<f64>,
        w: Vec<f64>,
        turns: f64,
        width: f64,
        noise: f64,
    },
    /// Modes that have modes: offsets of the children.
    Family {
        children: Vec<Vec<f64>>,
        spread: f64,
    },
}

const SHAPES: [&str; 9] =
    ["gaussian", "elliptic", "heavy tails", "ball", "cube", "shell", "skewed", "filament", "roll"];

impl Shape {
    fn new(kind: &str, q: usize, draw: &mut Draw) -> Shape {
        match kind {
            "gaussian" => Shape::Elliptic { map: rotation(q, &vec![1.0; q]), freedom: f64::INFINITY },
            "elliptic" | "heavy tails" => {
                let stretch = draw.between(0.0, 1.0);
                let widths: Vec<f64> = (0..q).map(|_| libm::exp(stretch * draw.gauss())).collect();
                let mut map = rotation(q, &widths);
                // Mixed by a few random reflections: any orientation.
                for _ in 0..3 {
                    let h = draw.direction(q);
                    for row in &mut map {
                        let along = 2.0 * dot(row, &h);
                        row.iter_mut().zip(&h).for_each(|(x, h)| *x -= along * h);
                    }
                }
                let freedom = if kind == "elliptic" { f64::INFINITY } else { draw.scale(2.0, 10.0) };
                Shape::Elliptic { map, freedom }
            }
            "ball" => Shape::Ball,
            "cube" => Shape::Cube,
            "shell" => Shape::Shell { thickness: draw.scale(0.005, 0.2) },
            "skewed" => {
                let sign = (0..q).map(|_| if draw.chance(0.5) { 1.0 } else { -1.0 }).collect();
                Shape::Skewed { power: draw.between(0.6, 1.5), sign }
            }
            "filament" => {
                let bend = draw.between(0.0, 1.5);
                let wave = |i: usize, draw: &mut Draw| {
                    let amplitude = draw.vector(q).iter().map(|x| x * 2.0 / (i as f64 + 1.0)).collect();
                    (amplitude, bend * (i as f64 + draw.unit()), draw.between(0.0, std::f64::consts::TAU))
                };
                let waves = (0..3).map(|i| wave(i, draw)).collect();
                Shape::Filament { waves, noise: draw.scale(0.01, 0.5), peaked: draw.chance(0.5) }
            }
            "roll" => Shape::Roll {
                u: draw.direction(q),
                v: draw.direction(q),
                w: draw.direction(q),
                turns: draw.between(0.3, 1.6),
                width: draw.between(0.5, 3.0),
                noise: draw.scale(0.01, 0.2),
            },
            _ => unreachable!("every kind has its arm"),
        }
    }

    /// A point, and which child it is of.
    fn point(&self, q: usize, draw: &mut Draw) -> (Vec<f64>, usize) {
        let point = match self {
            Shape::Elliptic { map, freedom } => {
                let z = draw.vector(q);
                let tail = if freedom.is_finite() {
                    // Chi-squared by Wilson & Hilferty (1931): near enough for heavy tails.
                    let c = 2.0 / (9.0 * freedom);
                    let cube = 1.0 - c + c.sqrt() * draw.gauss();
                    (cube * cube * cube).max(0.01).sqrt()
                } else {
                    1.0
                };
                map.iter().map(|row| dot(row, &z) / tail).collect()
            }
            Shape::Ball => {
                let r = 2.0 * libm::pow(draw.unit(), 1.0 / q as f64);
                draw.direction(q).into_iter().map(|x| x * r).collect()
            }
            Shape::Cube => (0..q).map(|_| draw.between(-1.7, 1.7)).collect(),
            Shape::Shell { thickness } => {
                let r = 2.0 * (1.0 + thickness * draw.gauss());
                draw.direction(q).into_iter().map(|x| x * r).collect()
            }
            Shape::Skewed { power, sign } => {
                sign.iter().map(|s| s * libm::pow(-libm::log(1.0 - draw.unit()), *power)).collect()
            }
            Shape::Filament { waves, noise, peaked } => {
                let t = if *peaked { 0.5 + 0.2 * draw.gauss() } else { draw.unit() };
                let mut x: Vec<f64> = draw.vector(q).into_iter().map(|x| x * noise).collect();
                for (amplitude, frequency, phase) in waves {
                    let s = libm::sin(4.0 * frequency * t + phase);
                    x.iter_mut().zip(amplitude).for_each(|(x, a)| *x += a * s);
                }
                x
            }
            Shape::Roll { u, v, w, turns, width, noise } => {
                let t = 0.3 + draw.unit();
                let angle = std::f64::consts::TAU * turns * t;
                let (a, b) = (2.0 * t * libm::cos(angle), 2.0 * t * libm::sin(angle));
                let c = width * draw.between(-1.0, 1.0);
                (0..q).map(|j| a * u[j] + b * v[j] + c * w[j] + noise * draw.gauss()).collect()
            }
            Shape::Family { children, spread } => {
                let child = draw.below(children.len());
                let x = draw.vector(q).into_iter().zip(&children[child]).map(|(z, c)| c + spread * z);
                return (x.collect(), child);
            }
        };
        (point, 0)
    }
}

fn rotation(q: usize, widths: &[f64]) -> Vec<Vec<f64>> {
    (0..q).map(|i| (0..q).map(|j| if i == j { widths[i] } else { 0.0 }).collect()).collect()
}

/// Case number `index`. At most `most` rows, or three times as many in a tenth of the cases.
pub fn case(seed: u64, index: u64, most: usize) -> Case {
    let mut draw = Draw { key: key(seed, &[index]), at: 0 };
    let draw = &mut draw;
    let mut story = Vec::new();
    let one = draw.chance(0.22);
    // Dimensions of the latent space and of the sample.
    let q = match draw.unit() {
        x if x < 0.25 => 2,
        x if x < 0.6 => 3 + draw.below(6),
        x if x < 0.85 => 8 + draw.below(13),
        _ => 20 + draw.below(30),
    };
    let d = if draw.chance(0.5) { q } else { (draw.scale(q as f64, 384.0) as usize).max(q) };
    let most = if draw.chance(0.1) { 3 * most } else { most };
    let n = (draw.scale(250.0, most as f64) as usize).min(900_000 / d).max(200);
    let mut m = match draw.unit() {
        _ if one => 1,
        x if x < 0.15 => 2,
        x if x < 0.85 => draw.scale(2.0, 25.0).round() as usize,
        _ => draw.scale(15.0, 90.0).round() as usize,
    };
    m = m.min((n / 30).max(2));
    let shares = shares(m, draw);

    // Classes: one shape for all, or each its own.
    let nested = !one && m <= 12 && draw.chance(0.12);
    let all = draw.below(SHAPES.len());
    let mixed = draw.chance(0.25);
    let sizes = draw.of(&[0.0, 0.0, 0.2, 0.5]);
    let spread = draw.scale(0.25, 0.6);
    let shapes: Vec<(Shape, f64)> = (0..m)
        .map(|_| {
            let kind = if mixed { draw.below(SHAPES.len()) } else { all };
            let shape = if nested {
                let children = 2 + draw.below(3);
                Shape::Family { children: (0..children).map(|_| draw.vector(q)).collect(), spread }
            } else {
                Shape::new(SHAPES[kind], q, draw)
            };
            (shape, libm::exp(sizes * draw.gauss()))
        })
        .collect();
    let mut family = match (nested, mixed) {
        (true, _) => "nested",
        (_, true) => "mixed shapes",
        _ => SHAPES[all],
    };
    let centers = layout(&shapes, q, draw, &mut story);

    // Rows.
    let mut label = Vec::with_capacity(n);
    let mut fine = Vec::with_capacity(n);
    let mut rows: Vec<Vec<f64>> = Vec::with_capacity(n);
    for _ in 0..n {
        let mut at = draw.unit();
        let c = shares.iter().position(|s| {
            at -= s;
            at < 0.0
        });
        let c = c.unwrap_or(m - 1);
        let (x, child) = shapes[c].0.point(q, draw);
        rows.push(x.iter().zip(&centers[c]).map(|(x, o)| x * shapes[c].1 + o).collect());
        label.push(c as u32);
        fine.push((8 * c + child) as u32);
    }
    let bent = bend(&mut rows, &label, &shares, one, draw, &mut story);
    if let (Some(bent), false) = (bent, nested) {
        family = if one { family } else { bent };
    }
    if draw.chance(0.12) {
        let share = draw.scale(0.005, 0.1);
        story.push(format!("noise {share:.3}"));
        scatter(&mut rows, &mut label, &mut fine, share, draw);
    }
    let mut rows = embed(rows, d, one, draw, &mut story);
    soil(&mut rows, draw, &mut story);
    if one {
        family = "one mode";
    }
    let story = format!("{family}, {} M={m} n={n} q={q} d={d}: {}", SHAPES[all], story.join(", "));
    let data = rows.iter().flatten().map(|&x| x as f32).collect();
    let points = Matrix::from_vec(rows.len(), d, data);
    let truths = if nested { vec![label, fine] } else { vec![label] };
    Case { family, story, points, truths }
}

/// Equal, uneven (normalised powers of uniform numbers) or 1 / rank^a.
fn shares(m: usize, draw: &mut Draw) -> Vec<f64> {
    let raw: Vec<f64> = match draw.unit() {
        x if x < 0.35 => vec![1.0; m],
        x if x < 0.65 => (0..m).map(|_| libm::exp(0.6 * draw.gauss())).collect(),
        _ => {
            let a = draw.between(0.3, 1.3);
            (1..=m).map(|r| libm::pow(r as f64, -a)).collect()
        }
    };
    let sum: f64 = raw.iter().sum();
    raw.into_iter().map(|x| x / sum).collect()
}

/// Centres as near to each other as the overlap allows: the share of some points of two classes that are nearer to one
/// of the other class. Then all are moved apart by a factor.
fn layout(shapes: &[(Shape, f64)], q: usize, draw: &mut Draw, story: &mut Vec<String>) -> Vec<Vec<f64>> {
    const PROBES: usize = 40;
    let overlap = draw.of(&[0.0, 0.0, 0.02, 0.05, 0.1]);
    let apart = if draw.chance(0.3) { 1.0 } else { draw.scale(1.0, 2.5) };
    let mut centers: Vec<Vec<f64>> = Vec::new();
    let mut placed: Vec<Vec<Vec<f64>>> = Vec::new();
    let mut radius = 1.0;
    for (shape, size) in shapes {
        let probes: Vec<Vec<f64>> =
            (0..PROBES).map(|_| shape.point(q, draw).0.iter().map(|x| x * size).collect()).collect();
        loop {
            let center: Vec<f64> =
                draw.vector(q).into_iter().map(|x| x * radius / (q as f64).sqrt() * 2.0).collect();
            let here: Vec<Vec<f64>> =
                probes.iter().map(|x| x.iter().zip(&center).map(|(x, c)| x + c).collect()).collect();
            if placed.iter().all(|there| confused(&here, there) <= overlap) {
                centers.push(center);
                placed.push(here);
                break;
            }
            radius *= 1.04;
        }
    }
    story.push(format!("overlap {overlap} apart {apart:.2}"));
    for center in &mut centers {
        center.iter_mut().for_each(|x| *x *= apart);
    }
    centers
}

/// Share of the points whose nearest other point is of the other class.
fn confused(a: &[Vec<f64>], b: &[Vec<f64>]) -> f64 {
    let squared = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>();
    let nearest = |x: &[f64], of: &[Vec<f64>]| {
        let others = of.iter().filter(|y| !std::ptr::eq(y.as_slice(), x));
        others.map(|y| squared(x, y)).fold(f64::INFINITY, f64::min)
    };
    let wrong = |a: &[Vec<f64>], b: &[Vec<f64>]| a.iter().filter(|x| nearest(x, b) < nearest(x, a)).count();
    (wrong(a, b) + wrong(b, a)) as f64 / (a.len() + b.len()) as f64
}

/// Root mean square of all numbers about their column means.
fn width(rows: &[Vec<f64>]) -> f64 {
    let (n, q) = (rows.len() as f64, rows[0].len());
    let mut sum = 0.0;
    for j in 0..q {
        let mean = rows.iter().map(|x| x[j]).sum::<f64>() / n;
        sum += rows.iter().map(|x| (x[j] - mean) * (x[j] - mean)).sum::<f64>() / n;
    }
    (sum / q as f64).sqrt().max(1e-9)
}

/// Bends of the latent space: compaction as UMAP does it, smooth random warps as of an autoencoder, ripples that make
/// density uneven inside classes. The last one's name.
fn bend(
    rows: &mut [Vec<f64>],
    label: &[u32],
    shares: &[f64],
    one: bool,
    draw: &mut Draw,
    story: &mut Vec<String>,
) -> Option<&'static str> {
    let q = rows[0].len();
    let mut last = None;
    if q <= 12 && draw.chance(0.25) {
        // Every class takes room by its rows, and its radii are bent by a power.
        let (power, even) = (draw.between(0.5, 1.4), draw.between(0.0, 1.0));
        let m = shares.len();
        let mut centers = vec![vec![0.0; q]; m];
        let mut size = vec![0.0; m];
        for (x, &l) in rows.iter().zip(label) {
            size[l as usize] += 1.0;
            centers[l as usize].iter_mut().zip(x).for_each(|(c, x)| *c += x);
        }
        for (c, s) in centers.iter_mut().zip(&size) {
            c.iter_mut().for_each(|c| *c /= f64::max(*s, 1.0));
        }
        for (x, &l) in rows.iter_mut().zip(label) {
            let (c, share) = (&centers[l as usize], shares[l as usize] * m as f64);
            let off: Vec<f64> = x.iter().zip(c).map(|(x, c)| x - c).collect();
            let r = length(&off).max(1e-9);
            let typical = (q as f64).sqrt();
            let room = libm::pow(share.clamp(0.05, 1.0), even / q as f64);
            let factor = room * libm::pow(r / typical, power - 1.0).min(5.0);
            x.iter_mut().zip(c.iter().zip(&off)).for_each(|(x, (c, o))| *x = c + factor * o);
        }
        story.push(format!("compaction {power:.2} {even:.2}"));
        last = Some("compaction");
    }
    if draw.chance(0.35) {
        let layers = 1 + draw.below(2);
        let strength = if one { draw.scale(0.1, 0.5) } else { draw.scale(0.15, 1.0) };
        for _ in 0..layers {
            let scale = width(rows);
            let hidden = 8 + draw.below(25);
            let frequency = draw.scale(0.3, 1.2);
            let within: Vec<(Vec<f64>, f64)> = (0..hidden).map(|_| (draw.vector(q), draw.gauss())).collect();
            let out: Vec<Vec<f64>> = (0..q).map(|_| draw.vector(hidden)).collect();
            for x in rows.iter_mut() {
                let h: Vec<f64> = within
                    .iter()
                    .map(|(w, b)| libm::tanh(frequency * dot(w, x) / (scale * (q as f64).sqrt()) + b))
                    .collect();
                let add: Vec<f64> = out.iter().map(|w| dot(w, &h) / (hidden as f64).sqrt()).collect();
                x.iter_mut().zip(add).for_each(|(x, a)| *x += strength * 2.0 * scale * a);
            }
        }
        story.push(format!("warp {strength:.2} x {layers}"));
        last = Some("warp");
    }
    if draw.chance(0.2) {
        // x += sin(w.x) v / |w|, several times: steep ones fold the density into ripples.
        let count = 2 + draw.below(8);
        let amplitude = draw.scale(0.2, if one { 0.5 } else { 0.8 }) / (count as f64).sqrt();
        let waves = draw.scale(1.0, 5.0);
        let scale = width(rows);
        for _ in 0..count {
            let (u, v) = (draw.direction(q), draw.direction(q));
            let frequency =
                waves * draw.between(0.7, 1.3) / scale * libm::pow(shares.len() as f64, 1.0 / q as f64);
            let phase = draw.between(0.0, std::f64::consts::TAU);
            for x in rows.iter_mut() {
                let s = amplitude / frequency * libm::sin(frequency * dot(&u, x) + phase);
                x.iter_mut().zip(&v).for_each(|(x, v)| *x += s * v);
            }
        }
        story.push(format!("ripples {amplitude:.2} x {count}"));
        last = Some("ripples");
    }
    last
}

/// Some rows become uniform noise in the box of all.
fn scatter(rows: &mut [Vec<f64>], label: &mut [u32], fine: &mut [u32], share: f64, draw: &mut Draw) {
    let q = rows[0].len();
    let edge = |pick: fn(f64, f64) -> f64| -> Vec<f64> {
        (0..q).map(|j| rows.iter().map(|x| x[j]).reduce(pick).expect("there are rows")).collect()
    };
    let (low, high) = (edge(f64::min), edge(f64::max));
    for i in 0..rows.len() {
        if draw.chance(share) {
            rows[i] = low.iter().zip(&high).map(|(&a, &b)| draw.between(a, b)).collect();
            (label[i], fine[i]) = (NOISE, NOISE);
        }
    }
}

/// Into `d` dimensions by a random linear map, maybe as counts, as pixels or through a rectifier, with noise.
fn embed(
    rows: Vec<Vec<f64>>,
    d: usize,
    one: bool,
    draw: &mut Draw,
    story: &mut Vec<String>,
) -> Vec<Vec<f64>> {
    let q = rows[0].len();
    let scale = width(&rows);
    if d == q && draw.chance(0.7) {
        return rows;
    }
    let map: Vec<Vec<f64>> = (0..d).map(|_| draw.vector(q)).collect();
    let shift = draw.vector(d);
    let noise = if draw.chance(0.3) { 0.0 } else { draw.scale(0.01, 0.5) };
    let kind = if d < 8 || one && draw.chance(0.5) { 0.0 } else { draw.unit() };
    let per = 1.0 / (scale * (q as f64).sqrt());
    let kind = match kind {
        x if x < 0.5 => "linear",
        x if x < 0.65 => "rectified",
        x if x < 0.8 => "pixels",
        x if x < 0.9 => "counts",
        _ => "unit",
    };
    // Noise by the width of the rows as they come out, of the same total however many dimensions there are.
    let noise = noise * (q as f64 / d as f64).sqrt();
    story.push(format!("{kind} noise {noise:.3}"));
    let gain = draw.between(1.0, 3.0);
    let row = |x: &Vec<f64>, draw: &mut Draw| -> Vec<f64> {
        let mut y: Vec<f64> = map
            .iter()
            .zip(&shift)
            .map(|(w, s)| {
                let z = dot(w, x) * per;
                match kind {
                    "rectified" => (z + 0.5 * s).max(0.0),
                    "pixels" => 1.0 / (1.0 + libm::exp(-gain * (z + s))),
                    "counts" => {
                        // Counts with mean e^(z + s), by a rounded square root transform.
                        let mean = libm::exp((z + s).min(4.0));
                        let root = mean.sqrt() + 0.5 * draw.gauss();
                        libm::log1p((root * root).round())
                    }
                    _ => z,
                }
            })
            .collect();
        if noise > 0.0 && kind != "counts" {
            y.iter_mut().for_each(|y| *y += noise * draw.gauss());
        }
        if kind == "unit" {
            let norm = length(&y).max(1e-9);
            y.iter_mut().for_each(|y| *y /= norm);
        }
        y
    };
    rows.iter().map(|x| row(x, draw)).collect()
}

/// Columns of uneven or of equal width, rounded numbers.
fn soil(rows: &mut [Vec<f64>], draw: &mut Draw, story: &mut Vec<String>) {
    let (n, d) = (rows.len(), rows[0].len());
    let column = |rows: &[Vec<f64>], j: usize| {
        let mean = rows.iter().map(|x| x[j]).sum::<f64>() / n as f64;
        (rows.iter().map(|x| (x[j] - mean) * (x[j] - mean)).sum::<f64>() / n as f64).sqrt().max(1e-9)
    };
    if draw.chance(0.3) {
        let uneven = draw.of(&[0.0, 0.3, 0.6]);
        for j in 0..d {
            let factor = libm::exp(uneven * draw.gauss()) / column(rows, j);
            rows.iter_mut().for_each(|x| x[j] *= factor);
        }
        story.push(format!("columns {uneven}"));
    }
    if draw.chance(0.15) {
        let step = draw.scale(0.01, 0.5);
        for j in 0..d {
            let step = step * column(rows, j);
            rows.iter_mut().for_each(|x| x[j] = (x[j] / step).round() * step);
        }
        story.push(format!("rounded {step:.2}"));
    }
}
