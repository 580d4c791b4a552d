//! What reading a plan in the local order takes, and how even its batches are.

use serde::Serialize;

use crate::batches::epochs::Epochs;
use crate::batches::local::LocalOrder;
use crate::config::Config;
use crate::format::Kind;
use crate::format::units::{Evenness, Locality, Units};
use crate::kit::error::{Error, Result};

use super::reader::{Plan, cached};

/// Drift from which on a plan is warned of.
pub const DRIFT: f64 = 0.1;

/// How a plan in the local order is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reading {
    pub streams: u64,
    /// Units of a stream in a round.
    pub window: u64,
    /// Rows of a unit, about.
    pub unit_rows: u64,
    /// Bytes of a row, decoded.
    pub row_bytes: u64,
    /// Ranks that the plan was made for.
    pub world_size: u64,
    /// World sizes that it fits: the divisors of `streams`.
    pub world_sizes: Vec<u64>,
    /// Decoded bytes of the units that the largest round opens.
    pub round_bytes: u64,
    /// Memory of one of `world_size` ranks, in bytes: the rows of this round and the next, and a unit.
    pub rank_bytes: u64,
    pub evenness: Evenness,
}

impl Reading {
    /// `base`: rows of the smallest batch.
    pub fn new(local: &Locality, base: u64, world_size: u64) -> Reading {
        let Locality { streams, window, unit_rows, row_bytes, evenness, .. } = *local;
        let rows = 2 * (evenness.round_batches * base).div_ceil(world_size) + unit_rows;
        Reading {
            streams,
            window,
            unit_rows,
            row_bytes,
            world_size,
            world_sizes: (1..=streams).filter(|world| streams.is_multiple_of(*world)).collect(),
            round_bytes: evenness.round_rows * row_bytes,
            rank_bytes: rows * row_bytes,
            evenness,
        }
    }
}

impl Locality {
    /// With that of epoch 0, and of slices for the ranks and micro steps that the plan is made for. O(rows), but no row is looked
    /// at.
    pub fn with_evenness(mut self, epochs: &Epochs<'_>, config: &Config) -> Self {
        let epoch = epochs.epoch(0, epochs.base);
        let slices = config.batch_size.world_size * config.batch_size.micro_steps;
        // Slices of parts of a stream depend on how its rows are laid out.
        let slices = if self.streams.is_multiple_of(slices) { slices } else { 1 };
        if let Some(local) = epoch.local() {
            self.evenness = local.evenness(epochs.score_groups, slices as usize);
        }
        self
    }
}

impl Plan {
    /// The units of the local order and what else it fixes, mapped once; None: batches are dealt in the global order.
    pub fn units(&self) -> Result<Option<&(Units, Locality)>> {
        let read = || {
            let Some(table) = self.table(Kind::Units)? else { return Ok(None) };
            let (units, local) = crate::format::units::decode(&table)?;
            let rows: u64 = units.rows.iter().map(|&n| u64::from(n)).sum();
            if rows != self.manifest().rows {
                return Err(
                    table.damaged(format!("its units have {rows} rows, not {}", self.manifest().rows))
                );
            }
            let offsets = self.strata()?.offsets();
            let mut counts = vec![0u64; offsets.len() - 1];
            for (h, n) in (0..units.len()).flat_map(|unit| units.cells(unit)) {
                match counts.get_mut(h as usize) {
                    Some(count) => *count += u64::from(n),
                    None => return Err(table.damaged(format!("it counts rows of stratum {h}"))),
                }
            }
            if !counts.iter().copied().eq(offsets.windows(2).map(|o| o[1] - o[0])) {
                return Err(table.damaged("its units count other rows of the strata than strata.arrow"));
            }
            Ok(Some((units, local)))
        };
        cached(&self.units, read).map(Option::as_ref)
    }

    /// The local order that batches are dealt in, if they are.
    pub(super) fn local_order(&self, base: u64) -> Result<Option<LocalOrder<'_>>> {
        let Some((units, local)) = self.units()? else { return Ok(None) };
        let Locality { streams, window, .. } = *local;
        if !base.is_multiple_of(streams) {
            let reason = format!("{streams} streams do not divide the smallest batch size, {base}");
            return Err(self.damaged(Kind::Units.path(), &reason));
        }
        Ok(Some(LocalOrder { units, strata: self.samples()?, streams, window }))
    }

    /// Errors if a plan in the local order has no whole streams for each of so many ranks.
    pub fn check_world_size(&self, world_size: u64) -> Result<()> {
        let Some(reading) = self.reading()?.filter(|reading| !reading.world_sizes.contains(&world_size))
        else {
            return Ok(());
        };
        let fitting: Vec<String> = reading.world_sizes.iter().map(u64::to_string).collect();
        Err(Error::config(
            "world_size",
            format!(
                "{world_size} ranks do not fit the local order of this plan: its {} streams are for {}",
                reading.streams,
                fitting.join(", ")
            ),
            "run on as many ranks, or plan with `batchwright plan --locality local --world-size W`",
        ))
    }

    /// None: batches are dealt in the global order.
    pub fn reading(&self) -> Result<Option<Reading>> {
        let Some((_, local)) = self.units()? else { return Ok(None) };
        let sizes = self.manifest().candidates.iter().map(|c| u64::from(c.batch_size));
        let base = sizes.min().unwrap_or(u64::from(self.manifest().batch_size));
        Ok(Some(Reading::new(local, base, self.settings()?.batch_size.world_size)))
    }
}
