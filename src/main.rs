//! The `batchwright` command: everything is in [`batchwright::cli`], so that other front ends share it.

fn main() -> std::process::ExitCode {
    batchwright::kit::guard::quiet();
    batchwright::cli::main(std::env::args_os())
}
