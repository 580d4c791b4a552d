//! Bytes to numbers: values as files store them become `f32`, at the speed of memory.
//!
//! The loops are plain Rust without branches, compiled for the widest vectors by [`dispatch`]; every answer is exact or
//! rounded once (`f64`), so all widths give the same bits.
#![allow(unsafe_code)]

use super::simd::{Kernel, Vector, dispatch};

/// Fills `out` with numbers whose little-endian bytes `read` provides, in place. `read` must fill the bytes it is given
/// (they hold what `out` held).
pub fn fill<E>(out: &mut [f32], read: impl FnOnce(&mut [u8]) -> Result<(), E>) -> Result<(), E> {
    let length = size_of_val(out);
    // SAFETY: the same memory, borrowed as long as `out` is; bytes need no alignment, and any bytes are an f32.
    let bytes = unsafe { std::slice::from_raw_parts_mut(out.as_mut_ptr().cast::<u8>(), length) };
    read(bytes)?;
    if cfg!(target_endian = "big") {
        out.iter_mut().for_each(|x| *x = f32::from_bits(u32::from_le(x.to_bits())));
    }
    Ok(())
}

/// The bytes of numbers, as they lie in memory.
pub fn of(numbers: &[f32]) -> &[u8] {
    // SAFETY: the same memory, borrowed as long as `numbers` are; every byte of an f32 is one.
    unsafe { std::slice::from_raw_parts(numbers.as_ptr().cast::<u8>(), size_of_val(numbers)) }
}

/// Whether no number is NaN or infinite.
pub fn all_finite(x: &[f32]) -> bool {
    struct Finite<'a>(&'a [f32]);
    impl Kernel for Finite<'_> {
        type Output = bool;
        #[inline(always)]
        fn run<V: Vector>(self) -> bool {
            // Without its sign, the bits of a number grow with it; what is not finite lies above all.
            let largest = |x: &[f32]| x.iter().fold(0, |m: u32, x| m.max(x.to_bits() & 0x7fff_ffff));
            self.0.chunks(4096).all(|x| largest(x) < f32::INFINITY.to_bits())
        }
    }
    dispatch(Finite(x))
}

/// `out[i]` from the bytes of place `i` in four streams, the lowest first.
pub fn join_f32(streams: [&[u8]; 4], out: &mut [f32]) {
    struct Join<'a>([&'a [u8]; 4], &'a mut [f32]);
    impl Kernel for Join<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            let [a, b, c, d] = self.0;
            for ((((x, a), b), c), d) in self.1.iter_mut().zip(a).zip(b).zip(c).zip(d) {
                *x = f32::from_le_bytes([*a, *b, *c, *d]);
            }
        }
    }
    assert!(streams.iter().all(|stream| stream.len() == out.len()), "a byte of every number in each");
    dispatch(Join(streams, out));
}

/// As [`join_f32`], of f16.
pub fn join_f16(streams: [&[u8]; 2], out: &mut [f32]) {
    struct Join<'a>([&'a [u8]; 2], &'a mut [f32]);
    impl Kernel for Join<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            let [a, b] = self.0;
            for ((x, a), b) in self.1.iter_mut().zip(a).zip(b) {
                *x = widened(u16::from_le_bytes([*a, *b]));
            }
        }
    }
    assert!(streams.iter().all(|stream| stream.len() == out.len()), "a byte of every number in each");
    dispatch(Join(streams, out));
}

/// As [`join_f32`], of f64, rounded to nearest.
pub fn join_f64(streams: [&[u8]; 8], out: &mut [f32]) {
    struct Join<'a>([&'a [u8]; 8], &'a mut [f32]);
    impl Kernel for Join<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            let streams = self.0.map(|stream| &stream[..self.1.len()]);
            for (i, x) in self.1.iter_mut().enumerate() {
                *x = f64::from_le_bytes(streams.map(|stream| stream[i])) as f32;
            }
        }
    }
    assert!(streams.iter().all(|stream| stream.len() == out.len()), "a byte of every number in each");
    dispatch(Join(streams, out));
}

/// Little-endian f16 to f32, exactly.
pub fn widen(bytes: &[u8], out: &mut [f32]) {
    struct Widen<'a>(&'a [u8], &'a mut [f32]);
    impl Kernel for Widen<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            for (x, bytes) in self.1.iter_mut().zip(self.0.as_chunks::<2>().0) {
                *x = widened(u16::from_le_bytes(*bytes));
            }
        }
    }
    dispatch(Widen(bytes, out));
}

/// Little-endian f64 to f32, rounded to nearest.
pub fn narrow(bytes: &[u8], out: &mut [f32]) {
    struct Narrow<'a>(&'a [u8], &'a mut [f32]);
    impl Kernel for Narrow<'_> {
        type Output = ();
        #[inline(always)]
        fn run<V: Vector>(self) {
            for (x, bytes) in self.1.iter_mut().zip(self.0.as_chunks::<8>().0) {
                *x = f64::from_le_bytes(*bytes) as f32;
            }
        }
    }
    dispatch(Narrow(bytes, out));
}

/// An f16 by its bits, as an f32. Its exponent is 112 too small for f32: one exact multiplication by 2^112 mends that,
/// subnormal numbers included. NaN and infinity have the largest exponent in both; NaN becomes quiet.
#[inline(always)]
fn widened(bits: u16) -> f32 {
    const SCALE: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(bits);
    let number = (f32::from_bits((bits & 0x7fff) << 13) * SCALE).to_bits();
    let quiet = if bits & 0x3ff == 0 { 0 } else { 1 << 22 };
    let special = if bits & 0x7c00 == 0x7c00 { f32::INFINITY.to_bits() | quiet } else { 0 };
    f32::from_bits((bits & 0x8000) << 16 | number | special)
}

#[cfg(test)]
mod tests {
    use super::*;
    use half::f16;

    fn bits(x: &[f32]) -> Vec<u32> {
        x.iter().map(|x| x.to_bits()).collect()
    }

    /// All f16 there are; a length that no vector divides.
    fn halves() -> Vec<u16> {
        (0..=u16::MAX).chain(0..13).collect()
    }

    #[test]
    fn halves_widen_exactly() {
        let all = halves();
        let expected: Vec<f32> = all.iter().map(|&h| f16::from_bits(h).to_f32()).collect();
        let bytes: Vec<u8> = all.iter().flat_map(|h| h.to_le_bytes()).collect();
        let mut out = vec![9.0; all.len()];
        widen(&bytes, &mut out);
        assert_eq!(bits(&out), bits(&expected));
        let stream = |byte: usize| bytes.iter().skip(byte).step_by(2).copied().collect::<Vec<u8>>();
        out.fill(9.0);
        join_f16([&stream(0), &stream(1)], &mut out);
        assert_eq!(bits(&out), bits(&expected));
    }

    #[test]
    fn streams_join_to_the_numbers_they_were_split_from() {
        for count in [0, 1, 7, 15, 16, 63, 64, 65, 200, 1027] {
            let numbers: Vec<f64> = (0..count).map(|i| (i as f64 - 99.0) * 1.000_000_1e3).collect();
            let bytes8: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            let bytes4: Vec<u8> = numbers.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect();
            let split = |bytes: &[u8], width: usize| -> Vec<Vec<u8>> {
                (0..width).map(|byte| bytes.iter().skip(byte).step_by(width).copied().collect()).collect()
            };
            let expected: Vec<f32> = numbers.iter().map(|x| *x as f32).collect();
            let mut out = vec![9.0; count];
            let streams = split(&bytes4, 4);
            join_f32(std::array::from_fn(|i| &streams[i][..]), &mut out);
            assert_eq!(bits(&out), bits(&expected));
            let streams = split(&bytes8, 8);
            out.fill(9.0);
            join_f64(std::array::from_fn(|i| &streams[i][..]), &mut out);
            assert_eq!(bits(&out), bits(&expected));
            out.fill(9.0);
            narrow(&bytes8, &mut out);
            assert_eq!(bits(&out), bits(&expected));
            out.fill(9.0);
            let filled: Result<(), ()> = fill(&mut out, |into| {
                into.copy_from_slice(&bytes4);
                Ok(())
            });
            assert_eq!(filled, Ok(()));
            assert_eq!(bits(&out), bits(&expected));
        }
    }

    #[test]
    fn every_place_is_looked_at() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::from_bits(0x7f80_0001)] {
            for place in [0, 1, 15, 16, 4095, 4096, 8193] {
                let mut x = vec![f32::MAX; 8194];
                x[1] = -0.0;
                x[2] = f32::MIN;
                assert!(all_finite(&x));
                x[place] = bad;
                assert!(!all_finite(&x), "{bad} at {place}");
            }
        }
        assert!(all_finite(&[]));
    }
}
