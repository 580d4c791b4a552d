//! Assigns new rows as the plan assigned its own: the stored features map a row to a point, the stored model finds its
//! modality and stratum.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use crate::config::Config;
use crate::engine::passes::Passes;
use crate::engine::{self, Assigning, Source};
use crate::features::{Encoder, FeatureRow, Features, Inputs, Operation, PointsReader};
use crate::kit::error::{Error, Result};
use crate::kit::matrix::Matrix;
pub use crate::modalities::assignment::Assignment;
use crate::modalities::assignment::Collect;
use crate::modalities::model::{AssignedReader, ColumnIds, Strata};
use crate::modalities::{EstimatorSpec, Model};
use crate::parts::{Local, Part, Read, parts};
use crate::source::{Bad, Dataset, Invalid, Kind, Naming, RawRows, Selection};

use super::Plan;
use crate::format::Kind as Table;
use crate::format::features::Feature;

/// All that assigns a row, read from the plan once: [`Plan::assigner`].
#[derive(Clone, Debug)]
pub struct Assigner {
    config: Config,
    dims: usize,
    /// Of a plan whose rows are encoded; see [`Assigner::with_encoder`].
    encoder: Option<Encoder>,
    /// None: one vector column as it is.
    features: Option<Vec<FeatureRow>>,
    model: Model,
    /// The column whose values are the modalities.
    modality: Option<ColumnIds>,
    strata: Strata,
    contents: bool,
}

impl Plan {
    /// What assigns new rows. O(prototypes + strata).
    pub fn assigner(&self) -> Result<Assigner> {
        let config = self.config()?;
        let modality = match (config.modalities.estimator, &config.modalities.column) {
            (EstimatorSpec::Column, Some(column)) => {
                Some(ColumnIds::new(column, self.modalities()?.into_iter().map(|m| m.kind)))
            }
            _ => None,
        };
        let model = self.model()?;
        if modality.is_none() && model.prototypes.rows() == 0 {
            return Err(self.damaged(Table::Prototypes.path(), "it has no prototypes"));
        }
        let strata = self.stratifiers(&config)?;
        let features = match self.features()? {
            Some(rows) => {
                Some(rows.into_iter().zip(0..).map(|r| self.feature_row(r)).collect::<Result<_>>()?)
            }
            None => None,
        };
        let dims = self.manifest().dims as usize;
        Ok(Assigner { config, dims, encoder: None, features, model, modality, strata, contents: false })
    }

    /// Where a row's stratum comes from.
    fn stratifiers(&self, config: &Config) -> Result<Strata> {
        let Some(column) = config.strata.column() else { return Ok(Strata::Prototype) };
        let damaged = |reason| self.damaged(Table::Strata.path(), reason);
        let members = self.strata()?;
        let values = members.values().ok_or_else(|| damaged("it does not tell the strata's values"))?;
        let naming = match members.names().map(|names| (names.edges.clone(), names.labels.clone())) {
            Some((Some(edges), None)) => Naming::Bins { edges },
            Some((None, Some(rows))) => Naming::Rarest { rows },
            _ => Naming::Value,
        };
        if config.strata.bins().is_some() != naming.edges().is_some() {
            return Err(damaged("it has other bins than the plan's configuration"));
        }
        if !config.strata.inside_modalities() {
            let ids = ColumnIds::new(column, values.iter().cloned()).named(naming);
            return Ok(Strata::Column(ids));
        }
        let distinct: BTreeSet<&String> = values.iter().collect();
        let ids = ColumnIds::new(column, distinct.into_iter().cloned()).named(naming);
        let mut pairs = BTreeMap::new();
        for (h, value) in values.iter().enumerate() {
            // All its rows are of one modality.
            let first = members.stratum(h).iter().next().map(|row| self.modality(row)).transpose()?;
            let modality = first.flatten().ok_or_else(|| damaged("a stratum has no planned row"))?;
            pairs.insert(modality * ids.values.len() as u32 + ids.values[value], h as u32);
        }
        Ok(Strata::Pairs { column: ids, strata: pairs })
    }

    fn feature_row(&self, (row, feature): (Feature, u32)) -> Result<FeatureRow> {
        let Some(operation) = Operation::of(&row.operation) else {
            let reason = format!("it has the unknown operation `{}`", row.operation);
            return Err(self.damaged(Table::Features.path(), &reason));
        };
        let Feature { column, category, center, scale, .. } = row;
        Ok(FeatureRow { feature, column, operation, category, center, scale })
    }
}

impl Assigner {
    /// With the encoder that the plan was made with ([`Config`]'s `features.encode`): what maps a dataset's rows to points.
    ///
    /// # Errors
    /// If it is another one.
    pub fn with_encoder(mut self, encoder: Option<&Encoder>) -> Result<Self> {
        if let (Some(asked), Some(encoder)) = (&self.config.features.encoder, encoder) {
            encoder.check_identity(asked)?;
        }
        self.encoder = encoder.cloned();
        Ok(self)
    }

    /// Rows come with hashes of their cells, if `wanted` ([`PointsReader::with_contents`]).
    pub fn with_contents(mut self, wanted: bool) -> Self {
        self.contents = wanted;
        self
    }

    /// Assigns every row of a dataset that has the plan's columns; its row filter and its rule for unusable rows hold.
    /// Memory: 12 bytes a row.
    ///
    /// # Errors
    /// Where a column names modalities or strata: the first row whose value the plan does not know. A plan whose rows are
    /// encoded needs its encoder.
    pub fn assign_dataset(&self, dataset: &Dataset, engine: &Local) -> Result<Assignment> {
        self.run(dataset, &[], None, engine, &Collect)
    }

    /// The same, but rows that cannot be used are left out and counted instead of being an error.
    pub fn dropping_invalid(mut self) -> Assigner {
        self.config.source.invalid = Invalid::Drop;
        self
    }

    /// The stored map from rows to points, for the columns of a dataset.
    pub fn map(&self, dataset: &Dataset) -> Result<Features> {
        self.features(&self.inputs(dataset)?)
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// What the cells of the column that stratifies are called.
    pub fn naming(&self) -> Naming {
        self.strata.column().map_or(Naming::Value, |ids| ids.naming.clone())
    }

    /// Whether a feature was made of the numbers of a column.
    fn was_number(&self, column: &str) -> bool {
        let scaled = |row: &FeatureRow| matches!(row.operation, Operation::Standard | Operation::Robust);
        self.features.iter().flatten().any(|row| row.column == column && scaled(row))
    }

    /// Columns of a dataset that the plan needs and that are not there, or of another kind, each with what is wrong.
    pub fn misfits(&self, dataset: &Dataset) -> Vec<(String, String)> {
        let mut wrong = Vec::new();
        let roles = self.config.roles();
        let features = self.config.features.columns.iter().map(|c| ("features.columns", c.as_str()));
        for (role, name) in features.chain(roles) {
            match dataset.column(name, role) {
                Err(Error::Input { path, reason, .. }) => {
                    wrong.push((name.to_string(), format!("in {path} {reason}")));
                }
                Err(_) => wrong.push((name.to_string(), format!("is gone (the plan's {role})"))),
                Ok(column)
                    if role == "features.columns" && self.config.features.encode.as_deref() != Some(name) =>
                {
                    let one_vector = self.features.is_none();
                    match &column.kind {
                        Kind::Vector { dims } if one_vector && *dims != self.dims => {
                            let reason = format!("has {dims} numbers a row, those of the plan {}", self.dims);
                            wrong.push((name.to_string(), reason));
                        }
                        Kind::Vector { .. } => {}
                        Kind::Boolean | Kind::Text if self.was_number(name) => {
                            wrong.push((
                                name.to_string(),
                                format!("was a number, and is {} now", column.stored),
                            ));
                        }
                        _ if one_vector => wrong.push((name.to_string(), "is not a vector any more".into())),
                        _ => {}
                    }
                }
                Ok(_) => {}
            }
        }
        if wrong.is_empty()
            && let Err(e) = self.map(dataset)
        {
            wrong.push((self.config.features.columns.join(", "), e.to_string()));
        }
        wrong
    }

    /// Assigns points: rows of the plan's one vector column as they are in the dataset, or embeddings of the column that
    /// its encoder encodes. One thread.
    ///
    /// # Errors
    /// Plans of several columns, or with modalities or strata by column: they need a dataset.
    pub fn assign_points(&self, points: &Matrix, engine: &Local) -> Result<Assignment> {
        let refuse = |reason: String| {
            Err(Error::config("points", reason, "put the rows into a dataset with the columns of the plan"))
        };
        if let Some(column) = self.columns().next() {
            return refuse(format!("the plan assigns rows by column `{column}` too"));
        }
        let one_hot = |f: &FeatureRow| matches!(f.operation, Operation::OneHot | Operation::Hash);
        let name = match &self.config.features.columns[..] {
            [name] if !self.features.iter().flatten().any(one_hot) => name,
            columns => {
                return refuse(format!("the plan's rows are not one vector, but {}", columns.join(", ")));
            }
        };
        if points.cols() != self.dims {
            return refuse(format!("they have {} numbers, those of the plan {}", points.cols(), self.dims));
        }
        let kind = Kind::Vector { dims: self.dims };
        let encode = self.config.features.encode.clone().map(|column| (column, kind.clone()));
        let (vectors, order) = (vec![name.clone()], vec![(name.clone(), kind)]);
        let inputs = Inputs { vectors, order, encode, ..Inputs::default() };
        let features = self.features(&inputs)?;
        let keep = |_| true;
        let place = |row| ("the points".to_string(), row);
        let raw = Given { points, column: name };
        let points_reader = PointsReader::new(&features, raw, self.config.source.invalid, &keep, &place);
        let read =
            AssignedReader::new(points_reader, &self.model, self.modality.clone(), self.strata.clone());
        engine.run("assign", &read, &Collect, &parts(points.rows() as u64, self.dims))
    }

    /// Runs passes over the assigned rows of a dataset, `more` table columns read along. Rows outside of `ranges` (None: of the
    /// dataset) count as left out by the row filter.
    pub fn run<P: Passes>(
        &self,
        dataset: &Dataset,
        more: &[String],
        ranges: Option<&[Range<u64>]>,
        engine: &Local,
        pass: &P,
    ) -> Result<P::Output> {
        let inputs = self.inputs(dataset)?;
        let features = self.features(&inputs)?;
        let mut selection = match &self.config.source.filter {
            Some(sql) => dataset.select(sql, engine)?,
            None => Selection::all(dataset.rows()),
        };
        if let Some(ranges) = ranges {
            selection = selection.among(ranges);
        }
        let mut table = inputs.table.clone();
        for column in self.columns().chain(more) {
            if !table.contains(column) {
                table.push(column.clone());
            }
        }
        let assigning = Assigning {
            inputs,
            table,
            features,
            invalid: self.config.source.invalid,
            model: self.model.clone(),
            modality: self.modality.clone(),
            strata: self.strata.clone(),
            contents: self.contents,
        };
        let source = Source { dataset, encoder: self.encoder.as_ref(), selection: &selection, known: None };
        engine::run(&source, &assigning, pass, engine)
    }

    /// The columns beside the features that decide where a row belongs.
    fn columns(&self) -> impl Iterator<Item = &String> {
        self.modality.iter().chain(self.strata.column()).map(|ids| &ids.column)
    }

    fn inputs(&self, dataset: &Dataset) -> Result<Inputs> {
        Inputs::choose(&self.config.features, dataset.columns(), &[])?.encoded_by(self.encoder.as_ref())
    }

    fn features(&self, inputs: &Inputs) -> Result<Features> {
        let features = Features::from_rows(inputs, self.features.as_deref())?;
        if features.dims() != self.dims {
            let reason = format!("a row has {} numbers, one of the plan {}", features.dims(), self.dims);
            return Err(Error::input("dataset", reason, "make a plan of this dataset (`batchwright plan`)"));
        }
        Ok(features)
    }
}

/// Points that are in memory, as rows of a vector column.
struct Given<'a> {
    points: &'a Matrix,
    column: &'a str,
}

impl Read for Given<'_> {
    type Item = RawRows;

    fn read(&self, part: &Part, into: &mut RawRows) -> Result<()> {
        let first = part.first as usize;
        let mut points = self.points.gather(first..first + part.rows);
        let unusable = |row: &[f32]| row.iter().any(|x| !x.is_finite());
        let bad: Vec<usize> = (0..points.rows()).filter(|&i| unusable(points.row(i))).collect();
        bad.iter().for_each(|&i| points.row_mut(i).fill(0.0));
        let told =
            |index| Bad { index, column: self.column.into(), reason: "has a NaN or infinite number".into() };
        *into = RawRows {
            rows: part.range().collect(),
            vectors: vec![points],
            table: None,
            bad: bad.into_iter().map(told).collect(),
        };
        Ok(())
    }
}
