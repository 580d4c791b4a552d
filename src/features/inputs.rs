//! Which columns make a row's point, and why every other one does not.

use serde::{Deserialize, Serialize};

use super::{Encoder, Params};
use crate::kit::error::{Error, Result};
use crate::source::{Column, Kind, Origin};

const KEY: &str = "features.columns";

/// The columns to read for the features.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Inputs {
    /// Vector columns: the order of [`RawRows::vectors`](crate::source::RawRows::vectors).
    pub vectors: Vec<String>,
    /// All other feature columns.
    pub table: Vec<String>,
    /// All feature columns in the order of their coordinates. The encoded one is a vector: of 0 numbers until
    /// [`Inputs::encoded_by`] says how many.
    pub order: Vec<(String, Kind)>,
    /// The column that an encoder turns into vectors, one of `vectors`, and what the dataset holds in it.
    pub encode: Option<(String, Kind)>,
    /// Where nobody named the features: why each of the other columns is none, in few words, and their names.
    pub passed_over: Option<Vec<(String, Vec<String>)>>,
}

impl Inputs {
    /// `taken` names the columns that have another role (label, id, strata, those of the row filter): they are never
    /// chosen by default, but may be named. Looks at the schema only, so it fails before any data is read.
    pub fn choose(params: &Params, columns: &[Column], taken: &[&str]) -> Result<Inputs> {
        let mut named = params.columns.clone();
        named.extend(params.encode.iter().filter(|c| !params.columns.contains(c)).cloned());
        let mut inputs = Inputs::default();
        let chosen = if named.is_empty() {
            let (chosen, passed_over) = default_columns(columns, taken)?;
            inputs.passed_over = Some(passed_over);
            chosen
        } else {
            named_columns(&named, columns)?
        };
        for column in chosen {
            let mut kind = column.kind.clone();
            if params.encode.as_ref() == Some(&column.name) {
                inputs.encode = Some((column.name.clone(), kind));
                kind = Kind::Vector { dims: 0 };
            }
            let list =
                if matches!(kind, Kind::Vector { .. }) { &mut inputs.vectors } else { &mut inputs.table };
            list.push(column.name.clone());
            inputs.order.push((column.name.clone(), kind));
        }
        Ok(inputs)
    }

    /// The same columns with the encoder that encodes one of them; it and the column must come together, and fit.
    pub fn encoded_by(mut self, encoder: Option<&Encoder>) -> Result<Inputs> {
        match (&self.encode, encoder) {
            (None, None) => {}
            (Some((column, _)), None) => {
                return Err(Error::config(
                    "features.encode",
                    format!("column `{column}` is to be encoded, and there is no encoder"),
                    "name the folder of a model, or an .onnx file, with --encoder",
                ));
            }
            (None, Some(encoder)) => {
                return Err(Error::config(
                    "run.encoder",
                    format!("there is nothing to encode with {}", encoder.name()),
                    "name the column with --encode",
                ));
            }
            (Some((column, kind)), Some(encoder)) => {
                encoder.check_kind(column, kind)?;
                for (_, kind) in self.order.iter_mut().filter(|(name, _)| name == column) {
                    *kind = Kind::Vector { dims: encoder.dims() };
                }
            }
        }
        Ok(self)
    }

    /// Whether this column is the one that is encoded.
    pub fn encodes(&self, name: &str) -> bool {
        self.encode.as_ref().is_some_and(|(column, _)| column == name)
    }

    /// The vector columns that the dataset has as such.
    pub fn stored_vectors(&self) -> impl Iterator<Item = &String> {
        self.vectors.iter().filter(|name| self.encoded_text() != Some(name))
    }

    /// The text column that is encoded; it is read with the table.
    pub fn encoded_text(&self) -> Option<&String> {
        self.encode.as_ref().filter(|(_, kind)| !matches!(kind, Kind::Vector { .. })).map(|(name, _)| name)
    }
}

fn named_columns<'a>(names: &[String], columns: &'a [Column]) -> Result<Vec<&'a Column>> {
    let mut chosen: Vec<&Column> = Vec::new();
    for name in names {
        let column = Column::named(columns, name, KEY)?;
        if matches!(column.kind, Kind::Labels | Kind::Other) {
            let reason = format!("column `{name}` is of type {}, which cannot be a feature", column.stored);
            return Err(Error::config(KEY, reason, remedy(&column.stored)));
        }
        if chosen.iter().any(|c| c.name == *name) {
            return Err(Error::config(KEY, format!("column `{name}` is named twice"), "name it once"));
        }
        chosen.push(column);
    }
    Ok(chosen)
}

/// What to do with a column of a type that is no feature.
fn remedy(stored: &str) -> &'static str {
    match stored {
        s if s.ends_with("bytes") => "where the bytes are numbers, say of which kind: --as f16, f32 or f64",
        s if s.starts_with("list of list") || s.starts_with("list of") && s.contains(" list of") => {
            "write the numbers of each row one after the other, as one list"
        }
        s if s.starts_with("list of") => "features are lists of numbers: write the numbers of these values",
        "struct" | "map" => "write its parts as columns of their own",
        "Binary" | "LargeBinary" | "BinaryView" => {
            "write vectors as a fixed-size list of float32; of images and sounds, the embedding of a model"
        }
        "Null" => "it holds only nulls: choose another column",
        _ => "features are vectors (lists of numbers), numbers, dates, booleans or text",
    }
}

/// What a column is among those that nobody named.
#[derive(Clone, Copy, PartialEq)]
enum Standing {
    Vector,
    WholeVector,
    Number,
    /// Why it is never a feature by default.
    Never(&'static str),
}

/// By what the column is in the files that have it: what they disagree about is told where the column is chosen.
fn standing(column: &Column, taken: &[&str]) -> Standing {
    use Standing::*;
    let kind = column.differs.as_ref().map_or(&column.kind, |differs| &differs.kind);
    match (kind, column.origin) {
        _ if taken.contains(&column.name.as_str()) => Never("another role"),
        (_, Origin::Key) => Never("a key of folders"),
        (_, Origin::Index) => Never("the index of a table"),
        (Kind::Vector { .. }, Origin::WholeVector { fixed: true }) => WholeVector,
        (Kind::Vector { .. }, Origin::WholeVector { fixed: false }) => {
            Never("whole numbers in lists of any length")
        }
        (Kind::Vector { .. }, _) => Vector,
        (Kind::Integer | Kind::Float, _) => Number,
        (Kind::Boolean, _) => Never("true or false"),
        (Kind::Text, Origin::Id) => Never("a UUID"),
        (Kind::Text, _) => Never("text"),
        (Kind::Labels, _) => Never("lists of text"),
        (Kind::Other, _) => Never("a type that is no feature"),
    }
}

/// Chosen columns, and why the others are not: reason and names.
type Chosen<'a> = (Vec<&'a Column>, Vec<(String, Vec<String>)>);

/// The one vector of floating point numbers; without any, the one of whole numbers; without any, all numeric columns.
fn default_columns<'a>(columns: &'a [Column], taken: &[&str]) -> Result<Chosen<'a>> {
    let standings: Vec<Standing> = columns.iter().map(|c| standing(c, taken)).collect();
    let best = [Standing::Vector, Standing::WholeVector, Standing::Number];
    let best = best.into_iter().find(|best| standings.contains(best));
    let mut chosen = Vec::new();
    let mut passed_over: Vec<(String, Vec<String>)> = Vec::new();
    for (column, standing) in columns.iter().zip(standings) {
        let why = match standing {
            standing if Some(standing) == best => {
                chosen.push(column);
                continue;
            }
            Standing::Never("a type that is no feature") => format!("type {}", column.stored),
            Standing::Never(why) => why.to_string(),
            _ if best == Some(Standing::Vector) => "a vector of floats goes first".into(),
            _ => "a vector goes first".into(),
        };
        match passed_over.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(column.name.clone()),
            None => passed_over.push((why, vec![column.name.clone()])),
        }
    }
    if chosen.len() > 1 && best != Some(Standing::Number) {
        return Err(Error::config(
            KEY,
            format!("there are {} vector columns: {}", chosen.len(), list(chosen.iter().copied())),
            "choose one or more of them with --features",
        ));
    }
    if chosen.is_empty() {
        let why: Vec<String> = passed_over
            .iter()
            .map(|(why, names)| format!("{} ({why})", listed(names.iter().map(String::as_str))))
            .collect();
        let help = "choose features with --features; the dataset has ".to_string();
        return Err(Error::config(
            KEY,
            "there is no vector column and no numeric column without another role",
            help + &if why.is_empty() { "no columns".into() } else { why.join(", ") },
        ));
    }
    chosen.iter().try_for_each(|column| column.agreed())?;
    Ok((chosen, passed_over))
}

/// "`a`, `b`": at most 20 names.
pub(crate) fn listed<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "no columns".into(),
        1..=20 => names.join(", "),
        n => format!("{}, and {} more", names[..20].join(", "), n - 20),
    }
}

fn list<'a>(columns: impl Iterator<Item = &'a Column>) -> String {
    listed(columns.map(|c| c.name.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn columns(of: &[(&str, Kind)]) -> Vec<Column> {
        of.iter().map(|(name, kind)| Column::new(*name, kind.clone())).collect()
    }

    fn choose(named: &[&str], of: &[(&str, Kind)], taken: &[&str]) -> Result<Vec<String>> {
        let params = Params { columns: named.iter().map(|s| s.to_string()).collect(), ..Params::default() };
        Ok(Inputs::choose(&params, &columns(of), taken)?.order.into_iter().map(|(name, _)| name).collect())
    }

    #[test]
    fn defaults_and_errors() {
        let v = Kind::Vector { dims: 3 };
        assert_eq!(choose(&[], &[("a", Kind::Float), ("e", v.clone())], &[]).unwrap(), ["e"]);
        let table = [("y", Kind::Integer), ("a", Kind::Float), ("b", Kind::Integer), ("t", Kind::Text)];
        assert_eq!(choose(&[], &table, &["y"]).unwrap(), ["a", "b"]);
        assert_eq!(choose(&["t", "y"], &table, &["y"]).unwrap(), ["t", "y"]);
        let several = choose(&[], &[("e", v.clone()), ("f", v.clone())], &[]).unwrap_err().to_string();
        assert!(several.contains("`e`, `f`"), "{several}");
        assert_eq!(choose(&[], &[("e", v.clone()), ("f", v.clone())], &["f"]).unwrap(), ["e"]);
        for bad in [
            choose(&[], &[("t", Kind::Text), ("y", Kind::Integer)], &["y"]),
            choose(&["x"], &table, &[]),
            choose(&["a", "a"], &table, &[]),
            choose(&["o"], &[("o", Kind::Other)], &[]),
        ] {
            assert_eq!(bad.unwrap_err().exit_code(), 2);
        }
    }

    #[test]
    fn kinds_are_kept_apart() {
        let of = columns(&[("a", Kind::Float), ("e", Kind::Vector { dims: 2 }), ("t", Kind::Text)]);
        let params = Params { columns: vec!["t".into(), "e".into(), "a".into()], ..Params::default() };
        let inputs = Inputs::choose(&params, &of, &[]).unwrap();
        assert_eq!(
            (inputs.vectors, inputs.table),
            (vec!["e".to_string()], vec!["t".to_string(), "a".into()])
        );
    }
}
