//! Which rows of the data are those of the plan: by row group, from the bytes and what they mean; where these differ, from the
//! ordered hash of its rows, which proves that a file was only rewritten, and from their order-free sum, by which the same
//! rows in another order are told from changed ones.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::engine::{self, Sampling};
use crate::features::Inputs;
use crate::format::sources::Source;
use crate::kit::error::Result;
use crate::parts::Local;
use crate::plan::{Assigner, Plan};
use crate::source::Dataset;
use crate::statistics::content::{Content, Hashes};

/// What became of the plan's rows, and what came in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    pub rows_then: u64,
    pub rows_now: u64,
    /// At their numbers, in row groups whose bytes are the same.
    pub unchanged: u64,
    /// At their numbers, in other bytes (other compression, other row groups).
    pub rewritten: u64,
    /// In row groups as they were, but at other row numbers.
    pub moved: u64,
    /// The same rows in another order.
    pub reordered: u64,
    /// Rows of the plan that were not found: gone, or changed.
    pub gone: u64,
    /// Rows that the plan does not know: new, or changed.
    pub new: u64,
    /// Row groups that are not as they were.
    pub row_groups: Vec<GroupChange>,
}

impl Coverage {
    /// Whether every row of the plan is at its number.
    pub fn in_place(&self) -> bool {
        self.unchanged + self.rewritten == self.rows_then
    }
}

/// A row group that is not as it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupChange {
    pub file: String,
    pub row_group: u32,
    pub rows: u64,
    pub state: State,
}

/// What happened to a row group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    Moved,
    Rewritten,
    Reordered,
    /// There is one in its place, with other rows.
    Changed,
    New,
    Gone,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Moved => "moved",
            State::Rewritten => "rewritten",
            State::Reordered => "reordered",
            State::Changed => "changed",
            State::New => "new",
            State::Gone => "gone",
        }
    }
}

/// The row groups of the data against those of the plan.
#[derive(Clone, Debug, Default)]
pub struct Matched {
    /// Of every row group of the data, the plan's row group with the same bytes.
    pub origin: Vec<Option<usize>>,
    /// Fingerprint, and bytes it covers, of every row group of the data.
    pub prints: Vec<(String, u64)>,
    /// What these bytes mean ([`Dataset::types`]).
    pub types: Vec<[u8; 32]>,
    /// Row groups of the plan that none of the data equals.
    pub lost: Vec<usize>,
}

impl Matched {
    /// Row groups of the data that the plan does not have.
    pub fn fresh(&self) -> Vec<usize> {
        (0..self.origin.len()).filter(|&g| self.origin[g].is_none()).collect()
    }

    /// Whether the data has all row groups of the plan, and perhaps others.
    pub fn only_appended(&self) -> bool {
        self.lost.is_empty()
    }
}

/// The columns whose bytes make the fingerprints.
pub fn named(plan: &Plan, dataset: &Dataset) -> Result<Vec<String>> {
    let config = plan.config()?;
    config.named(&Inputs::choose(&config.features, dataset.columns(), &[])?, dataset)
}

/// Finds the plan's row groups in the data by their fingerprints. With `trust`, the fingerprints of a file whose size,
/// version and footer are those noted in run.json are taken from the plan: then its rows are not read at all.
pub fn match_groups(plan: &Plan, dataset: &Dataset, trust: bool, engine: &Local) -> Result<Matched> {
    let sources = plan.sources()?;
    let place: BTreeMap<(&str, i32), usize> =
        sources.iter().enumerate().map(|(i, s)| ((s.file.as_str(), s.row_group), i)).collect();
    let trusted = if trust { trusted_files(plan, dataset)? } else { BTreeSet::new() };
    let columns = named(plan, dataset)?;
    let files = dataset.files();
    let known = |g: usize| {
        let group = &dataset.row_groups()[g];
        let same = place.get(&(files[group.file].path.as_str(), group.row_group as i32));
        same.filter(|_| trusted.contains(&group.file))
            .map(|&s| (sources[s].fingerprint.clone(), sources[s].bytes))
    };
    let mut prints: Vec<Option<(String, u64)>> = (0..dataset.row_groups().len()).map(known).collect();
    let unknown: Vec<usize> = (0..prints.len()).filter(|&g| prints[g].is_none()).collect();
    let sampling = Sampling::of_bytes(columns.clone());
    let (_, found) = engine::sample("fingerprint", dataset, None, &sampling, &unknown, &[], engine)?;
    unknown.iter().zip(found).for_each(|(&g, print)| prints[g] = Some(print));
    let prints: Vec<(String, u64)> = prints.into_iter().flatten().collect();

    let types: Vec<[u8; 32]> =
        (0..prints.len()).map(|g| dataset.types(g, &columns)).collect::<Result<_>>()?;

    let mut origin = vec![None; prints.len()];
    let mut free: BTreeSet<usize> = (0..sources.len()).collect();
    let same = |g: usize, s: &Source| {
        prints[g].0 == s.fingerprint
            && dataset.row_groups()[g].rows == s.rows
            && s.types.is_none_or(|then| then == types[g])
    };
    for (g, group) in dataset.row_groups().iter().enumerate() {
        let here = place.get(&(files[group.file].path.as_str(), group.row_group as i32));
        if let Some(&s) = here.filter(|&&s| same(g, &sources[s])) {
            origin[g] = Some(s);
            free.remove(&s);
        }
    }
    let mut by_print: BTreeMap<&str, VecDeque<usize>> = BTreeMap::new();
    free.iter().for_each(|&s| by_print.entry(&sources[s].fingerprint).or_default().push_back(s));
    for g in 0..prints.len() {
        let waiting = by_print.get_mut(prints[g].0.as_str()).filter(|_| origin[g].is_none());
        if let Some(s) = waiting.and_then(VecDeque::pop_front).filter(|&s| same(g, &sources[s])) {
            origin[g] = Some(s);
            free.remove(&s);
        }
    }
    Ok(Matched { origin, prints, types, lost: free.into_iter().collect() })
}

/// Files that are as run.json remembers them.
pub(super) fn trusted_files(plan: &Plan, dataset: &Dataset) -> Result<BTreeSet<usize>> {
    let known = plan.run_info()?.map(|run| run.files).unwrap_or_default();
    if known.is_empty() {
        return Ok(BTreeSet::new());
    }
    let states = dataset.file_states()?;
    let same = |(i, state): (usize, crate::format::manifest::FileState)| {
        let before = known.get(&dataset.files()[i].path)?;
        (!state.version.is_empty() && *before == state).then_some(i)
    };
    Ok(states.into_iter().enumerate().filter_map(same).collect())
}

/// Rows of the data (global numbers, ascending ranges) that the plan does not know.
pub type Fresh = Vec<Range<u64>>;

/// The whole story. Reads the rows of row groups that are not the plan's only where the plan lost some: otherwise they are
/// new, whatever they hold. Only an ordered hash proves `rewritten`; `reordered` is by checksum.
pub fn cover(
    plan: &Plan,
    dataset: &Dataset,
    matched: &Matched,
    assigner: &Assigner,
    engine: &Local,
) -> Result<(Coverage, Fresh)> {
    let sources = plan.sources()?;
    let groups = dataset.row_groups();
    let name = |g: usize, state| GroupChange {
        file: dataset.files()[groups[g].file].path.clone(),
        row_group: groups[g].row_group as u32,
        rows: groups[g].rows,
        state,
    };
    let mut coverage =
        Coverage { rows_then: plan.manifest().rows, rows_now: dataset.rows(), ..Coverage::default() };
    for (g, origin) in matched.origin.iter().enumerate() {
        match origin.map(|s| sources[s].first_row == groups[g].first_row) {
            Some(true) => coverage.unchanged += groups[g].rows,
            Some(false) => {
                coverage.moved += groups[g].rows;
                coverage.row_groups.push(name(g, State::Moved));
            }
            None => {}
        }
    }
    let fresh = matched.fresh();
    let mut segments = segments(dataset, &fresh, sources, &matched.lost);
    let mut lost = matched.lost.clone();
    if !fresh.is_empty() && !lost.is_empty() {
        hash(&mut segments, dataset, &fresh, plan, assigner, engine)?;
        lost.retain(|&s| !find_in_place(&sources[s], &mut segments));
        lost.retain(|&s| !find_moved(&sources[s], &mut segments));
        find_reordered(sources, &mut lost, &mut segments);
    }
    for segment in &segments {
        let rows = segment.rows.end - segment.rows.start;
        match segment.state {
            Some(State::Rewritten) => coverage.rewritten += rows,
            Some(State::Moved) => coverage.moved += rows,
            Some(State::Reordered) => coverage.reordered += rows,
            _ => coverage.new += rows,
        }
    }
    coverage.gone = lost.iter().map(|&s| sources[s].rows).sum();

    let gone: BTreeSet<(&str, i32)> =
        lost.iter().map(|&s| (sources[s].file.as_str(), sources[s].row_group)).collect();
    let mut replaced = BTreeSet::new();
    for &g in &fresh {
        let of: Vec<_> = segments.iter().filter(|s| s.group == g).map(|s| s.state).collect();
        let key = (dataset.files()[groups[g].file].path.as_str(), groups[g].row_group as i32);
        let state = match of.first() {
            Some(&Some(state)) if of.iter().all(|s| *s == Some(state)) => state,
            _ if gone.contains(&key) => State::Changed,
            _ => State::New,
        };
        if state == State::Changed {
            replaced.insert(key);
        }
        coverage.row_groups.push(name(g, state));
    }
    for &s in &lost {
        let Source { file, row_group, rows, .. } = &sources[s];
        if !replaced.contains(&(file.as_str(), *row_group)) {
            let (file, row_group) = (file.clone(), *row_group as u32);
            coverage.row_groups.push(GroupChange { file, row_group, rows: *rows, state: State::Gone });
        }
    }
    let fresh = segments.into_iter().filter(|s| s.state.is_none()).map(|s| s.rows).collect();
    Ok((coverage, fresh))
}

/// Rows of one row group of the data that lie in the same row groups of the plan by number, or in none.
struct Segment {
    group: usize,
    rows: Range<u64>,
    /// Place of its first row in the plan's row group that it may be of.
    offset: u64,
    hashes: Hashes,
    /// None: not found in the plan.
    state: Option<State>,
}

fn segments(dataset: &Dataset, fresh: &[usize], sources: &[Source], lost: &[usize]) -> Vec<Segment> {
    let ranges: Vec<Range<u64>> = lost.iter().map(|&s| rows_of(&sources[s])).collect();
    let mut cuts: Vec<u64> = ranges.iter().flat_map(|r| [r.start, r.end]).collect();
    cuts.sort_unstable();
    cuts.dedup();
    let mut out = Vec::new();
    for &group in fresh {
        let place = &dataset.row_groups()[group];
        let (mut at, end) = (place.first_row, place.first_row + place.rows);
        for cut in cuts.iter().copied().filter(|&c| c > at && c < end).chain([end]).collect::<Vec<_>>() {
            let offset = ranges.iter().find(|r| r.contains(&at)).map_or(0, |r| at - r.start);
            out.push(Segment { group, rows: at..cut, offset, hashes: Hashes::default(), state: None });
            at = cut;
        }
    }
    out.retain(|s| !s.rows.is_empty());
    out
}

fn rows_of(source: &Source) -> Range<u64> {
    source.first_row..source.first_row + source.rows
}

fn hash(
    segments: &mut [Segment],
    dataset: &Dataset,
    fresh: &[usize],
    plan: &Plan,
    assigner: &Assigner,
    engine: &Local,
) -> Result<()> {
    let part = dataset.only(fresh);
    let mut first_rows = Vec::with_capacity(segments.len());
    let mut next = 0;
    for segment in segments.iter() {
        first_rows.push(next);
        next += segment.rows.end - segment.rows.start;
    }
    let numbers = segments.iter().map(|s| s.rows.start).collect();
    let offsets = segments.iter().map(|s| s.offset).collect();
    let table = hashed_columns(plan, dataset)?;
    let key = plan.content_key()?;
    let pass = Content::new(table.clone(), first_rows, key).numbered(numbers).inside(offsets);
    let hashes = assigner.run(&part, &table, None, engine, &pass)?;
    segments.iter_mut().zip(hashes).for_each(|(s, h)| s.hashes = h);
    Ok(())
}

/// The columns beside the vectors that content hashes cover, in the order of the plan.
pub fn hashed_columns(plan: &Plan, dataset: &Dataset) -> Result<Vec<String>> {
    let inputs = Inputs::choose(&plan.config()?.features, dataset.columns(), &[])?;
    Ok(named(plan, dataset)?.into_iter().filter(|c| !inputs.vectors.contains(c)).collect())
}

/// Rows and order-free sum.
fn sum<'a>(segments: impl Iterator<Item = &'a Segment>) -> (u64, u128) {
    segments.fold((0, 0), |(rows, content), s| {
        (rows + (s.rows.end - s.rows.start), content.wrapping_add(s.hashes.content))
    })
}

/// The rows of a lost row group where they were by number: in the same order, or in another.
fn find_in_place(source: &Source, segments: &mut [Segment]) -> bool {
    let range = rows_of(source);
    let inside = |s: &&Segment| s.state.is_none() && range.start <= s.rows.start && s.rows.end <= range.end;
    let (rows, content) = sum(segments.iter().filter(inside));
    if rows != source.rows {
        return false;
    }
    let all = segments.iter().filter(inside).map(|s| s.hashes.clone()).reduce(|mut all, next| {
        all.join(next);
        all
    });
    let all = all.unwrap_or_default();
    let proven = match source.ordered {
        Some(ordered) => all.ordered() == Some(ordered),
        None => content == source.content && source.sequence == Some(all.sequence),
    };
    if !proven && content != source.content {
        return false;
    }
    let state = if proven { State::Rewritten } else { State::Reordered };
    for s in segments.iter_mut().filter(|s| range.start <= s.rows.start && s.rows.end <= range.end) {
        s.state = Some(state);
    }
    true
}

/// A row group of the data, in other bytes, that holds the rows of a lost one.
fn find_moved(source: &Source, segments: &mut [Segment]) -> bool {
    let groups: BTreeSet<usize> = segments.iter().filter(|s| s.state.is_none()).map(|s| s.group).collect();
    for group in groups {
        let of = |s: &&Segment| s.group == group;
        let open = segments.iter().filter(of).all(|s| s.state.is_none());
        if open && sum(segments.iter().filter(of)) == (source.rows, source.content) {
            segments.iter_mut().filter(|s| s.group == group).for_each(|s| s.state = Some(State::Moved));
            return true;
        }
    }
    false
}

/// All rows that are left, on both sides: the same ones in another order?
fn find_reordered(sources: &[Source], lost: &mut Vec<usize>, segments: &mut [Segment]) {
    let open = |s: &&Segment| s.state.is_none();
    let content = lost.iter().fold(0u128, |sum, &s| sum.wrapping_add(sources[s].content));
    let then: u64 = lost.iter().map(|&s| sources[s].rows).sum();
    if !lost.is_empty() && sum(segments.iter().filter(open)) == (then, content) {
        segments.iter_mut().filter(|s| s.state.is_none()).for_each(|s| s.state = Some(State::Reordered));
        lost.clear();
    }
}
