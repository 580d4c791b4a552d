//! Undoes the compression of a page, into room whose length the page header told: no more is ever written than fits.

use std::io::Read;

use parquet::basic::Compression;

/// What decompression keeps from one page to the next.
#[derive(Default)]
pub(super) struct Codec {
    zstd: Option<zstd::bulk::Decompressor<'static>>,
}

impl Codec {
    /// Fills `to` with what `from` holds. None if that is damaged, or not as long as `to`.
    pub fn unpack(&mut self, compression: Compression, from: &[u8], to: &mut [u8]) -> Option<()> {
        let length = match compression {
            // Of no values, some writers store no bytes at all.
            _ if to.is_empty() => 0,
            Compression::UNCOMPRESSED => {
                to.copy_from_slice(from.get(..to.len())?);
                to.len()
            }
            Compression::SNAPPY => snap::raw::Decoder::new().decompress(from, to).ok()?,
            Compression::LZ4_RAW => lz4_flex::block::decompress_into(from, to).ok()?,
            // The format does not say which framing this is: Hadoop's, that of LZ4 files, or none.
            Compression::LZ4 => hadoop(from, to)
                .or_else(|| stream(lz4_flex::frame::FrameDecoder::new(from), to))
                .or_else(|| lz4_flex::block::decompress_into(from, to).ok())?,
            Compression::ZSTD(_) => {
                let zstd = match &mut self.zstd {
                    Some(zstd) => zstd,
                    none => none.insert(zstd::bulk::Decompressor::new().ok()?),
                };
                zstd.decompress_to_buffer(from, to).ok()?
            }
            Compression::GZIP(_) => stream(flate2::read::MultiGzDecoder::new(from), to)?,
            Compression::BROTLI(_) => stream(brotli::Decompressor::new(from, 64 << 10), to)?,
            _ => return None,
        };
        (length == to.len()).then_some(())
    }
}

/// Whether pages of this codec can be read at all.
pub(super) fn is_read(compression: Compression) -> bool {
    !matches!(compression, Compression::LZO)
}

/// All of a stream, which must not be longer than `to`.
fn stream(mut from: impl Read, to: &mut [u8]) -> Option<usize> {
    from.read_exact(to).ok()?;
    (from.read(&mut [0]).ok()? == 0).then_some(to.len())
}

/// Hadoop's framing of LZ4: frames of a full length and then blocks, each after its own length, until the frame is full.
fn hadoop(mut from: &[u8], to: &mut [u8]) -> Option<usize> {
    fn number(from: &mut &[u8]) -> Option<usize> {
        let (number, rest) = from.split_first_chunk::<4>()?;
        *from = rest;
        Some(u32::from_be_bytes(*number) as usize)
    }
    let mut at = 0usize;
    while !from.is_empty() {
        let end = at.checked_add(number(&mut from)?)?;
        while at < end {
            let length = number(&mut from)?;
            let (block, rest) = from.split_at_checked(length)?;
            from = rest;
            match lz4_flex::block::decompress_into(block, to.get_mut(at..end)?).ok()? {
                0 => return None,
                more => at += more,
            }
        }
    }
    Some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(full: usize, blocks: &[&[u8]]) -> Vec<u8> {
        let mut out = (full as u32).to_be_bytes().to_vec();
        for block in blocks {
            let packed = lz4_flex::block::compress(block);
            out.extend((packed.len() as u32).to_be_bytes());
            out.extend(packed);
        }
        out
    }

    #[test]
    fn hadoop_frames_of_several_blocks() {
        let text: Vec<u8> = (0..900u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let mut stored = frame(1000, &[&text[..400], &text[400..1000]]);
        stored.extend(frame(0, &[]));
        stored.extend(frame(2600, &[&text[1000..1001], &text[1001..3000], &text[3000..]]));
        let unpack = |stored: &[u8], length: usize| {
            let mut out = vec![0; length];
            Codec::default().unpack(Compression::LZ4, stored, &mut out).map(|()| out)
        };
        assert_eq!(unpack(&stored, 3600), Some(text.clone()));
        assert_eq!(unpack(&stored, 3599), None);
        assert_eq!(unpack(&stored, 3601), None);
        for length in 0..stored.len() {
            assert_eq!(unpack(&stored[..length], 3600), None, "cut at {length}");
        }
        assert_eq!(unpack(&lz4_flex::block::compress(&text), 3600), Some(text), "no framing");
        assert_eq!(unpack(&[0, 0, 0, 1, 0, 0, 0, 0], 1), None, "a block of nothing, for ever");
    }
}
