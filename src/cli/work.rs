//! `work`: does tasks of other runs.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Context;
use super::style::{self, Look, Text};
use crate::engine;
use crate::kit::error::Result;
use crate::parts::folder;

const EXAMPLES: &str = "\
Examples:
  batchwright work /shared/tasks                                     on each machine, then on one of them:
  batchwright plan /shared/data -o plan --engine folder:/shared/tasks
  sbatch --array=1-50 --wrap 'batchwright work /shared/tasks --threads 4'";

/// Do tasks of runs that use --engine folder:DIR
///
/// Takes tasks from the directory until none has come for a while. Workers may start before and after the run, on any machine
/// that sees the directory, and the data under the same paths; one that is stopped in the middle of a task is replaced after a
/// minute.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Flags {
    /// The directory of the run's --engine folder:DIR
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Threads [default: one per core]
    #[arg(long, default_value_t = 0, hide_default_value = true, value_name = "N")]
    threads: usize,
    /// Seconds without a task after which the worker leaves
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    idle: u64,
}

pub fn run(flags: Flags, context: &Context) -> Result<Text> {
    let idle = Duration::from_secs(flags.idle);
    let task = |job: &[u8], task: &[u8]| engine::run_task(job, task, flags.threads);
    let done = folder::work(&flags.dir, idle, &context.progress, task)?;
    match context.quiet {
        true => Ok(Text::default()),
        false => Ok(style::facts(&[("done".into(), style::plural(done, "task"))], Look::stdout())),
    }
}
