//! `completions`: what the shell needs to complete commands and flags.

use clap::Args;
use clap_complete::Shell;

use super::style::Text;
use crate::kit::error::Result;

/// Print shell completions
///
/// For example: batchwright completions bash > ~/.local/share/bash-completion/completions/batchwright
#[derive(Args)]
pub struct Flags {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

pub fn run(flags: Flags) -> Result<Text> {
    let mut out = Vec::new();
    clap_complete::generate(flags.shell, &mut super::command(), "batchwright", &mut out);
    Ok(Text::document(&String::from_utf8_lossy(&out)))
}
