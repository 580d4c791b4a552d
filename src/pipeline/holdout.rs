//! Rows stay in the splits of an older plan: they are found again by their numbers where row groups are as they were, and by what their cells
//! hold elsewhere.

use std::collections::{BTreeMap, VecDeque};

use super::check::coverage::{Coverage, Matched, State};
use crate::format::Kind;
use crate::format::holdout::HeldOut;
use crate::kit::error::{Error, Result};
use crate::kit::scratch::RowFile;
use crate::plan::Plan;
use crate::source::Dataset;
use crate::splits::{ASIDE, NO_SPLIT};

/// Rows whose hashes are read at a time.
const CHUNK: u64 = 1 << 20;
/// Bytes of a content hash in the working file.
pub use crate::engine::rows::CONTENT_BYTES;

/// The plan that an update begins with, and what became of its rows.
pub struct Older<'a> {
    pub plan: &'a Plan,
    pub matched: &'a Matched,
    pub coverage: &'a Coverage,
    /// `--deal-holdout`: nothing stays in its split.
    pub deal: bool,
}

impl Older<'_> {
    pub fn held(&self) -> Result<Vec<HeldOut>> {
        if self.deal { Ok(Vec::new()) } else { self.plan.held_out() }
    }

    /// Contents of held-out rows that nobody has trained on, and their split: a row equal to one of them is held out, too.
    fn known(&self) -> Result<BTreeMap<[u8; CONTENT_BYTES], u16>> {
        let alone = |h: HeldOut| h.content.filter(|c| c.copies == 0).map(|c| (c.hash, h.split));
        Ok(self.held()?.into_iter().rev().filter_map(alone).collect())
    }

    /// First row now of the plan's row groups that are as they were.
    fn places(&self, dataset: &Dataset) -> BTreeMap<usize, u64> {
        let groups = dataset.row_groups().iter().zip(&self.matched.origin);
        groups.filter_map(|(group, origin)| Some((origin.as_ref().copied()?, group.first_row))).collect()
    }

    /// Every row of the plan is at its number, or in a row group as it was.
    pub fn found_by_number(&self) -> bool {
        self.coverage.in_place() || self.matched.lost.is_empty()
    }

    /// Errors if held-out rows cannot be found again: a plan of format 1.0 knows their numbers alone.
    pub fn check(&self) -> Result<()> {
        let held = self.held()?;
        let sources = self.plan.sources()?;
        let lost = |h: &&HeldOut| {
            let source = sources.partition_point(|s| s.first_row + s.rows <= h.row);
            h.content.is_none() && self.matched.lost.contains(&source)
        };
        match held.iter().filter(lost).count() {
            n if n > 0 && !self.coverage.in_place() => Err(Error::plan(
                self.plan.path().join(Kind::Holdout.path()),
                format!(
                    "knows its held-out rows by their numbers alone, and {n} of them are no longer there"
                ),
                "deal them anew with --deal-holdout: rows that were in the batches may then be held out, and the other way round",
            )),
            _ => Ok(()),
        }
    }

    /// Split of every row of the dataset: [`NO_SPLIT`] for one that is still to be dealt, [`ASIDE`] for one that is to be in none. `contents`: of all
    /// rows whose row group is not as it was.
    pub fn splits(&self, dataset: &Dataset, contents: Option<&RowFile>) -> Result<Vec<u16>> {
        let mut out = vec![NO_SPLIT; dataset.rows() as usize];
        let (held, sources, places) = (self.held()?, self.plan.sources()?, self.places(dataset));
        let stored = self.plan.splits()?;
        let in_folds = stored.is_some_and(|s| s.in_folds());
        let of = |row| stored.map_or(0, |s| s.split(row).unwrap_or(ASIDE));
        if self.coverage.in_place() {
            out.iter_mut().zip(0..self.plan.manifest().rows).for_each(|(split, row)| *split = of(row));
        }
        for (group, origin) in dataset.row_groups().iter().zip(&self.matched.origin) {
            let Some(s) = *origin else { continue };
            let was = sources[s].first_row..sources[s].first_row + group.rows;
            out[group.first_row as usize..].iter_mut().zip(was).for_each(|(split, row)| *split = of(row));
        }
        // Of those whose row group is not as it was: the splits that rows of each content had.
        let mut lost: BTreeMap<[u8; CONTENT_BYTES], VecDeque<u16>> = BTreeMap::new();
        for h in &held {
            let s = sources.partition_point(|s| s.first_row + s.rows <= h.row);
            match (places.get(&s), h.content) {
                (Some(first), _) => out[(first + (h.row - sources[s].first_row)) as usize] = h.split,
                (None, Some(content)) => lost.entry(content.hash).or_default().push_back(h.split),
                // Checked before: all rows are where they were.
                (None, None) => out[h.row as usize] = h.split,
            }
        }
        let fresh = (0..self.matched.origin.len()).filter(|&g| self.matched.origin[g].is_none());
        let known = self.known()?;
        for g in fresh.filter(|_| !in_folds) {
            self.find(dataset, g, contents, &known, &mut lost, &mut out)?;
        }
        Ok(out)
    }

    /// Rows of a row group that is not as it was, by their contents. Those of the plan that were not held out may have been trained on: they are
    /// in the first split.
    fn find(
        &self,
        dataset: &Dataset,
        g: usize,
        contents: Option<&RowFile>,
        known: &BTreeMap<[u8; CONTENT_BYTES], u16>,
        lost: &mut BTreeMap<[u8; CONTENT_BYTES], VecDeque<u16>>,
        out: &mut [u16],
    ) -> Result<()> {
        let group = &dataset.row_groups()[g];
        let (mut found, mut bytes) = (false, Vec::new());
        let rows = &mut out[group.first_row as usize..(group.first_row + group.rows) as usize];
        for first in (0..group.rows).step_by(CHUNK as usize) {
            let Some(contents) = contents else { break };
            contents.read(group.first_row + first, (group.rows - first).min(CHUNK) as usize, &mut bytes)?;
            for (split, hash) in rows[first as usize..].iter_mut().zip(bytes.as_chunks::<CONTENT_BYTES>().0) {
                let again = lost.get_mut(hash).and_then(VecDeque::pop_front);
                found |= again.is_some();
                if let Some(s) = again.or_else(|| known.get(hash).copied()) {
                    *split = s;
                }
            }
        }
        let path = dataset.files()[group.file].path.as_str();
        let new = self.coverage.row_groups.iter().any(|g| {
            g.state == State::New && (g.file.as_str(), g.row_group as usize) == (path, group.row_group)
        });
        // Where rows of the plan are gone, a row group with one of its held-out rows may hold others of its rows, too.
        if !new || (found && !self.matched.lost.is_empty()) {
            rows.iter_mut().filter(|s| **s == NO_SPLIT).for_each(|s| *s = 0);
        }
        Ok(())
    }
}
