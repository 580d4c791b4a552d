//! The assignment pass: every row's prototype, modality, stratum and distance, streamed to a working file, and the statistics
//! of the full data.

use std::path::Path;

use super::fit::Fitted;
use super::prepare::{Prepared, Roles};
use crate::config::Config;
use crate::engine::rows::{ROW_BYTES, Ranking, Rows, Sink, Tally};
use crate::engine::{self, Assigning, Source};
use crate::kernels::eigen;
use crate::kit::error::Result;
use crate::kit::scratch::RowFile;
use crate::parts::Local;
use crate::source::Dataset;
use crate::statistics::content::{Content, Hashes};
use crate::statistics::gain::{Gain, GainSums, Label};
use crate::statistics::moments::{FullMoments, Moments};
use crate::statistics::profile::{Profile, ProfileRow};
use crate::statistics::reach::{Reach, Reached};
use crate::statistics::reference::{RandomFeature, Reference};

/// Most rows shown in the report.
pub const MAX_SHOWN: usize = 10_000;

/// Everything the pass over all rows found.
pub struct Passed {
    pub tally: Tally,
    pub moments: FullMoments,
    pub gain: GainSums,
    pub reference: Vec<RandomFeature>,
    pub profile: Vec<ProfileRow>,
    /// Hashes of every row group.
    pub content: Vec<Hashes>,
    pub content_key: u64,
    /// How far rows are from their prototypes.
    pub reach: Reached,
}

/// Reads every row once. Besides what it found: one [`Row`] per row of the dataset, ids of the fit. `content_key`: that of an
/// older plan, if there is one.
#[expect(clippy::too_many_arguments, reason = "called where all of it is at hand")]
pub fn assign(
    dataset: &Dataset,
    roles: &Roles,
    config: &Config,
    prepared: &Prepared,
    fitted: &Fitted,
    content_key: Option<u64>,
    contents: Option<&RowFile>,
    engine: &Local,
    scratch: &Path,
) -> Result<(RowFile, Passed)> {
    let sample = &prepared.sample;
    let rows = RowFile::create(&scratch.join("rows"), ROW_BYTES)?;
    let ranking = Ranking::new(
        config.weights.centrality,
        &sample.rows,
        &sample.points,
        &fitted.fit.labels,
        &fitted.model.centers,
    );
    let profile =
        prepared.table.as_ref().map(|table| Profile::new(table, &fitted.sample.modality)).transpose()?;
    let label = prepared.classes.as_ref().map(|c| Label::new(&c.column, c.ids.keys().cloned()));
    let mean = eigen::mean(&sample.points);

    // Columns: those the config names, and those that are profiled in full.
    let vectors: Vec<&String> = roles.inputs.stored_vectors().collect();
    let named: Vec<String> = roles.named.iter().filter(|n| !vectors.contains(n)).cloned().collect();
    let mut table = named.clone();
    let profiled = profile.as_ref().map_or(Vec::new(), Profile::reads);
    table.extend(profiled.into_iter().filter(|c| !named.contains(c)));
    let assigning = Assigning {
        inputs: roles.inputs.clone(),
        table,
        features: prepared.features.clone(),
        invalid: config.source.invalid,
        model: fitted.model.clone(),
        modality: fitted.modality.clone(),
        strata: fitted.strata.clone(),
        contents: contents.is_some(),
    };
    let known = prepared.features.is_identity().then_some((&sample.rows[..], &sample.points));
    let source = Source { dataset, encoder: roles.encoder, selection: &prepared.selection, known };

    let fingerprints = prepared.fingerprints.iter().map(|f| f.0.as_str());
    let content_key = content_key.unwrap_or_else(|| crate::format::sources::key(fingerprints));
    let first_rows = dataset.row_groups().iter().map(|g| g.first_row).collect();
    let pass = (
        Rows::new(ranking, Sink::files(&rows, contents)),
        Moments::new(mean.clone()),
        Gain::new(label, &mean, config.seed),
        (
            Some(Reference::new(fitted.z(prepared), config.seed)),
            Some(Reach::new(&fitted.model).fitted_on(&sample.rows, fitted.z(prepared))),
        ),
        profile,
        Content::new(named, first_rows, Some(content_key)),
    );
    let (tally, moments, gain, (reference, reach), profile, content) =
        engine::run(&source, &assigning, &pass, engine)?;
    if tally.planned() == 0 {
        return Err(crate::Error::input(
            "dataset",
            "no row can be used",
            "check --where and the feature columns",
        ));
    }
    let (reference, reach) = (reference.unwrap_or_default(), reach.unwrap_or_default());
    let profile = profile.unwrap_or_default();
    Ok((rows, Passed { tally, moments, gain, reference, profile, content, content_key, reach }))
}
