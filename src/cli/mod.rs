//! The command line.
pub fn main(_args: std::env::ArgsOs) -> std::process::ExitCode { std::process::ExitCode::SUCCESS }
