//! The rows of the plan's small tables, from what the stages found: ids of the fit become ids of the plan here.

use super::assign::{MAX_SHOWN, Passed};
use super::fit::Fitted;
use super::prepare::Prepared;
use super::settle::{Census, Settled};
use crate::batches::strata;
use crate::batches::weights::Centrality;
use crate::config::Config;
use crate::features::quantile;
use crate::format;
use crate::format::strata::Names;
use crate::kit::error::Result;
use crate::kit::ids::NONE;
use crate::kit::matrix::Matrix;
use crate::kit::rng::Stream;
use crate::source::{Dataset, Naming};
use crate::statistics::cells::{Cells, distance};
use crate::statistics::moments::FullMoments;
use crate::statistics::profile::{self, ProfileRow};
use crate::statistics::quantiles::SampleQuantiles;
use crate::statistics::terms;

/// What the column that stratifies calls every stratum, if one does: ids of the fit are the name's number, or
/// modality x names + the name's number.
pub fn stratum_names(prepared: &Prepared, census: &Census) -> Option<Names> {
    let column = prepared.stratify.as_ref()?;
    let names: Vec<&String> = column.ids.keys().collect();
    let values = census.strata.iter().map(|&id| names[id as usize % names.len()].clone()).collect();
    let (edges, labels) = match &column.naming {
        Naming::Value => (None, None),
        Naming::Bins { edges } => (Some(edges.clone()), None),
        Naming::Rarest { rows } => (None, Some(rows.clone())),
    };
    Some(Names { values, edges, labels })
}

/// Assignment of the sample's rows by the finished model, in the ids of the plan; [`NONE`] where the plan has none.
fn sample_assignment(fitted: &Fitted, census: &Census) -> (Vec<u32>, Vec<u32>) {
    let renumber = |of: &[u32], kept: &[u32]| -> Vec<u32> {
        of.iter().map(|id| kept.binary_search(id).map_or(NONE, |new| new as u32)).collect()
    };
    (renumber(&fitted.sample.modality, &census.modalities), renumber(&fitted.sample.stratum, &census.strata))
}

/// Centres of the strata in the projected space: of their prototypes, weighted by rows; where a column stratifies, of
/// their sample rows (the mean of all where the sample has none).
pub fn stratum_centers(prepared: &Prepared, fitted: &Fitted, census: &Census) -> Vec<Vec<f64>> {
    if !fitted.model.stratum.is_empty() {
        let of = |old: u32| fitted.model.stratum[old as usize];
        let stratum: Vec<u32> = (census.prototypes.iter())
            .map(|&q| census.strata.binary_search(&of(q)).expect("a stratum with rows is kept") as u32)
            .collect();
        let centers = fitted.model.prototypes.gather(census.prototypes.iter().map(|&q| q as usize));
        return strata::centers(&centers, &stratum, &census.prototype_rows);
    }
    let (_, strata_of) = sample_assignment(fitted, census);
    let z = fitted.z(prepared);
    let mut sums = vec![(vec![0.0; z.cols()], 0u64); census.strata.len()];
    let mut all = (vec![0.0; z.cols()], 0u64);
    for (row, &h) in z.iter_rows().zip(&strata_of) {
        let add = |(sum, count): &mut (Vec<f64>, u64)| {
            sum.iter_mut().zip(row).for_each(|(s, &x)| *s += f64::from(x));
            *count += 1;
        };
        add(&mut all);
        if h != NONE {
            add(&mut sums[h as usize]);
        }
    }
    let mean = |(sum, count): &(Vec<f64>, u64)| sum.iter().map(|s| s / *count as f64).collect();
    sums.iter().map(|s| if s.1 > 0 { mean(s) } else { mean(&all) }).collect()
}

pub fn sources(
    dataset: &Dataset,
    named: &[String],
    prepared: &Prepared,
    pass: &Passed,
) -> Result<Vec<format::sources::Source>> {
    let source = |(g, group): (usize, &crate::source::RowGroup)| {
        let (fingerprint, bytes) = &prepared.fingerprints[g];
        Ok(format::sources::Source {
            file: dataset.files()[group.file].path.clone(),
            row_group: group.row_group as i32,
            first_row: group.first_row,
            rows: group.rows,
            bytes: *bytes,
            fingerprint: fingerprint.clone(),
            content: pass.content[g].content,
            sequence: None,
            ordered: pass.content[g].ordered(),
            types: Some(dataset.types(g, named)?),
        })
    };
    dataset.row_groups().iter().enumerate().map(source).collect()
}

/// What sets each modality apart: values of columns first, then words of its texts.
pub fn names(prepared: &Prepared, fitted: &Fitted, census: &Census, profile: &[ProfileRow]) -> Vec<String> {
    let table = prepared.table.as_ref().filter(|_| census.modalities.len() > 1);
    let mut terms = table.map(|table| terms::terms(table, &fitted.sample.modality)).unwrap_or_default();
    let mut name = |m: &u32| {
        let values = profile::name(profile, *m);
        let free = terms::TERMS - values.len();
        let words = terms.remove(m).unwrap_or_default().into_iter().take(free);
        values.into_iter().chain(words).collect::<Vec<_>>().join(", ")
    };
    census.modalities.iter().map(&mut name).collect()
}

/// `names`: empty if modalities have none.
pub fn modalities(
    fitted: &Fitted,
    pass: &Passed,
    settled: &Settled,
    names: &[String],
    config: &Config,
) -> Vec<format::modalities::Modality> {
    let census = &settled.census;
    let planned = census.planned() as f64;
    // Exact where the distance is what was ranked; else those of the sample.
    let of_sample = match config.weights.centrality {
        Centrality::Distance => None,
        _ => {
            let assigned = &fitted.sample;
            let mut by = vec![Vec::new(); fitted.model.centers.rows()];
            for (&m, &d) in assigned.modality.iter().zip(&assigned.distance).filter(|(m, _)| **m != NONE) {
                by[m as usize].push(d);
            }
            by.iter_mut().for_each(|d| d.sort_by(f32::total_cmp));
            Some(by)
        }
    };
    let quantiles = |new: usize, old: usize| -> ([f32; 11], Cells) {
        let Some(by) = &of_sample else {
            return (settled.ranked_quantiles[new], settled.ranked_cells[new].clone());
        };
        let sorted = &by[old];
        let found = std::array::from_fn(|q| {
            if sorted.is_empty() { f32::NAN } else { sorted[(sorted.len() - 1) * q / 10] }
        });
        (found, Cells::count(&found.map(f64::from), sorted.iter().map(|&d| f64::from(d))))
    };
    (census.modalities.iter().enumerate())
        .map(|(new, &old)| {
            let m = old as usize;
            let assigned = pass.tally.modalities[&old] as f64;
            let (distance_quantiles, distance_cells) = quantiles(new, m);
            format::modalities::Modality {
                kind: fitted.fit.kind[m].clone(),
                rows: census.modality_rows[new],
                share: census.modality_rows[new] as f64 / planned,
                center: fitted.model.centers.row(m).to_vec(),
                rms_radius: (pass.tally.squares[&old] / assigned).sqrt() as f32,
                distance_quantiles,
                prominence: fitted.fit.prominence[m],
                name: names.get(new).cloned().unwrap_or_default(),
                distance_cells: distance_cells.rows,
            }
        })
        .collect()
}

pub fn prototypes(fitted: &Fitted, pass: &Passed, census: &Census) -> format::prototypes::Prototypes {
    let model = &fitted.model;
    let of = |ids: &[u32], kept: &[u32]| -> Vec<u32> {
        census.prototypes.iter().map(|&q| place(kept, ids[q as usize])).collect()
    };
    format::prototypes::Prototypes {
        modality: of(&model.modality, &census.modalities),
        stratum: if model.stratum.is_empty() { Vec::new() } else { of(&model.stratum, &census.strata) },
        rows: census.prototype_rows.clone(),
        unseen_rows: (census.prototypes.iter())
            .map(|q| pass.reach.prototypes.get(q).copied().unwrap_or(0))
            .collect(),
        reach: pass.reach.levels.clone(),
        reach_rows: Some(pass.reach.rows),
        centers: model.prototypes.gather(census.prototypes.iter().map(|&q| q as usize)),
    }
}

/// The rows for the report's map.
pub fn shown(
    prepared: &Prepared,
    fitted: &Fitted,
    census: &Census,
    settled: &Settled,
    config: &Config,
) -> Vec<format::sample::SampleRow> {
    let sample = &prepared.sample;
    let (modality, _) = sample_assignment(fitted, census);
    let held: std::collections::BTreeSet<u64> = settled.held_out.iter().map(|h| h.row).collect();
    let mut places: Vec<usize> =
        (0..sample.rows.len()).filter(|&i| modality[i] != NONE && !held.contains(&sample.rows[i])).collect();
    places.sort_by_key(|&i| (Stream::Shown.key(config.seed, &[sample.rows[i]]), i));
    places.truncate(MAX_SHOWN);
    places.sort_unstable();
    let map =
        crate::modalities::pca::apply(fitted.axes.as_ref(), &sample.points.gather(places.iter().copied()));
    let ids = config.source.id.as_ref().and_then(|id| prepared.table.as_ref()?.column_by_name(id));
    (places.iter().enumerate())
        .map(|(at, &i)| format::sample::SampleRow {
            row: sample.rows[i],
            modality: modality[i],
            x: map.row(at)[0],
            y: map.row(at).get(1).copied().unwrap_or(0.0),
            id: ids.and_then(|column| crate::source::text_value(column, i)),
        })
        .collect()
}

pub fn feature(row: crate::features::FeatureRow) -> format::features::Feature {
    format::features::Feature {
        column: row.column,
        operation: row.operation.name().into(),
        category: row.category,
        center: row.center,
        scale: row.scale,
    }
}

pub fn knots(config: &Config) -> Vec<format::weights::Knot> {
    let knots = config.weights.schedule.knots(config.weights.strength);
    let narrow = |k: crate::batches::weights::schedule::Knot| format::weights::Knot {
        progress: k.progress as f32,
        beta: k.beta as f32,
        normaliser: k.normaliser as f32,
        effective_share: k.effective_share as f32,
    };
    knots.into_iter().map(narrow).collect()
}

/// Made as they are written: thousands of modalities have millions.
pub fn statistics(
    names: Vec<(String, u32)>,
    quantiles: SampleQuantiles,
    moments: FullMoments,
    modalities: Vec<u32>,
) -> impl Iterator<Item = format::statistics::Statistic> {
    let dims = names.len();
    let groups = std::iter::once(None).chain(modalities.clone().into_iter().map(Some));
    let features = groups.flat_map(move |group| (0..dims).map(move |feature| (group, feature)));
    features.filter_map(move |(group, feature)| {
        let m = moments.of(group, feature)?;
        let (column, index) = names[feature].clone();
        Some(format::statistics::Statistic {
            modality: group.map(|old| place(&modalities, old)),
            column,
            index,
            count: m.count,
            nulls: m.nulls,
            mean: m.mean,
            variance: m.variance,
            min: m.min,
            max: m.max,
            quantiles: quantiles.of(group, feature),
            cells: if group.is_none() { quantiles.cells(feature).rows.clone() } else { Vec::new() },
        })
    })
}

/// Distances of the sampled rows to the medians of their features.
pub fn spread(prepared: &Prepared, quantiles: &SampleQuantiles) -> format::statistics::Spread {
    let points = &prepared.sample.points;
    let middle: Vec<f64> = (0..points.cols()).map(|j| quantiles.of(None, j)[5]).collect();
    let mut distances: Vec<f64> = points.iter_rows().map(|row| distance(row, &middle)).collect();
    distances.sort_unstable_by(f64::total_cmp);
    let edges: Vec<f64> = (1..20).map(|q| quantile(&distances, f64::from(q) / 20.0)).collect();
    let Cells { edges, rows } = Cells::count(&edges, distances);
    format::statistics::Spread { edges, rows }
}

/// New id of an id of the fit that has rows.
fn place(kept: &[u32], old: u32) -> u32 {
    kept.binary_search(&old).expect("what has rows is kept") as u32
}

pub fn reference(pass: &Passed) -> format::reference::Reference {
    let features = &pass.reference;
    let p = features.first().map_or(0, |f| f.frequency.len());
    let frequency = features.iter().flat_map(|f| f.frequency.iter().copied()).collect();
    format::reference::Reference {
        frequency: Matrix::from_vec(features.len(), p, frequency),
        phase: features.iter().map(|f| f.phase).collect(),
        mean: features.iter().map(|f| f.mean).collect(),
        covariance: features.iter().flat_map(|f| f.covariance.iter().copied()).collect(),
    }
}

pub fn profile_rows(rows: Vec<ProfileRow>, census: &Census) -> Vec<format::profile::ProfileRow> {
    // A modality may have had rows that are all held out.
    let kept = |row: &ProfileRow| row.modality.is_none_or(|m| census.modalities.binary_search(&m).is_ok());
    (rows.into_iter().filter(kept))
        .map(|row| format::profile::ProfileRow {
            modality: row.modality.map(|old| place(&census.modalities, old)),
            column: row.column,
            value: row.value,
            count: row.count,
            share: row.share,
            lift: row.lift,
            edges: row.cells.edges.clone(),
            cells: row.cells.rows.clone(),
        })
        .collect()
}
