//! Reading a plan: [`Plan`] opens a finished one, hands out its tables and computes every epoch; [`Assigner`] assigns new
//! rows; [`schema_documents`] is its format in words.

mod documents;
pub mod epochs;
pub mod reader;
pub mod locality;
mod splits;
mod dealt;
pub mod stream;
mod contradictions;
pub mod assigner;
mod training;

pub use assigner::{Assigner, Assignment};
pub use dealt::{Dealer, Dealt};
pub use documents::{format_tables, json_schema, schema_documents};
pub use reader::Plan;
pub use splits::Groups;
