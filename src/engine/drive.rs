//! The side that waits: cuts the rows into tasks, has an engine run them, and puts together what they found.

use std::collections::BTreeMap;

use super::assigning::{Assigning, Source};
use super::job::{self, Found, Job, Task, What, Work};
use super::passes::Passes;
use super::sampling::{Print, Sampled, Sampling};
use crate::features::Encoder;
use crate::kernels;
use crate::kit::error::{Error, Result};
use crate::parts::{Elsewhere, Event, KEY, Local, Part, Pass, parts_of};
use crate::source::{Dataset, RawRows};

/// Rows of a task at most where rows are encoded: a network takes milliseconds a row.
const ENCODED: u64 = 16_384;

/// Assigns all rows of `source` and runs the passes over them: on these threads, or on the engine that `local` names. Both
/// ways have the same result.
///
/// # Errors
/// The first one in the order of the rows.
pub fn run<P: Passes>(
    source: &Source<'_>,
    assigning: &Assigning,
    pass: &P,
    local: &Local,
) -> Result<P::Output> {
    let parts = parts_of(source.dataset.rows(), assigning.step());
    let partial = match local.elsewhere().filter(|_| !parts.is_empty()) {
        Some(elsewhere) => Some(assign(source, assigning, pass, &parts, elsewhere, local)?),
        None => {
            let keep = |row| source.selection.contains(row);
            let Source { dataset, encoder, known, .. } = *source;
            assigning.partial(dataset, encoder, &keep, known, pass, &parts, local)?
        }
    };
    pass.finish(partial)
}

fn assign<P: Passes>(
    source: &Source<'_>,
    assigning: &Assigning,
    pass: &P,
    parts: &[Part],
    elsewhere: &Elsewhere,
    local: &Local,
) -> Result<P::Partial> {
    let passes = postcard::to_stdvec(pass).expect("plain data in memory");
    let work = Work::Rows { assigning: Box::new(assigning.clone()), kind: P::KIND, passes };
    let Source { dataset, encoder, .. } = *source;
    let columns = assigning.inputs.stored_vectors().chain(&assigning.inputs.table).chain(&assigning.table);
    let row = bytes_of_row(dataset, columns.cloned().collect());
    let most = if encoder.is_some() { ENCODED } else { u64::MAX };
    // The largest power of two that reads no more than that, from the footers and the settings alone.
    let together = 1 << ((elsewhere.task_bytes / row).min(most) / assigning.step() as u64).max(1).ilog2();
    let cuts: Vec<&[Part]> = parts.chunks(together).collect();
    let rows: Vec<u64> = cuts.iter().map(|cut| cut.iter().map(|part| part.rows as u64).sum()).collect();
    let tasks = cuts.iter().zip(&rows).map(|(cut, &rows)| task(source, cut, rows).to_bytes()).collect();
    let job = job(dataset, encoder, &assigning.table, work)?;
    let mut tree = Tree::new(pass, cuts.len());
    let asked = Asked { stage: "assign", job, tasks, rows: &rows };
    asked.of(elsewhere, dataset, local, &mut |number, what| {
        let What::Parts { rows: results, contents, partial } = what else {
            return Err(foreign(format!("has a result of another job for task {number}")));
        };
        if let Some(sink) = pass.sink() {
            job::put(sink, cuts[number][0].first, rows[number] as usize, &results, &contents)?;
        }
        tree.add(number, 0, job::partial(&partial)?);
        Ok(())
    })?;
    Ok(tree.merged.pop_first().expect("all are merged into one").1)
}

/// A run of parts of so many rows, with what has one entry a row.
fn task(source: &Source<'_>, parts: &[Part], rows: u64) -> Task {
    let first = parts[0].first;
    let known = source.known.filter(|_| source.encoder.is_some()).map(|(known, embeddings)| {
        let from = known.partition_point(|&row| row < first);
        let to = known.partition_point(|&row| row < first + rows);
        (known[from..to].to_vec(), embeddings.gather(from..to))
    });
    let keep = source.selection.words(first, rows);
    Task::Parts { first: parts[0].index as u64, count: parts.len() as u64, keep, known }
}

/// Reads chosen rows (ascending) and takes the fingerprints of some row groups (ascending), which hold the rows: on these threads,
/// or on the engine that `local` names. `stage` is that of the progress.
pub fn sample(
    stage: &'static str,
    dataset: &Dataset,
    encoder: Option<&Encoder>,
    sampling: &Sampling,
    row_groups: &[usize],
    rows: &[u64],
    local: &Local,
) -> Result<(RawRows, Vec<Print>)> {
    let Some(elsewhere) = local.elsewhere().filter(|_| !row_groups.is_empty()) else {
        return sampling.read(stage, dataset, encoder, row_groups, rows, local);
    };
    let row = bytes_of_row(dataset, sampling.named.clone());
    let mut cuts: Vec<(Vec<usize>, u64)> = Vec::new();
    for &group in row_groups {
        let here = dataset.row_groups()[group].rows;
        match cuts.last_mut() {
            Some((groups, rows)) if (*rows + here).saturating_mul(row) <= elsewhere.task_bytes => {
                groups.push(group);
                *rows += here;
            }
            _ => cuts.push((vec![group], here)),
        }
    }
    let chosen = |groups: &[usize]| {
        let inside = |&g: &usize| {
            let group = &dataset.row_groups()[g];
            let from = rows.partition_point(|&row| row < group.first_row);
            let to = rows.partition_point(|&row| row < group.first_row + group.rows);
            rows[from..to].iter().copied()
        };
        groups.iter().flat_map(inside).collect::<Vec<u64>>()
    };
    let task =
        |(groups, _): &(Vec<usize>, u64)| Task::Groups { groups: groups.clone(), rows: chosen(groups) };
    let tasks = cuts.iter().map(|cut| task(cut).to_bytes()).collect();
    let sizes: Vec<u64> = cuts.iter().map(|cut| cut.1).collect();
    let table: Vec<String> = sampling.table.iter().chain(&sampling.inputs.table).cloned().collect();
    let job = job(dataset, encoder, &table, Work::Sample(sampling.clone()))?;
    let mut all: BTreeMap<usize, Sampled> = BTreeMap::new();
    let asked = Asked { stage, job, tasks, rows: &sizes };
    asked.of(elsewhere, dataset, local, &mut |number, what| match what {
        What::Sample(sampled) => {
            all.insert(number, sampled);
            Ok(())
        }
        What::Parts { .. } => Err(foreign(format!("has a result of another job for task {number}"))),
    })?;
    Sampled::join(all.into_values().collect())
}

/// Encoded bytes of a row on average.
fn bytes_of_row(dataset: &Dataset, mut columns: Vec<String>) -> u64 {
    columns.sort_unstable();
    columns.dedup();
    (dataset.bytes(&columns) / dataset.rows().max(1)).max(1)
}

fn job(dataset: &Dataset, encoder: Option<&Encoder>, table: &[String], work: Work) -> Result<Job> {
    let encoder = encoder.map(Encoder::pretrained).transpose()?;
    Ok(Job { simd: kernels::limited(), data: dataset.describe(table)?, encoder, work })
}

fn foreign(reason: String) -> Error {
    Error::config(KEY, format!("the engine {reason}"), "this is a fault of the engine, not of the data")
}

/// What an engine is asked for.
struct Asked<'a> {
    stage: &'static str,
    job: Job,
    tasks: Vec<Vec<u8>>,
    /// Rows of every task.
    rows: &'a [u64],
}

impl Asked<'_> {
    /// Has the tasks run. `found` is given the result of each once, in any order.
    ///
    /// # Errors
    /// That of the lowest task that failed: those below it end first, what still runs then is no longer wanted.
    fn of(
        self,
        elsewhere: &Elsewhere,
        dataset: &Dataset,
        local: &Local,
        found: &mut dyn FnMut(usize, What) -> Result<()>,
    ) -> Result<()> {
        let count = self.tasks.len();
        let progress = local.progress();
        let stage = progress.stage(self.stage, "rows", self.rows.iter().sum());
        let mut done = vec![false; count];
        let mut failed: Option<(usize, Error)> = None;
        let mut tell = |event| {
            progress.check()?;
            match event {
                Event::Running(tasks) => stage.running(tasks),
                Event::Retried(number) => {
                    progress
                        .warn(&format!("task {number} of {count} was lost with its worker, and runs again"));
                }
                Event::Done(number, _) if number as usize >= count => {
                    return Err(foreign(format!("has a result of task {number} of {count}")));
                }
                Event::Done(number, _) if done[number as usize] => {}
                Event::Done(number, bytes) => {
                    let number = number as usize;
                    done[number] = true;
                    let taken = Found::from_bytes(&bytes).and_then(|it| {
                        it.rounded.iter().for_each(|column| dataset.note_rounded(column));
                        dataset.note_read(it.bytes_read);
                        found(number, it.what)
                    });
                    match taken {
                        Ok(()) => stage.advance(self.rows[number])?,
                        Err(error) if failed.as_ref().is_none_or(|(lowest, _)| number < *lowest) => {
                            failed = Some((number, error));
                        }
                        Err(_) => {}
                    }
                    if failed.as_ref().is_some_and(|(lowest, _)| done[..*lowest].iter().all(|&done| done)) {
                        return Err(Error::Interrupted);
                    }
                }
            }
            Ok(())
        };
        let ended = elsewhere.engine.run(&self.job.to_bytes(), &self.tasks, &mut tell);
        // What a task failed with comes before what that made of the engine.
        if let Some((_, error)) = failed {
            return Err(error);
        }
        ended?;
        match done.iter().position(|done| !done) {
            Some(missing) => Err(foreign(format!("ended without the result of task {missing}"))),
            None => Ok(()),
        }
    }
}

/// The partial results that have come, merged along the one tree as soon as both sides are there.
struct Tree<'a, P: Pass> {
    pass: &'a P,
    tasks: usize,
    /// By first task and level: tasks `first .. first + 2^level`, as far as there are so many.
    merged: BTreeMap<(usize, u32), P::Partial>,
}

impl<'a, P: Pass> Tree<'a, P> {
    fn new(pass: &'a P, tasks: usize) -> Self {
        Tree { pass, tasks, merged: BTreeMap::new() }
    }

    fn add(&mut self, first: usize, level: u32, partial: P::Partial) {
        let width = 1 << level;
        if width >= self.tasks {
            self.merged.insert((first, level), partial);
            return;
        }
        let (left, right) = (first & !width, first | width);
        // Nothing stands on the right of the last one.
        if right >= self.tasks {
            return self.add(left, level + 1, partial);
        }
        let both = match self.merged.remove(&(if first == left { right } else { left }, level)) {
            None => return drop(self.merged.insert((first, level), partial)),
            Some(other) if first == left => self.pass.merge(partial, other),
            Some(other) => self.pass.merge(other, partial),
        };
        self.add(left, level + 1, both);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Text;
    impl Pass for Text {
        type Item = ();
        type Partial = String;
        type Output = String;
        fn partial(&self, _: &()) -> Result<String> {
            Ok(String::new())
        }
        fn merge(&self, left: String, right: String) -> String {
            format!("({left}{right})")
        }
        fn finish(&self, all: Option<String>) -> Result<String> {
            Ok(all.unwrap_or_default())
        }
    }

    /// The tree of `parts`: split at the largest power of two below the length.
    fn split(parts: &[String]) -> String {
        match parts {
            [one] => one.clone(),
            _ => {
                let middle = parts.len().next_power_of_two() / 2;
                format!("({}{})", split(&parts[..middle]), split(&parts[middle..]))
            }
        }
    }

    #[test]
    fn trees_over_tasks_are_the_top_of_the_tree_over_parts() {
        for parts in 1..=699usize {
            let names: Vec<String> = (0..parts).map(|i| format!("{i},")).collect();
            let whole = split(&names);
            for together in [1, 2, 8, 64] {
                let tasks: Vec<String> = names.chunks(together).map(split).collect();
                let mut tree = Tree::new(&Text, tasks.len());
                // In an order that has nothing to do with the tree.
                let step = (1..).map(|i| 7 * i + 1).find(|s| gcd(*s, tasks.len()) == 1).unwrap();
                (0..tasks.len())
                    .map(|i| i * step % tasks.len())
                    .for_each(|i| tree.add(i, 0, tasks[i].clone()));
                assert_eq!(tree.merged.into_values().collect::<String>(), whole, "{parts} {together}");
            }
        }
    }

    fn gcd(a: usize, b: usize) -> usize {
        if b == 0 { a } else { gcd(b, a % b) }
    }
}
