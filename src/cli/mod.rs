//! The command line: one file per verb. A verb returns the text for stdout; errors, progress and warnings go to stderr.
//!
//! [`run`] does everything but end the process and listen to signals, so that another front end (Python's entry point)
//! shares it.

mod flags;
mod settings;
mod style;
mod completions;
mod config;
mod bars;
mod diff;
mod encode;
mod formats;
mod check;
mod inspect;
mod man;
mod materialize;
mod plan;
mod modalities;
mod report;
mod schema;
mod splits;
mod synth;
mod update;
mod work;
mod call;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::Serialize;

use crate::config::Settings;
use crate::format::staging;
use crate::kit::error::{Error, Result};
use crate::kit::progress::Progress;
use crate::kit::{output, text};
use crate::parts::{Chosen, Engine};
pub use call::{Keyword, Request, call, in_keywords, keywords};
use style::{Look, Text, Tone};

const LONG_ABOUT: &str = "\
batchwright reads a Parquet dataset before training, counts its modalities (modes of the data's distribution: the \
kinds of rows it has, not image or text), and writes a plan: stratified batches, row weights, scores and statistics as \
plain Arrow files that any training loop reads.";

const AFTER_HELP: &str = "\
Settings: a flag overrides its environment variable (BATCHWRIGHT_BATCH_SIZE for --batch-size), which overrides the file \
batchwright.toml, which overrides the default. `batchwright config show` shows where each value comes from.

Exit codes: 0 done, 1 `check` found drift or a broken contract, 2 wrong usage or settings, 3 unreadable or invalid input, 4 \
`check` has too few rows to tell, 130 interrupted.";

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().bold())
    .usage(AnsiColor::Yellow.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Green.on_default());

/// Counts the modalities of a Parquet dataset and plans its training batches
#[derive(Parser)]
#[command(name = "batchwright", version, long_about = LONG_ABOUT, after_help = AFTER_HELP, styles = STYLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    #[command(flatten)]
    talk: Talk,
}

#[derive(Subcommand)]
enum Verb {
    Plan(Box<plan::Flags>),
    Modalities(Box<modalities::Flags>),
    Encode(Box<encode::Flags>),
    Inspect(inspect::Flags),
    Check(Box<check::Flags>),
    Update(Box<update::Flags>),
    Splits(Box<splits::Flags>),
    Work(work::Flags),
    Materialize(Box<materialize::Flags>),
    Diff(diff::Flags),
    Report(report::Flags),
    Synth(synth::Flags),
    Schema(schema::Flags),
    Config(config::Flags),
    Completions(completions::Flags),
    Man(man::Flags),
}

/// What a verb leaves: text for stdout, and the exit code where it is an answer.
struct Done {
    text: Text,
    code: u8,
}

impl From<Text> for Done {
    fn from(text: Text) -> Self {
        Done { text, code: 0 }
    }
}

/// How much is said while a verb runs.
#[derive(Args)]
#[command(next_help_heading = "Messages")]
struct Talk {
    /// How progress is shown on stderr
    #[arg(long, global = true, value_enum, default_value_t, hide_default_value = true)]
    progress: bars::Show,
    /// Print a line for every stage
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// Print errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    quiet: bool,
}

/// What every verb gets beside its own flags.
struct Context<'a> {
    progress: Progress,
    quiet: bool,
    /// The verb that runs, for its flags' names and where their values come from.
    command: &'a Command,
    matches: &'a ArgMatches,
    /// What the verb writes, once it begins to.
    out: &'a Writes,
    engines: &'a Engines<'a>,
}

/// Engines of another front end, by name; None for those that it does not have.
pub type Engines<'a> = dyn Fn(&str) -> Result<Option<Arc<dyn Engine>>> + 'a;

impl Context<'_> {
    /// From here on, `path` is being written; what was written before is whole.
    fn writes(&self, path: &Path) {
        self.out.paths().push(path.to_path_buf());
    }

    fn settings(&self, file: &ConfigFile, flags: &impl Serialize) -> Result<Settings> {
        let mut settings = settings::resolve(file.config.as_deref(), flags, self.command, self.matches)?;
        if let Some(chosen) = &mut settings.run.engine
            && let Some(engine) = (self.engines)(chosen.name())?
        {
            *chosen = Chosen::given(chosen.name(), engine);
        }
        Ok(settings)
    }
}

/// `--config`, for the verbs that have settings.
#[derive(Args)]
#[command(next_help_heading = "Run")]
struct ConfigFile {
    /// Read settings from this file [default: batchwright.toml, if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The whole command, as help, man pages, completions and the parser see it.
fn command() -> Command {
    settings::prepare(Cli::command(), &settings::defaults())
}

/// The `batchwright` program.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    ExitCode::from(run(args, on_signal, &|_| Ok(None)))
}

/// Runs one command line (the first argument is the program's name) and returns its exit code. `begin` gets the switch
/// that stops the run once it is set, after cleaning up. `engines` are asked first for the one that `--engine` names.
pub fn run(
    args: impl IntoIterator<Item = OsString>,
    begin: impl FnOnce(Running),
    engines: &Engines<'_>,
) -> u8 {
    let mut command = command();
    let args: Vec<OsString> = args.into_iter().collect();
    let parsed = command.try_get_matches_from_mut(&args).and_then(|matches| {
        let cli = Cli::from_arg_matches(&matches).map_err(|e| e.format(&mut command))?;
        Ok((cli, matches))
    });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => return usage(e, &args),
    };
    let out = Arc::<Writes>::default();
    let (error, note) = match execute(cli, &command, &matches, begin, &out, engines) {
        Ok(done) => match show(&done.text) {
            Ok(()) => return done.code,
            Err(e) => (e, Some("the run is complete; only what it says could not be shown".into())),
        },
        Err(e) => {
            let note = left_behind(&e, &out.paths());
            (e, note)
        }
    };
    failed(&error, note);
    error.exit_code()
}

/// Says why a run failed, and what it left.
fn failed(error: &Error, note: Option<String>) {
    let mut text = explain(error);
    let note = note.map(|note| Look::stderr().line(Tone::Plain, &format!("  note: {note}")));
    text.extend(note);
    text.to_stderr();
}

/// Where a run writes, in order: the last is under way, those before it are whole.
#[derive(Default)]
struct Writes(Mutex<Vec<PathBuf>>);

impl Writes {
    fn paths(&self) -> MutexGuard<'_, Vec<PathBuf>> {
        self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// What a run that was stopped left where it wrote, as it is on disk: said where a person would ask.
fn left_behind(error: &Error, paths: &[PathBuf]) -> Option<String> {
    let (_, whole) = paths.split_last()?;
    if !matches!(error, Error::Interrupted | Error::Io { .. }) {
        return None;
    }
    let shown = |paths: &[PathBuf]| -> String {
        paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(", ")
    };
    let left: Vec<PathBuf> = paths.iter().flat_map(|path| output::left_behind(path)).collect();
    Some(match (left.is_empty(), whole) {
        (true, []) => "nothing of this run was left behind".into(),
        (true, whole) => format!("{} is whole; nothing else of this run was left behind", shown(whole)),
        (false, _) => format!("{} could not be removed; the next run tries again", shown(&left)),
    })
}

fn execute(
    cli: Cli,
    command: &Command,
    matches: &ArgMatches,
    begin: impl FnOnce(Running),
    out: &Arc<Writes>,
    engines: &Engines<'_>,
) -> Result<Done> {
    let verbosity = if cli.talk.quiet { -1 } else { cli.talk.verbose as i8 };
    let progress = bars::observe(cli.talk.progress, verbosity);
    for name in settings::unknown_variables(command) {
        progress.warn(&format!("the environment variable {name} is not a setting of batchwright"));
    }
    begin(Running { switch: progress.cancel_switch(), out: out.clone() });
    let (mut command, mut matches) = (command, matches);
    while let Some((name, inner)) = matches.subcommand() {
        command = command.find_subcommand(name).expect("clap matched this verb");
        matches = inner;
    }
    let switched = progress.clone();
    // What fails in a run that is being stopped fails because of that.
    let stopped = |error| switched.check().and(Err(error));
    let context = Context { progress, quiet: cli.talk.quiet, command, matches, out, engines };
    let text = match cli.verb {
        Verb::Plan(flags) => plan::run(*flags, &context),
        Verb::Modalities(flags) => modalities::run(*flags, &context),
        Verb::Encode(flags) => encode::run(*flags, &context),
        Verb::Inspect(flags) => inspect::run(flags),
        Verb::Check(flags) => return check::run(*flags, &context).or_else(stopped),
        Verb::Update(flags) => update::run(*flags, &context),
        Verb::Splits(flags) => splits::run(*flags, &context),
        Verb::Work(flags) => work::run(flags, &context),
        Verb::Materialize(flags) => materialize::run(*flags, &context),
        Verb::Diff(flags) => diff::run(flags),
        Verb::Report(flags) => report::run(flags, context.quiet),
        Verb::Synth(flags) => synth::run(flags, &context),
        Verb::Schema(flags) => schema::run(flags),
        Verb::Config(flags) => config::run(flags, &context),
        Verb::Completions(flags) => completions::run(flags),
        Verb::Man(flags) => man::run(flags),
    };
    text.map(Done::from).or_else(stopped)
}

/// Shows the help or the version, or what is wrong with a command line. A reader that went away is no failure.
fn usage(error: clap::Error, args: &[OsString]) -> u8 {
    // The same mistake with clean arguments has the same message, and a clean one.
    let cleaned: Vec<String> = args.iter().map(|a| text::clean(&a.to_string_lossy()).into_owned()).collect();
    let clean = args.iter().zip(&cleaned).all(|(a, b)| a.as_os_str() == b.as_str());
    let error = if clean { error } else { command().try_get_matches_from(cleaned).err().unwrap_or(error) };
    match error.use_stderr() {
        true => Look::stderr().usage(&error).to_stderr(),
        false => drop(Look::stdout().usage(&error).to_stdout()),
    }
    error.exit_code() as u8
}

/// Text to stdout. A reader that went away (`| head`) has all it wanted.
fn show(text: &Text) -> Result<()> {
    match text.to_stdout() {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("write", "standard output")(e)),
        _ => Ok(()),
    }
}

/// One JSON object, as `--json` prints it.
fn json(value: &impl Serialize) -> Text {
    Text::document(&(text::json(&serde_json::to_string_pretty(value).expect("plain values")) + "\n"))
}

/// The same on one line, for a stream of them.
fn json_line(value: &serde_json::Value) -> Text {
    Text::document(&(text::json(&value.to_string()) + "\n"))
}

/// What happened, why, and what to do about it.
fn explain(error: &Error) -> Text {
    let line = |(what, text): (&str, String)| {
        let (indent, tone) = match what {
            "error" => ("", Tone::Red),
            "cause" => ("  ", Tone::Dim),
            _ => ("  ", Tone::Cyan),
        };
        let (what, text) = (format!("{what}:"), format!(" {text}"));
        Look::stderr().pieces(&[(Tone::Plain, indent), (tone, &what), (Tone::Plain, &text)])
    };
    error.lines().into_iter().map(line).collect()
}

/// Says that a run is about to stop that a host program waits for.
pub fn stopping() {
    Look::stderr().line(Tone::Plain, "stopping; press Ctrl-C again to stop at once").to_stderr();
}

/// What a signal stops: the switch of the run, and what it writes.
pub struct Running {
    pub switch: Arc<AtomicBool>,
    out: Arc<Writes>,
}

/// A run that has been asked to stop does so at its next look at the switch. Some computations take longer than that from
/// one look to the next: then the process ends, and what was being written is removed first.
const PATIENCE: Duration = Duration::from_millis(700);

/// Stops at SIGINT and SIGTERM. The handler is installed once a process, the run is the
/// current one.
fn on_signal(run: Running) {
    static RUN: Mutex<Option<Running>> = Mutex::new(None);
    let current = || RUN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let installed = current().replace(run).is_some();
    if !installed {
        // Another handler (a host program's) stays in charge: then the host stops the run.
        let _ = ctrlc::set_handler(move || {
            let Some(Running { switch, out }) = &*current() else { std::process::exit(130) };
            // Who sends a second one (some send two at once) gets what the first has begun.
            if switch.swap(true, Ordering::Relaxed) {
                return;
            }
            Look::stderr().line(Tone::Plain, "stopping").to_stderr();
            let out = out.clone();
            std::thread::spawn(move || {
                std::thread::sleep(PATIENCE);
                out.paths().iter().for_each(|path| staging::abandon(path));
                failed(&Error::Interrupted, left_behind(&Error::Interrupted, &out.paths()));
                std::process::exit(130);
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_is_explained() {
        fn walk(command: &Command) {
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            for arg in command.get_arguments() {
                let help = arg.get_help().map(|h| h.to_string()).unwrap_or_default();
                assert!(
                    !help.is_empty() && !help.ends_with('.'),
                    "{} {}: `{help}`",
                    command.get_name(),
                    arg.get_id()
                );
            }
            command.get_subcommands().for_each(walk);
        }
        let mut command = command();
        command.build();
        walk(&command);
        command.debug_assert();
    }

    #[test]
    fn every_flag_of_plan_sets_a_key() {
        let known = Settings::new(&[]).expect("defaults are valid").values;
        let command = Cli::command();
        let plan = command.find_subcommand("plan").expect("there is `plan`");
        let ids: Vec<&str> = plan.get_arguments().map(|a| a.get_id().as_str()).collect();
        for id in ids.iter().filter(|id| id.contains('.')) {
            assert!(known.contains_key(*id), "--{id} sets nothing");
        }
        // And every key has a flag, but for what --allocation FILE reads and for the hash of the encoder that must be used.
        let alone = ["batches.shares", "features.encoder"];
        for key in known.keys().filter(|k| !alone.contains(&k.as_str()) && !k.starts_with("check.")) {
            assert!(ids.contains(&key.as_str()), "no flag sets {key}");
        }
        let check = command.find_subcommand("check").expect("there is `check`");
        for key in known.keys().filter(|k| k.starts_with("check.")) {
            assert!(check.get_arguments().any(|a| a.get_id() == key.as_str()), "no flag sets {key}");
        }
    }

    #[test]
    fn what_is_whole_is_not_called_left_behind() {
        let paths = ["nowhere/copy", "nowhere/copy.plan"].map(PathBuf::from);
        let said = |paths| left_behind(&Error::Interrupted, paths).unwrap_or_default();
        assert_eq!(said(&paths[..0]), "");
        assert_eq!(said(&paths[..1]), "nothing of this run was left behind");
        assert_eq!(said(&paths), "nowhere/copy is whole; nothing else of this run was left behind");
    }

    #[test]
    fn errors_say_what_why_and_what_to_do() {
        let denied = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let text = explain(&Error::io("read", "x.parquet")(denied));
        assert_eq!(
            &*text,
            "error: cannot read x.parquet: permission denied\n  help: check the permissions of this path\n"
        );
        let text = explain(&Error::input("x.parquet", "is not a Parquet file", "").because("bad magic"));
        assert_eq!(&*text, "error: x.parquet: is not a Parquet file\n  cause: bad magic\n");
    }
}
