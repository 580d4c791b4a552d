//! Mean, covariance and eigenvectors, in plain `f64` and one fixed order: no BLAS that picks its code by machine.
//!
//! [`symmetric`] is Householder tridiagonalisation followed by the implicit QL method (Martin, Reinsch & Wilkinson
//! 1968; Dubrulle, Martin & Wilkinson 1968; EISPACK `tred2`, `tql2`), written so that every inner loop runs along
//! contiguous memory: one triangle is read row by row, and the eigenvectors are rows from the start, so a plane
//! rotation combines two rows. [`leading`] is subspace iteration for matrices too large for that. Of fewer rows than
//! coordinates, [`gram`] is the small side: its eigenvectors tell those of the covariance ([`axes`]).
//!
//! What takes long asks a [`Progress`] now and then and ends with its error once the run is stopped.

use rayon::prelude::*;

use super::simd::{Kernel, Vector, dispatch, total};
use crate::kit::error::Result;
use crate::kit::matrix::Matrix;
use crate::kit::progress::Progress;
use crate::kit::rng::{Stream, mix64, normal};

/// Rows that are summed up together: a tile of them fits the L1 cache.
const SUMMED: usize = 128;
/// Rows that are converted together: threads wait for each other once for so many.
const CENTRED: usize = 8 * SUMMED;

/// Eigenvalues in descending order; row `j` of `vectors` (`d` numbers) is the unit eigenvector of `values[j]`, its entry
/// of largest magnitude positive (ties: the first such entry).
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Eigen {
    pub values: Vec<f64>,
    pub vectors: Vec<f64>,
}

/// Mean of every column: one sequential sum over the rows each. Zeros for no rows. O(n d), parallel over columns.
pub fn mean(points: &Matrix) -> Vec<f64> {
    // Two cache lines of every row.
    const COLUMNS: usize = 32;
    let mut sums = vec![0.0; points.cols()];
    sums.par_chunks_mut(COLUMNS).enumerate().for_each(|(c, sums)| {
        for row in points.iter_rows() {
            for (sum, &x) in sums.iter_mut().zip(&row[c * COLUMNS..]) {
                *sum += f64::from(x);
            }
        }
    });
    let n = points.rows().max(1) as f64;
    sums.iter_mut().for_each(|sum| *sum /= n);
    sums
}

/// `d x d` covariance about `mean`, divided by `n`. Every entry is one sequential sum over the rows; parallel over entries.
/// O(n d^2).
pub fn covariance(points: &Matrix, mean: &[f64], progress: &Progress) -> Result<Vec<f64>> {
    let d = points.cols();
    let mut sums = vec![0.0; d * d];
    // The lower triangle, and what the tiles cover beyond it.
    centred_rows(points, mean, |_, centred| add_products(centred, d, centred, d, &mut sums, true, progress))?;
    mirror(&mut sums, d, points.rows());
    Ok(sums)
}

/// `f` of the rows less `mean`, some at a time, with the first one's number.
fn centred_rows(points: &Matrix, mean: &[f64], mut f: impl FnMut(usize, &[f64]) -> Result<()>) -> Result<()> {
    let d = points.cols();
    assert_eq!(mean.len(), d);
    // Wide rows give threads enough to do, and take memory.
    let together = if d > 1024 { SUMMED } else { CENTRED };
    let mut centred = vec![0.0; together.min(points.rows()) * d];
    for (c, rows) in points.as_slice().chunks((together * d).max(1)).enumerate() {
        let centred = &mut centred[..rows.len()];
        centred.par_chunks_mut(SUMMED * d).zip(rows.par_chunks(SUMMED * d)).for_each(|(centred, rows)| {
            for (centred, row) in centred.chunks_exact_mut(d).zip(rows.chunks_exact(d)) {
                for ((to, &x), m) in centred.iter_mut().zip(row).zip(mean) {
                    *to = f64::from(x) - m;
                }
            }
        });
        f(c * together, centred)?;
    }
    Ok(())
}

/// Divides the lower triangle by the number of rows and copies it to the upper one.
fn mirror(sums: &mut [f64], d: usize, rows: usize) {
    let n = rows.max(1) as f64;
    for i in 0..d {
        for j in 0..=i {
            sums[i * d + j] /= n;
            sums[j * d + i] = sums[i * d + j];
        }
    }
}

/// `n x n` products of the rows about `mean`, divided by `n`: it has the eigenvalues of the covariance that are not 0.
/// Every entry is one sequential sum over the coordinates; parallel over entries. O(n^2 d).
pub fn gram(points: &Matrix, mean: &[f64], progress: &Progress) -> Result<Vec<f64>> {
    let (n, d) = (points.rows(), points.cols());
    assert_eq!(mean.len(), d);
    let mut sums = vec![0.0; n * n];
    // Coordinate by coordinate, a number a row.
    let mut turned = vec![0.0; SUMMED.min(d) * n];
    for first in (0..d).step_by(SUMMED) {
        let turned = &mut turned[..SUMMED.min(d - first) * n];
        turned.par_chunks_mut(n.max(1)).enumerate().for_each(|(j, turned)| {
            let j = first + j;
            for (to, row) in turned.iter_mut().zip(points.iter_rows()) {
                *to = f64::from(row[j]) - mean[j];
            }
        });
        add_products(turned, n, turned, n, &mut sums, true, progress)?;
    }
    mirror(&mut sums, n, n);
    Ok(sums)
}

/// The `p x d` leading eigenvectors of the covariance, from those of [`gram`] (rows of `n` numbers; the first `p` are used):
/// the rows summed up with them as weights, orthonormal. Zeros where there are fewer than `p`. O(n d p).
pub fn axes(
    points: &Matrix,
    mean: &[f64],
    vectors: &[f64],
    p: usize,
    progress: &Progress,
) -> Result<Vec<f64>> {
    let (n, d) = (points.rows(), points.cols());
    let some = p.min(vectors.len() / n.max(1));
    let mut axes = vec![0.0; p * d];
    let turned: Vec<f64> = (0..n).flat_map(|t| (0..some).map(move |i| vectors[i * n + t])).collect();
    centred_rows(points, mean, |first, rows| {
        let weights = &turned[first * some..][..rows.len() / d * some];
        add_products(weights, some, rows, d, &mut axes[..some * d], false, progress)
    })?;
    orthonormalise(&mut axes[..some * d], d, progress)?;
    Ok(sorted((0..p).rev().map(|i| i as f64).collect(), &axes).vectors)
}

/// All eigenvalues and eigenvectors of the symmetric `d x d` matrix `a` (only the lower triangle is read). Sequential,
/// about `9 d^3` flops; meant for `d <= 1024`.
pub fn symmetric(mut a: Vec<f64>, d: usize, progress: &Progress) -> Result<Eigen> {
    assert_eq!(a.len(), d * d);
    dispatch(Symmetric { a: &mut a, d, progress })
}

struct Symmetric<'a> {
    a: &'a mut [f64],
    d: usize,
    progress: &'a Progress,
}

impl Kernel for Symmetric<'_> {
    type Output = Result<Eigen>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Result<Eigen> {
        let Self { a, d, progress } = self;
        let (mut diagonal, mut beside, mut vectors) = tridiagonalise(a, d, progress)?;
        implicit_ql(&mut diagonal, &mut beside, &mut vectors, progress)?;
        Ok(sorted(diagonal, &vectors))
    }
}

/// `a = Q T Q'`. Gives the diagonal of `T`, what stands beside it (`beside[i]` couples `i - 1` and `i`; `beside[0] = 0`)
/// and `Q'`. `a` is overwritten by the Householder vectors.
#[inline(always)]
fn tridiagonalise(a: &mut [f64], d: usize, progress: &Progress) -> Result<(Vec<f64>, Vec<f64>, Vec<f64>)> {
    let (mut beside, mut scale, mut image) = (vec![0.0; d], vec![0.0; d], vec![0.0; d]);
    // From the last row up: row i is reflected onto its last entry, then the leading i x i block is updated.
    for i in (1..d).rev() {
        progress.check()?;
        let (block, u) = a.split_at_mut(i * d);
        let u = &mut u[..i];
        let last = u[i - 1];
        let rest = dot(&u[..i - 1], &u[..i - 1]);
        if rest == 0.0 {
            beside[i] = last; // nothing to remove: no reflection, scale[i] stays 0
            continue;
        }
        let norm = (rest + last * last).sqrt();
        let onto = if last > 0.0 { -norm } else { norm };
        beside[i] = onto;
        u[i - 1] = last - onto;
        let half = onto * onto - last * onto; // |u|^2 / 2, without cancellation
        scale[i] = half;
        // image = block u / half, from the lower triangle alone.
        let image = &mut image[..i];
        image.fill(0.0);
        for (r, row) in block.chunks_exact(d).enumerate() {
            let s = dot(&row[..r], &u[..r]);
            add_scaled(&mut image[..r], &row[..r], u[r]);
            image[r] += s + row[r] * u[r];
        }
        image.iter_mut().for_each(|x| *x /= half);
        let shift = dot(image, u) / (half + half);
        add_scaled(image, u, -shift);
        for (r, row) in block.chunks_exact_mut(d).enumerate() {
            subtract_two(&mut row[..=r], &image[..=r], u[r], &u[..=r], image[r]);
        }
    }
    let diagonal = (0..d).map(|i| a[i * d + i]).collect();
    // Q' = P_1 P_2 ... P_{d-1}; before step i only the leading i x i block differs from the identity.
    let mut vectors = vec![0.0; d * d];
    (0..d).for_each(|i| vectors[i * d + i] = 1.0);
    for i in (1..d).filter(|&i| scale[i] != 0.0) {
        progress.check()?;
        let u = &a[i * d..i * d + i];
        for row in vectors.chunks_exact_mut(d).take(i) {
            let s = dot(&row[..i], u) / scale[i];
            add_scaled(&mut row[..i], u, -s);
        }
    }
    Ok((diagonal, beside, vectors))
}

/// Eigenvalues of the tridiagonal matrix into `diagonal`; the rows of `vectors` are rotated along.
#[inline(always)]
fn implicit_ql(
    diagonal: &mut [f64],
    beside: &mut [f64],
    vectors: &mut [f64],
    progress: &Progress,
) -> Result<()> {
    let d = diagonal.len();
    if d == 0 {
        return Ok(());
    }
    beside.rotate_left(1); // now beside[i] couples i and i + 1, and the last one is 0
    let (mut shift, mut largest) = (0.0f64, 0.0f64);
    for l in 0..d {
        progress.check()?;
        largest = largest.max(diagonal[l].abs() + beside[l].abs());
        let small = f64::EPSILON * largest;
        // beside[d - 1] is 0, so the search always ends.
        let m = (l..d).find(|&m| beside[m].abs() <= small).unwrap_or(d - 1);
        // Three or so rounds per eigenvalue are usual; EISPACK gives up at 30.
        for _ in 0..if m > l { 60 } else { 0 } {
            let g = diagonal[l];
            let p = (diagonal[l + 1] - g) / (2.0 * beside[l]);
            let r = libm::hypot(p, 1.0) * if p < 0.0 { -1.0 } else { 1.0 };
            diagonal[l] = beside[l] / (p + r);
            diagonal[l + 1] = beside[l] * (p + r);
            let (next, h) = (diagonal[l + 1], g - diagonal[l]);
            diagonal[l + 2..].iter_mut().for_each(|x| *x -= h);
            shift += h;
            let (mut p, mut c, mut c2, mut c3) = (diagonal[m], 1.0, 1.0, 1.0);
            let (mut s, mut s2) = (0.0, 0.0);
            let second = beside[l + 1];
            for i in (l..m).rev() {
                (c3, c2, s2) = (c2, c, s);
                let g = c * beside[i];
                let h = c * p;
                let r = libm::hypot(p, beside[i]);
                beside[i + 1] = s * r;
                s = beside[i] / r;
                c = p / r;
                p = c * diagonal[i] - s * g;
                diagonal[i + 1] = h + s * (c * g + s * diagonal[i]);
                let (low, high) = vectors[i * d..(i + 2) * d].split_at_mut(d);
                rotate(low, high, c, s);
            }
            p = -s * s2 * c3 * second * beside[l] / next;
            beside[l] = s * p;
            diagonal[l] = c * p;
            if beside[l].abs() <= small {
                break;
            }
        }
        diagonal[l] += shift;
        beside[l] = 0.0;
    }
    Ok(())
}

/// Descending, with the sign rule.
fn sorted(values: Vec<f64>, vectors: &[f64]) -> Eigen {
    let d = vectors.len() / values.len().max(1);
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&i, &j| values[j].total_cmp(&values[i]));
    let mut out = Eigen {
        values: order.iter().map(|&i| values[i]).collect(),
        vectors: Vec::with_capacity(vectors.len()),
    };
    for i in order {
        let vector = &vectors[i * d..(i + 1) * d];
        let largest = vector.iter().fold(0.0f64, |best, &x| if x.abs() > best.abs() { x } else { best });
        let sign = if largest < 0.0 { -1.0 } else { 1.0 };
        out.vectors.extend(vector.iter().map(|x| x * sign));
    }
    out
}

/// The `p` leading eigenvectors of the symmetric, positive semi-definite `d x d` matrix `a`: subspace iteration from
/// keyed normals with a Rayleigh-Ritz step at the end of every round (Bauer 1957; Rutishauser 1969; Halko, Martinsson
/// & Tropp 2011), on `p + max(p / 4, 8)` vectors, until the leading `p` values move by less than 1e-9 of the first, at
/// most 60 rounds. O(d^2 p) per round, parallel over vectors without changing a bit.
pub fn leading(a: &[f64], d: usize, p: usize, key: u64, progress: &Progress) -> Result<Eigen> {
    assert_eq!(a.len(), d * d);
    let p = p.min(d);
    let width = (p + (p / 4).max(8)).min(d);
    let mut basis: Vec<f64> =
        (0..width * d).map(|i| normal(Stream::Subspace.key(key, &[mix64(i as u64)]))).collect();
    orthonormalise(&mut basis, d, progress)?;
    let mut before = vec![0.0; p];
    for round in 0.. {
        let image = combine(&basis, d, a, d, progress)?;
        // Rayleigh-Ritz: the small matrix basis a basis' and its eigenvectors.
        let mut small = vec![0.0; width * width];
        for i in 0..width {
            for j in 0..=i {
                small[i * width + j] = dot(&image[i * d..][..d], &basis[j * d..][..d]);
            }
        }
        let ritz = symmetric(small, width, progress)?;
        let moved = ritz.values.iter().zip(&before).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        if round == 60 || moved <= 1e-9 * ritz.values[0].abs() {
            let vectors = combine(&ritz.vectors[..p * width], width, &basis, d, progress)?;
            return Ok(sorted(ritz.values[..p].to_vec(), &vectors));
        }
        before.copy_from_slice(&ritz.values[..p]);
        basis = combine(&ritz.vectors, width, &image, d, progress)?;
        orthonormalise(&mut basis, d, progress)?;
    }
    unreachable!("the last round returns")
}

/// Row `i` of the result is `sum_t weights[i][t] * rows[t]`, summed in the order of `t`.
fn combine(weights: &[f64], width: usize, rows: &[f64], d: usize, progress: &Progress) -> Result<Vec<f64>> {
    let count = weights.len() / width;
    let mut out = vec![0.0; count * d];
    let turned: Vec<f64> = (0..width).flat_map(|t| (0..count).map(move |i| weights[i * width + t])).collect();
    add_products(&turned, count, rows, d, &mut out, false, progress)?;
    Ok(out)
}

/// `out[i][j] += sum_t a[t][i] b[t][j]` in the order of `t`, starting from what `out` holds; with `lower`, only for `j <= i`
/// and what else a tile covers. `a` has rows of `m`, `b` and `out` of `n` numbers. Parallel over rows of `out`.
fn add_products(
    a: &[f64],
    m: usize,
    b: &[f64],
    n: usize,
    out: &mut [f64],
    lower: bool,
    progress: &Progress,
) -> Result<()> {
    const ROWS: usize = 32;
    out.par_chunks_mut((ROWS * n).max(1)).enumerate().for_each(|(c, out)| {
        if progress.check().is_ok() {
            dispatch(AddProducts { a, m, b, n, out, first: c * ROWS, lower });
        }
    });
    progress.check()
}

/// Rows `first ..` of [`add_products`].
struct AddProducts<'a> {
    a: &'a [f64],
    m: usize,
    b: &'a [f64],
    n: usize,
    out: &'a mut [f64],
    first: usize,
    lower: bool,
}

impl Kernel for AddProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn run<V: Vector>(self) {
        let Self { a, m, b, n, out, first, lower } = self;
        for (a, b) in a.chunks((SUMMED * m).max(1)).zip(b.chunks((SUMMED * n).max(1))) {
            let some = AddProducts { a, m, b, n, out: &mut *out, first, lower };
            // AVX-512 has registers for 16 sums of four rows and more, AVX2 for those of two.
            if V::LANES == 16 { some.tiles::<4>() } else { some.tiles::<2>() }
        }
    }
}

impl AddProducts<'_> {
    /// `ROWS` rows of 16 sums stay in registers. What they are made of is packed first: rows of a matrix are often so far
    /// apart that few of them fit the cache together.
    #[inline(always)]
    fn tiles<const ROWS: usize>(self) {
        const WIDTH: usize = 16;
        let Self { a, m, b, n, out, first, lower } = self;
        let (count, rows) = (a.len() / m, out.len() / n);
        let mut left = vec![[0.0; ROWS]; rows.div_ceil(ROWS) * count];
        for (r, left) in left.chunks_exact_mut(count).enumerate() {
            let i = r * ROWS;
            let height = ROWS.min(rows - i);
            for (left, a) in left.iter_mut().zip(a.chunks_exact(m)) {
                left[..height].copy_from_slice(&a[first + i..][..height]);
            }
        }
        let mut right = vec![[0.0; WIDTH]; count];
        for j in (0..if lower { (first + rows).min(n) } else { n }).step_by(WIDTH) {
            let width = WIDTH.min(n - j);
            for (right, b) in right.iter_mut().zip(b.chunks_exact(n)) {
                right[..width].copy_from_slice(&b[j..j + width]);
            }
            for (r, left) in left.chunks_exact(count).enumerate() {
                let i = r * ROWS;
                let height = ROWS.min(rows - i);
                if lower && j >= first + i + height {
                    continue;
                }
                let mut sums = [[0.0; WIDTH]; ROWS];
                for (r, sums) in sums.iter_mut().enumerate().take(height) {
                    sums[..width].copy_from_slice(&out[(i + r) * n + j..][..width]);
                }
                add_outer(left, &right, &mut sums);
                for (r, sums) in sums.iter().enumerate().take(height) {
                    out[(i + r) * n + j..][..width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }
}

/// `sums[r][s] += sum_t left[t][r] right[t][s]`, in the order of `t`.
#[inline(always)]
fn add_outer<const ROWS: usize, const WIDTH: usize>(
    left: &[[f64; ROWS]],
    right: &[[f64; WIDTH]],
    sums: &mut [[f64; WIDTH]; ROWS],
) {
    let mut all = *sums;
    for (a, b) in left.iter().zip(right) {
        for r in 0..ROWS {
            for s in 0..WIDTH {
                all[r][s] += a[r] * b[s];
            }
        }
    }
    *sums = all;
}

/// Modified Gram-Schmidt on rows of `d` numbers, twice ("twice is enough": Giraud, Langou & Rozloznik 2005). A row that
/// depends on the rows before it becomes zero.
fn orthonormalise(rows: &mut [f64], d: usize, progress: &Progress) -> Result<()> {
    dispatch(Orthonormalise { rows, d, progress })
}

struct Orthonormalise<'a> {
    rows: &'a mut [f64],
    d: usize,
    progress: &'a Progress,
}

impl Kernel for Orthonormalise<'_> {
    type Output = Result<()>;

    #[inline(always)]
    fn run<V: Vector>(self) -> Result<()> {
        let Self { rows, d, progress } = self;
        for i in 0..rows.len() / d {
            progress.check()?;
            let (done, rest) = rows.split_at_mut(i * d);
            let row = &mut rest[..d];
            let before = dot(row, row);
            for _ in 0..2 {
                for other in done.chunks_exact(d) {
                    let s = dot(row, other);
                    add_scaled(row, other, -s);
                }
            }
            let square = dot(row, row);
            let factor = if square > 1e-28 * before { 1.0 / square.sqrt() } else { 0.0 };
            row.iter_mut().for_each(|x| *x *= factor);
        }
        Ok(())
    }
}

/// Eight lanes, as the canonical distance.
#[inline(always)]
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let ((a, a_tail), (b, b_tail)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    let mut lanes = [0.0; 8];
    for (x, y) in a.iter().zip(b) {
        for i in 0..8 {
            lanes[i] += x[i] * y[i];
        }
    }
    for (lane, (&x, &y)) in lanes.iter_mut().zip(a_tail.iter().zip(b_tail)) {
        *lane += x * y;
    }
    total(lanes)
}

#[inline(always)]
fn add_scaled(to: &mut [f64], x: &[f64], factor: f64) {
    for (to, &x) in to.iter_mut().zip(x) {
        *to += factor * x;
    }
}

/// `row -= a x + b y`.
#[inline(always)]
fn subtract_two(row: &mut [f64], x: &[f64], a: f64, y: &[f64], b: f64) {
    for ((row, &x), &y) in row.iter_mut().zip(x).zip(y) {
        *row -= a * x + b * y;
    }
}

/// A plane rotation of two rows.
#[inline(always)]
fn rotate(low: &mut [f64], high: &mut [f64], c: f64, s: f64) {
    for (low, high) in low.iter_mut().zip(high) {
        let h = *high;
        *high = s * *low + c * h;
        *low = c * *low - s * h;
    }
}

#[cfg(test)]
mod tests {
    use super::super::simd::{Level, run_at};
    use super::*;
    use crate::kit::rng::key;

    /// Of a run that nobody stops.
    fn symmetric(a: Vec<f64>, d: usize) -> Eigen {
        super::symmetric(a, d, &Progress::default()).unwrap()
    }

    fn covariance(points: &Matrix) -> Vec<f64> {
        super::covariance(points, &mean(points), &Progress::default()).unwrap()
    }

    fn leading(a: &[f64], d: usize, p: usize) -> Eigen {
        super::leading(a, d, p, 5, &Progress::default()).unwrap()
    }

    fn random_symmetric(d: usize, seed: u64) -> Vec<f64> {
        let entry = |i: usize, j: usize| normal(key(seed, &[i.max(j) as u64, i.min(j) as u64]));
        (0..d * d).map(|t| entry(t / d, t % d)).collect()
    }

    fn check(a: &[f64], d: usize, eigen: &Eigen, tolerance: f64) {
        let count = eigen.values.len();
        assert!(eigen.values.windows(2).all(|v| v[0] >= v[1]));
        for j in 0..count {
            let v = &eigen.vectors[j * d..(j + 1) * d];
            for i in 0..d {
                let image: f64 = (0..d).map(|t| a[i * d + t] * v[t]).sum();
                let error = (image - eigen.values[j] * v[i]).abs();
                assert!(error < tolerance, "d {d}, vector {j}, entry {i}: off by {error}");
            }
            for k in 0..=j {
                let product: f64 = v.iter().zip(&eigen.vectors[k * d..]).map(|(x, y)| x * y).sum();
                assert!(
                    (product - if j == k { 1.0 } else { 0.0 }).abs() < 1e-12 * d as f64,
                    "vectors {j} and {k}"
                );
            }
            let largest = v.iter().copied().fold(0.0, |b: f64, x| if x.abs() > b.abs() { x } else { b });
            assert!(largest > 0.0);
        }
    }

    #[test]
    fn eigenvectors_of_random_matrices() {
        for d in [1, 2, 3, 5, 8, 17, 40] {
            let a = random_symmetric(d, d as u64);
            let eigen = symmetric(a.clone(), d);
            check(&a, d, &eigen, 1e-12 * d as f64);
            for &level in Level::all() {
                assert_eq!(
                    eigen,
                    run_at(level, Symmetric { a: &mut a.clone(), d, progress: &Progress::default() })
                        .unwrap(),
                    "{level:?}"
                );
            }
        }
        assert_eq!(symmetric(vec![], 0), Eigen::default());
    }

    #[test]
    fn awkward_matrices() {
        let d = 12;
        let zero = vec![0.0; d * d];
        check(&zero, d, &symmetric(zero.clone(), d), 1e-300);
        let mut identity = zero.clone();
        (0..d).for_each(|i| identity[i * d + i] = 3.0);
        check(&identity, d, &symmetric(identity.clone(), d), 1e-300);
        // Rank one: all but one eigenvalue are equal.
        let ones = vec![1.0; d * d];
        let eigen = symmetric(ones.clone(), d);
        check(&ones, d, &eigen, 1e-13);
        assert!((eigen.values[0] - d as f64).abs() < 1e-13);
        // Graded over 24 orders of magnitude, and a block structure.
        let graded: Vec<f64> = (0..d * d)
            .map(|t| 10f64.powi(-((t / d) as i32 + (t % d) as i32)) * if t / d == t % d { 2.0 } else { 1.0 })
            .collect();
        check(&graded, d, &symmetric(graded.clone(), d), 1e-13);
        let blocks: Vec<f64> = (0..d * d).map(|t| f64::from(u8::from(t / d / 3 == t % d / 3))).collect();
        check(&blocks, d, &symmetric(blocks.clone(), d), 1e-13);
    }

    #[test]
    fn known_values() {
        // The second difference matrix: 2 - 2 cos(j pi / (d + 1)).
        let d = 30;
        let a: Vec<f64> = (0..d * d)
            .map(|t: usize| match (t / d).abs_diff(t % d) {
                0 => 2.0,
                1 => -1.0,
                _ => 0.0,
            })
            .collect();
        for (j, value) in symmetric(a, d).values.iter().enumerate() {
            let angle = std::f64::consts::PI * (d - j) as f64 / (d + 1) as f64;
            assert!((value - (2.0 - 2.0 * angle.cos())).abs() < 1e-14);
        }
    }

    #[test]
    fn covariance_and_mean() {
        let (n, d) = (300, 5);
        let points =
            Matrix::from_vec(n, d, (0..n * d).map(|i| normal(key(3, &[i as u64])) as f32 + 7.0).collect());
        let m = mean(&points);
        let c = covariance(&points);
        for i in 0..d {
            let sum: f64 = points.iter_rows().map(|r| f64::from(r[i])).sum();
            assert_eq!(m[i], sum / n as f64);
            for j in 0..d {
                // The same sums in the same order, entry by entry.
                let sum = points.iter_rows().fold(0.0, |s, r| {
                    s + (f64::from(r[i.max(j)]) - m[i.max(j)]) * (f64::from(r[i.min(j)]) - m[i.min(j)])
                });
                assert_eq!(c[i * d + j].to_bits(), (sum / n as f64).to_bits());
            }
        }
        assert_eq!(mean(&Matrix::zeros(0, 2)), [0.0, 0.0]);
    }

    #[test]
    fn leading_vectors_agree_with_all() {
        let (d, p) = (60, 6);
        let points = Matrix::from_vec(
            200,
            d,
            (0..200 * d).map(|i| normal(key(9, &[i as u64])) as f32 * 0.8f32.powi((i % d) as i32)).collect(),
        );
        let a = covariance(&points);
        let (all, some) = (symmetric(a.clone(), d), leading(&a, d, p));
        check(&a, d, &some, 1e-4);
        for j in 0..p {
            assert!((all.values[j] - some.values[j]).abs() < 1e-8);
        }
        assert_eq!(some, leading(&a, d, p));
        // Fewer independent directions than asked for, and more asked for than there are.
        let ones = vec![1.0; 16];
        assert!((leading(&ones, 4, 9).values[0] - 4.0).abs() < 1e-12);
    }

    #[test]
    fn the_small_side_gives_the_same_axes() {
        // Fewer rows than coordinates, and more axes asked for than rows can have.
        let (n, d, p) = (9, 40, 12);
        let points =
            Matrix::from_vec(n, d, (0..n * d).map(|i| normal(key(2, &[i as u64])) as f32 + 3.0).collect());
        let (m, progress) = (mean(&points), Progress::default());
        let all = symmetric(covariance(&points), d);
        let small = symmetric(gram(&points, &m, &progress).unwrap(), n);
        let axes = axes(&points, &m, &small.vectors, p, &progress).unwrap();
        for j in 0..n - 1 {
            assert!((all.values[j] - small.values[j]).abs() < 1e-12, "value {j}");
            for i in 0..d {
                assert!((all.vectors[j * d + i] - axes[j * d + i]).abs() < 1e-11, "axis {j}, {i}");
            }
        }
        assert!(axes[n * d..].iter().all(|&x| x == 0.0));
    }

    #[test]
    fn a_stopped_run_ends_inside() {
        let progress = Progress::default();
        progress.cancel_switch().store(true, std::sync::atomic::Ordering::Relaxed);
        let points = Matrix::zeros(4, 3);
        let stopped = |e| matches!(e, crate::Error::Interrupted);
        assert!(super::covariance(&points, &[0.0; 3], &progress).is_err_and(stopped));
        assert!(gram(&points, &[0.0; 3], &progress).is_err_and(stopped));
        assert!(super::symmetric(vec![1.0; 9], 3, &progress).is_err_and(stopped));
        assert!(super::leading(&[1.0; 9], 3, 1, 5, &progress).is_err_and(stopped));
    }
}
