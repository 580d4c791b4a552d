//! Whether batches are dealt in the global order or in the local one ([`local`](crate::batches::local)), and for the local one how
//! much is read at a time: streams, units and the window.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::batches::allocation::Allocation;
use crate::batches::batch_size;
use crate::batches::deal;
pub use crate::batches::number::Number;
use crate::kit::error::{Error, Result};
use crate::kit::size;

/// Streams that nobody asked for.
const STREAMS: u64 = 16;
/// Units of a stream in a round that nobody asked for.
const WINDOWS: [u64; 3] = [4, 2, 1];
const LARGEST_WINDOW: u64 = 64;
/// Rows of a unit: the least while the window may shrink, the least at all, the most, and the most while a unit is small.
const UNIT: u64 = 1 << 10;
const LEAST_UNIT: u64 = 64;
const LARGE_UNIT: u64 = 1 << 14;
const LARGEST_UNIT: u64 = 1 << 17;
/// Rows of a unit are counted in 32 bits.
const LARGEST_GIVEN: u64 = u32::MAX as u64;
/// Decoded bytes below which a unit is small.
const SMALL: u64 = 4 << 20;

/// In which order an epoch's rows come.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Params {
    pub kind: Order,
    /// Units of a stream in a round; `"auto"`: as many as `window_memory` holds, 4 to 64.
    pub window: Number,
    /// Streams that a batch takes equal parts of; `"auto"`: up to 16, or the world size. World sizes that divide it fit.
    pub streams: Number,
    /// Rows that are decoded at a time; `"auto"`: as many as `window_memory` holds.
    pub unit_rows: Number,
    /// Bytes that the units of a round may take, decoded; text such as "512MiB" is read too.
    #[serde(deserialize_with = "size::size")]
    pub window_memory: u64,
    /// Columns that training reads, for `window_memory`; empty: all.
    pub read: Vec<String>,
}

impl Default for Params {
    fn default() -> Self {
        Params {
            kind: Order::Global,
            window: Number::Auto,
            streams: Number::Auto,
            unit_rows: Number::Auto,
            window_memory: 512 << 20,
            read: Vec::new(),
        }
    }
}

/// The order of batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Every batch has its share of all strata to within a row; its rows lie anywhere in the files.
    #[default]
    Global,
    /// Row groups are read one after another, each once an epoch; a batch has its share of the strata of what is open.
    Local,
}

impl Order {
    pub const ALL: [Order; 2] = [Order::Global, Order::Local];

    pub fn name(self) -> &'static str {
        match self {
            Order::Global => "global",
            Order::Local => "local",
        }
    }
}

/// How much is read at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Units of a stream in a round.
    pub units: u64,
    /// Rows of a unit, about.
    pub unit_rows: u64,
}

impl Params {
    pub fn is_global(&self) -> bool {
        self.kind == Order::Global
    }

    /// Finds settings that do not go together, before any data is read.
    pub fn check(&self, batches: &deal::Params, sizes: &batch_size::Params) -> Result<()> {
        if self.is_global() {
            let default = Params::default();
            for (key, given) in [
                ("window", self.window != default.window),
                ("streams", self.streams != default.streams),
                ("unit_rows", self.unit_rows != default.unit_rows),
                ("window_memory", self.window_memory != default.window_memory),
                ("read", !self.read.is_empty()),
            ] {
                if given {
                    return Err(Error::config(
                        format!("locality.{key}"),
                        "has no effect with locality.kind = \"global\"",
                        "say --locality local, or leave it out",
                    ));
                }
            }
            return Ok(());
        }
        for (key, number) in
            [("window", self.window), ("streams", self.streams), ("unit_rows", self.unit_rows)]
        {
            if number == Number::Fixed(0) {
                return Err(Error::config(format!("locality.{key}"), "0 is not possible", "use 1 or more"));
            }
        }
        if let Some(rows) = self.unit_rows.fixed().filter(|&rows| rows > LARGEST_GIVEN) {
            let reason = format!("{rows} rows are more than a unit may have");
            return Err(Error::config("locality.unit_rows", reason, "use a few thousand"));
        }
        let labels = ("rows_per_label", batches.rows_per_label.is_some());
        let composed = [
            labels,
            ("chunk", !batches.chunk.is_row()),
            ("no_duplicates", !batches.no_duplicates.is_empty()),
        ];
        if let Some((key, _)) = composed.into_iter().find(|(_, asked)| *asked) {
            return Err(Error::config(
                format!("batches.{key}"),
                "contradicts locality.kind = \"local\", whose batches are dealt from what is read together",
                format!("leave out --{}, or --locality", key.replace('_', "-")),
            ));
        }
        if batches.allocation != Allocation::Proportional {
            return Err(Error::config(
                "batches.allocation",
                "contradicts locality.kind = \"local\", in which every row comes once an epoch",
                "leave out --allocation and --tau, or --locality",
            ));
        }
        sizes.smallest().map_or(Ok(()), |base| self.streams(base, sizes.world_size).map(drop))
    }

    /// The parameters of the batch size: an automatic one is a multiple of the streams of a local order.
    pub fn batch_size(&self, given: &batch_size::Params) -> batch_size::Params {
        match self.is_global() {
            true => given.clone(),
            false => given.in_multiples_of(self.least_streams(given.world_size)),
        }
    }

    /// Streams of a plan that chooses its batch size; with ranks it may have more.
    pub fn least_streams(&self, world_size: u64) -> u64 {
        self.streams.fixed().unwrap_or(match world_size {
            1 => STREAMS,
            world => STREAMS.max(world) / world * world,
        })
    }

    /// Streams of a plan whose smallest batches have `base` rows: the largest divisor of it up to max(16, world size) that is a
    /// multiple of the world size; where no world size is given, the largest power of two up to 16 that divides it.
    ///
    /// # Errors
    /// If streams, batch size and world size do not divide each other.
    pub fn streams(&self, base: u64, world_size: u64) -> Result<u64> {
        let fits = |streams: u64| base.is_multiple_of(streams) && streams.is_multiple_of(world_size);
        if let Number::Fixed(streams) = self.streams {
            if !base.is_multiple_of(streams) {
                return Err(Error::config(
                    "locality.streams",
                    format!("{streams} does not divide the smallest batch size, {base}"),
                    format!("choose a divisor of {base}, or a --batch-size that is a multiple of {streams}"),
                ));
            }
            if !streams.is_multiple_of(world_size) {
                return Err(Error::config(
                    "locality.streams",
                    format!("{streams} is no multiple of batch_size.world_size, {world_size}"),
                    "every rank reads as many streams: choose a multiple of --world-size",
                ));
            }
            return Ok(streams);
        }
        let found = match world_size {
            1 => (0..=STREAMS.ilog2()).rev().map(|i| 1 << i).find(|&streams| fits(streams)),
            world => (1..=STREAMS.max(world)).rev().find(|&streams| fits(streams)),
        };
        found.ok_or_else(|| {
            Error::config(
                "batch_size.world_size",
                format!("{world_size} does not divide the smallest batch size, {base}"),
                "with --locality local every rank reads as many streams of a batch: choose a batch size that is a multiple of it",
            )
        })
    }

    /// The window and the rows of a unit. `row_bytes`: of a decoded row; `share`: rows of a stream in a batch; `units`: how many
    /// units of so many rows there are.
    ///
    /// # Errors
    /// If `window_memory` does not hold the smallest window.
    pub fn window(
        &self,
        row_bytes: u64,
        streams: u64,
        share: u64,
        units: impl Fn(u64) -> u64,
    ) -> Result<Window> {
        let row_bytes = row_bytes.max(1);
        // Rows of a unit of which a window of so many fits.
        let rows = |window: u64| self.window_memory / row_bytes / window.saturating_mul(streams);
        let windows = match self.window {
            Number::Auto => WINDOWS.to_vec(),
            Number::Fixed(window) => vec![window],
        };
        let smallest = windows[windows.len() - 1];
        let least = self.unit_rows.fixed().unwrap_or(LEAST_UNIT);
        if rows(smallest) < least {
            return Err(Error::config(
                "locality.window_memory",
                format!(
                    "{} bytes do not hold {} ({streams} streams of {smallest} units of {least} rows of {row_bytes} bytes)",
                    self.window_memory,
                    smallest.saturating_mul(streams).saturating_mul(least).saturating_mul(row_bytes)
                ),
                "allow more, name the columns that training reads with --read, or choose fewer --streams",
            ));
        }
        let unit_rows = self.unit_rows.fixed().unwrap_or_else(|| {
            let most = windows.iter().map(|&window| rows(window)).find(|&rows| rows >= UNIT);
            let most = most.unwrap_or(rows(smallest));
            let mut unit_rows = (1 << most.ilog2()).min(LARGE_UNIT);
            let larger = |rows: u64| rows <= most.min(LARGEST_UNIT) && rows * row_bytes < SMALL;
            while unit_rows >= LARGE_UNIT && larger(2 * unit_rows) {
                unit_rows *= 2;
            }
            // Streams are filled rather than units.
            while unit_rows / 2 >= share && units(unit_rows) < 4 * streams {
                unit_rows /= 2;
            }
            unit_rows
        });
        let units = match self.window {
            Number::Fixed(window) => window,
            Number::Auto => (self.window_memory / row_bytes / unit_rows / streams).clamp(1, LARGEST_WINDOW),
        };
        Ok(Window { units, unit_rows })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batches::chunks::Chunk;
    use crate::batches::number::Number;

    fn local() -> Params {
        Params { kind: Order::Local, ..Params::default() }
    }

    #[test]
    fn streams_divide_batches_and_ranks_divide_streams() {
        let of = |base, world| local().streams(base, world);
        assert_eq!([256, 40, 7, 16, 48].map(|base| of(base, 1).unwrap()), [16, 8, 1, 16, 16]);
        assert_eq!(of(48, 3).unwrap(), 12);
        assert_eq!(of(96, 24).unwrap(), 24);
        assert_eq!(of(8192, 64).unwrap(), 64);
        let e = of(100, 3).unwrap_err();
        assert!(e.to_string().contains("batch_size.world_size") && e.to_string().contains("100"), "{e}");
        let fixed = Params { streams: Number::Fixed(6), ..local() };
        assert_eq!(fixed.streams(36, 3).unwrap(), 6);
        for (base, world) in [(32, 1), (36, 4)] {
            assert!(fixed.streams(base, world).unwrap_err().to_string().contains("locality.streams"));
        }
    }

    #[test]
    fn automatic_sizes_are_multiples_of_the_streams() {
        let size = |given: batch_size::Params| {
            batch_size::choose(&local().batch_size(&given), &[1000, 30]).unwrap().size
        };
        let world = |world_size| batch_size::Params { world_size, ..Default::default() };
        assert_eq!([size(world(1)), size(world(3)), size(world(24))], [48, 120, 48]);
        let given = batch_size::Params { size: Number::Fixed(40), ..Default::default() };
        assert_eq!(size(given), 40);
    }

    #[test]
    fn windows_fit_the_memory() {
        let many = |_| u64::MAX;
        let of = |row_bytes, streams| local().window(row_bytes, streams, 16, many).unwrap();
        // 512 MiB: 64 units of 8 MiB, 512 bytes a row.
        assert_eq!(of(512, 16), Window { units: 4, unit_rows: 16384 });
        // A small unit may have more rows, a large one fewer.
        assert_eq!(of(16, 16), Window { units: 16, unit_rows: 131_072 });
        assert_eq!(of(1, 16), Window { units: 64, unit_rows: 131_072 });
        assert_eq!(of(4096, 16), Window { units: 4, unit_rows: 2048 });
        // 1 024 rows do not fit four times, but once.
        assert_eq!(of(16384, 16), Window { units: 2, unit_rows: 1024 });
        assert_eq!(of(32768, 16), Window { units: 1, unit_rows: 1024 });
        assert_eq!(of(100_000, 16), Window { units: 1, unit_rows: 256 });
        let e = local().window(1 << 20, 16, 16, many).unwrap_err();
        assert!(e.to_string().contains("locality.window_memory") && e.help().contains("--read"), "{e}");
        // Few rows: smaller units, down to what a batch takes of a stream.
        let rows = 100_000u64;
        let few = |share| local().window(512, 16, share, |unit| rows.div_ceil(unit)).unwrap().unit_rows;
        assert_eq!((few(16), few(2048)), (1024, 2048));
        let fixed = Params { window: Number::Fixed(9), unit_rows: Number::Fixed(100), ..local() };
        assert_eq!(fixed.window(8, 16, 16, many).unwrap(), Window { units: 9, unit_rows: 100 });
    }

    #[test]
    fn what_does_not_go_together_is_refused() {
        let (batches, sizes) = (deal::Params::default(), batch_size::Params::default());
        assert!(Params::default().check(&batches, &sizes).is_ok());
        assert!(local().check(&batches, &sizes).is_ok());
        for wrong in [
            Params { window: Number::Fixed(4), ..Params::default() },
            Params { read: vec!["x".into()], ..Params::default() },
        ] {
            let e = wrong.check(&batches, &sizes).unwrap_err().to_string();
            assert!(e.contains("locality.kind") && e.contains("has no effect"), "{e}");
        }
        let equal = deal::Params { allocation: Allocation::Equal, ..batches.clone() };
        let e = local().check(&equal, &sizes).unwrap_err().to_string();
        assert!(e.contains("batches.allocation") && e.contains("locality.kind"), "{e}");
        let chunks = deal::Params { chunk: Chunk::Rows(8), ..batches.clone() };
        let e = local().check(&chunks, &sizes).unwrap_err().to_string();
        assert!(e.contains("batches.chunk") && e.contains("locality.kind"), "{e}");
        let keys = deal::Params { no_duplicates: vec!["user".into()], ..batches.clone() };
        let e = local().check(&keys, &sizes).unwrap_err().to_string();
        assert!(e.contains("batches.no_duplicates") && e.contains("locality.kind"), "{e}");
        let labels = deal::Params { rows_per_label: Some(Chunk::Rows(4)), ..batches.clone() };
        let e = local().check(&labels, &sizes).unwrap_err().to_string();
        assert!(e.contains("batches.rows_per_label") && e.contains("locality.kind"), "{e}");
        let odd = batch_size::Params { size: Number::Fixed(50), world_size: 4, ..sizes };
        let e = local().check(&batches, &odd).unwrap_err().to_string();
        assert!(e.contains("batch_size.world_size") && e.contains("50"), "{e}");
    }
}
