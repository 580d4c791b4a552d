//! `man`: manual pages from the same definitions as the help.

use std::path::PathBuf;

use clap::{Args, Command};

use super::style::{self, Look, Text, Tone};
use crate::kit::error::{Error, Result};
use crate::kit::output::{Output, Replace};

/// Print the manual page, or write one page for every command
#[derive(Args)]
pub struct Flags {
    /// Write batchwright.1, batchwright-plan.1, ... into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub fn run(flags: Flags) -> Result<Text> {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = flags.dir else { return Ok(Text::document(&render(command))) };
    std::fs::create_dir_all(&dir).map_err(Error::io("create", &dir))?;
    let mut written = 0;
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).to_string();
        let own = |text: &str| text.contains("\n.TH batchwright");
        let replace = Replace::Own { kind: "a manual page of batchwright", is: own, force: false };
        Output::file("--dir", &dir.join(name + ".1"), replace, &[])?.write(render(command).as_bytes())?;
        written += 1;
    }
    let said = format!("{} written to {}", style::plural(written, "page"), dir.display());
    Ok(Look::stdout().line(Tone::Plain, &said))
}

fn render(command: Command) -> String {
    let mut out = Vec::new();
    clap_mangen::Man::new(command).render(&mut out).expect("writing to memory");
    String::from_utf8_lossy(&out).into_owned()
}
